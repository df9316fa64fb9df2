"""`ds inspect SCRIPT|MODEL`: record a script's steps, or open a model."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.option("--steps", default=5, show_default=True, help="Steps that each collector records.")
@click.option("--warmup", default=2, show_default=True, help="Steps before the first of them.")
@click.option(
    "--collect",
    "collectors",
    multiple=True,
    help="Only this: time, lifetimes or graph; repeat it for several.",
)
@click.option("--device", help="Where the script makes tensors unless it says otherwise.")
@click.option("--stop", is_flag=True, help="End the script once its steps are recorded.")
@click.option("--all-ranks", is_flag=True, help="Under torchrun, record every rank, not the first.")
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    help="onnxruntime's profile of the model, to be joined to it.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="Where the recording goes; NAME.dsrec unless given.",
)
@click.argument("file", metavar="SCRIPT.py|MODEL", type=click.Path(path_type=Path))
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
def run(
    steps: int,
    warmup: int,
    collectors: tuple[str, ...],
    device: str | None,
    stop: bool,
    all_ranks: bool,
    profile: Path | None,
    output: Path | None,
    file: Path,
    arguments: tuple[str, ...],
) -> None:
    """Run SCRIPT.py with ARGS and record it, or open MODEL; write a recording.

    The script runs unchanged. The module that it calls and the optimizers that step are found; a
    step ends with an optimizer's step, or without one with the module's forward. Options stand
    before the file: what comes after it is the script's.
    """
    from ds_core.errors import UnknownNameError, nearest

    if not file.exists():
        hint = nearest(str(file), ("view", "diff", "show", "attach", "export", "run"))
        raise UnknownNameError(f"There is no file {str(file)!r}.", mend=hint)
    target = output or Path(file.with_suffix(".dsrec").name)
    if target.resolve() == file.resolve():
        raise click.UsageError(f"The recording would overwrite {file}: give another --output.")
    if file.suffix != ".py":
        if arguments:
            raise click.UsageError(f"{file} takes no arguments; options stand before it.")
        _open(file, profile, target)
        return
    # torch's profiler prints to the terminal otherwise; it is read as torch is imported.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from ds_inspector.capture.ranks import is_recorded, ranked
    from ds_inspector.capture.schedule import COLLECTORS, checked
    from ds_inspector.capture.script import Script

    names = checked(collectors or COLLECTORS)
    if steps < 1 or warmup < 0:
        raise click.UsageError("--steps is at least 1, and --warmup not negative.")
    script = Script(
        file,
        list(arguments),
        output=ranked(target) if all_ranks else target,
        steps=steps,
        warmup=warmup,
        collectors=names,
        stop=stop,
        command=shlex.join(["ds", "inspect", str(file), *arguments]),
        record=is_recorded(all_ranks),
    )
    status = script.run(device)
    if script.recording is not None:
        from ds_inspector.command.told import tell

        tell(script.recording, script.output)
    for problem in script.problems:
        click.echo(problem, err=True)
    if status:
        raise SystemExit(status)


def _open(file: Path, profile: Path | None, target: Path) -> None:
    from ds_inspector.command.told import tell
    from ds_inspector.importing.opening import open_any

    recording = open_any(file, profile=profile)
    recording.save(target)
    tell(recording, target)
