"""Run a script with a simulated device: `python -m ds_core.testing.simulated --name npu x.py`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import click

from ds_core.errors import DsError
from ds_core.testing.simulated import Faults, simulated_device

_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def _bytes(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """A count of bytes, as 1000000 or 512MiB."""
    if text is None:
        return None
    unit = text.lstrip("0123456789.")
    try:
        return int(float(text.removesuffix(unit)) * _UNITS[unit.strip()])
    except (KeyError, ValueError):
        raise click.BadParameter(f"{text!r} is no size; write it as 1000000 or 512MiB.") from None


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", default="simulated", show_default=True, help="What torch calls it.")
@click.option("--collective", help="What torch.distributed calls its library.")
@click.option("--memory", callback=_bytes, help="Bytes in all, as 512MiB.")
@click.option("--out-of-memory-at", type=int, help="The allocation that fails, from 1.")
@click.option("--saturating-fp16", is_flag=True, help="float16 overflows to 65504, not to inf.")
@click.option("--missing-dtype", multiple=True, help="A dtype that it lacks, as bfloat16.")
@click.option("--missing-reduce-op", multiple=True, help="A reduction that it lacks, as avg.")
@click.option("-m", "--module", is_flag=True, help="SCRIPT is the name of a module.")
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(
    name: str,
    collective: str | None,
    memory: int | None,
    out_of_memory_at: int | None,
    saturating_fp16: bool,
    missing_dtype: tuple[str, ...],
    missing_reduce_op: tuple[str, ...],
    module: bool,
    script: str,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT with ARGUMENTS where torch has a simulated device."""
    faults = Faults(
        out_of_memory_at, saturating_fp16, frozenset(missing_dtype), frozenset(missing_reduce_op)
    )
    try:
        simulated_device(name, collective=collective, memory=memory, faults=faults)
    except DsError as error:
        raise click.ClickException(str(error)) from None
    sys.argv = [script, *arguments]
    if module:
        runpy.run_module(script, run_name="__main__", alter_sys=True)
        return
    if not Path(script).is_file():
        raise click.ClickException(f"There is no script {script!r}.")
    sys.path[0] = str(Path(script).resolve().parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
