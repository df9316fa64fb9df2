"""One report from a machine that has the hardware, for those who have not.

    python -m ds_core.testing.hardware_report NAME

It holds what the probe found, the conformance suite's results, the dtypes as measured, and the
durations of training steps in each precision. On a simulated device nothing is timed: only
hardware gives figures.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds_core.conformance import run_suite
from ds_core.errors import DsError
from ds_core.registry import Record, installed

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ds_core.components import Backend

_ROUNDS = 5


@click.command()
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the report goes; NAME-report.json unless given.",
)
@click.option("--only", multiple=True, metavar="ID", help="Run the checks whose ids begin so.")
@click.option("--seconds", default=2.0, show_default=True, help="Each training is timed so long.")
def main(name: str, out: Path | None, only: tuple[str, ...], seconds: float) -> None:
    """Check and measure the backend NAME here, and write a report."""
    try:
        record = installed().find("backend", name)
        report = collect(record, only, seconds)
    except DsError as error:
        raise click.ClickException(str(error)) from None
    path = out or Path(f"{record.name}-report.json")
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    checks = report["conformance"]["checks"]
    failed = [one["id"] for one in checks if one["outcome"] == "failed"]
    click.echo(f"{len(checks)} checks, {len(failed)} failed{': ' if failed else ''}", nl=False)
    click.echo(", ".join(failed))
    for line in report["trainings"]:
        click.echo(
            f"{line['model']:12} {line['precision']:5} {line['milliseconds']:8.3f} ms a step"
        )
    click.echo(f"Report: {path}")


def collect(record: Record, only: tuple[str, ...] = (), seconds: float = 2.0) -> dict[str, Any]:
    """Everything that the report holds, JSON-compatible.

    Raises:
        DsError: The backend cannot be loaded or activated, or pytest is missing.
    """
    made = installed().load("backend", record.full_name)[1]
    conformance = run_suite(record, only).model_dump(mode="json")
    backend: Backend = made()
    backend.activate()
    info = backend.info()
    simulated = _simulated(backend)
    if simulated:
        info = info.model_copy(
            update={
                "dtypes": {
                    name: support.model_copy(update={"speedup": None, "fast": False})
                    for name, support in info.dtypes.items()
                }
            }
        )
    dtypes = backend.info().dtypes
    # Where a dtype is emulated, a step may take minutes.
    precisions = ["fp32", *(name for name in ("bf16", "fp16") if dtypes[name].fast)]
    return {
        "distribution": f"{record.distribution} {record.version}",
        "simulated": simulated,
        "probe": made.probe().model_dump(mode="json"),
        "info": info.model_dump(mode="json"),
        "conformance": conformance,
        "trainings": [] if simulated else _trainings(record, precisions, seconds),
        "memory": backend.memory().model_dump(mode="json"),
    }


def _simulated(backend: Backend) -> bool:
    import torch

    from ds_core.testing.simulated.module import DeviceModule

    return isinstance(getattr(torch, backend.device_type, None), DeviceModule)


def _trainings(record: Record, precisions: list[str], seconds: float) -> list[dict[str, Any]]:
    return [
        {
            "model": kind.__name__,
            "precision": precision,
            **_training(kind, record, precision, seconds),
        }
        for kind in _models()
        for precision in precisions
    ]


def _training(
    kind: type[Module], record: Record, precision: str, seconds: float
) -> dict[str, float | int | None]:
    """Median duration of a step over `_ROUNDS` rounds, and the peak of memory in bytes."""
    import torch

    import ds_core as ds

    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs: Tensor = model.example()  # type: ignore[operator]
    with ds.attach(model, optimizer, backend=record.full_name, precision=precision) as session:
        inputs = session.to_device(inputs)

        def steps(count: int) -> float:
            session.backend.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                optimizer.zero_grad()
                model(inputs).float().square().mean().backward()
                optimizer.step()
            session.backend.synchronize()
            return time.perf_counter() - start

        steps(3)  # kernels are compiled and chosen
        session.backend.reset_peak_memory()
        count = max(1, int(seconds / _ROUNDS / max(steps(1), 1e-6)))
        durations = [steps(count) / count for _ in range(_ROUNDS)]
        return {
            "milliseconds": round(1e3 * statistics.median(durations), 4),
            "slowest": round(1e3 * max(durations), 4),
            "steps": count * _ROUNDS,
            "peak_bytes": session.backend.memory().peak,
        }


def _models() -> tuple[type[Module], ...]:
    import torch
    from torch import nn

    class Convolution(nn.Sequential):
        """A few blocks of a residual network's middle."""

        def __init__(self) -> None:
            super().__init__()
            for _ in range(4):
                self.extend((nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()))

        def example(self) -> torch.Tensor:
            return torch.randn(16, 64, 28, 28)

    class Transformer(nn.TransformerEncoder):
        """Two layers of 512 channels."""

        def __init__(self) -> None:
            layer = nn.TransformerEncoderLayer(512, 8, 2048, dropout=0.0, batch_first=True)
            super().__init__(layer, 2, enable_nested_tensor=False)

        def example(self) -> torch.Tensor:
            return torch.randn(8, 128, 512)

    return Convolution, Transformer


if __name__ == "__main__":
    main()
