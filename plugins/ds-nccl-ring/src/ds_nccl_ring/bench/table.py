"""Figures as a table, in nccl-tests' columns, and as a picture."""

from __future__ import annotations

from pathlib import Path

from ds_nccl_ring import curves
from ds_nccl_ring.bench.figures import Figures, Row

HEAD = (
    "size",
    "elements",
    "type",
    "op",
    "algorithm",
    "time ms",
    "spread",
    "algbw MB/s",
    "busbw MB/s",
    "error",
    "bound ms",
    "x bound",
    "x flat",
)


def title(figures: Figures) -> str:
    """What was measured, in a sentence."""
    what = "emulated cluster" if figures.emulated else "cluster"
    hosts = len(figures.hosts)
    each = sorted(set(figures.hosts))
    ranks = "-".join(map(str, (each[0], each[-1])[: len(each)]))
    said = (
        f"{what} of {hosts} host{'s' if hosts > 1 else ''} with {ranks} "
        f"rank{'s' if ranks != '1' else ''} each"
    )
    if figures.rate is not None:
        said += f", uplinks of {figures.rate * 8 / 1e6:.4g} Mbit/s ({figures.rate_source})"
    return f"all-reduce, {said}"


def lines(figures: Figures) -> list[tuple[str, ...]]:
    """Cells below `HEAD`."""
    return [_line(figures, row) for row in figures.rows]


def _line(figures: Figures, row: Row) -> tuple[str, ...]:
    from ds_core.cli.output import size

    bound, flat = figures.bound(row), figures.find("flat", row.nbytes)
    return (
        size(row.nbytes),
        str(row.elements),
        row.dtype,
        row.operation,
        row.algorithm,
        f"{row.seconds * 1e3:.3f}",
        f"{row.low * 1e3:.3f}..{row.high * 1e3:.3f}",
        f"{row.bandwidth / 1e6:.4g}",
        f"{figures.bus_bandwidth(row) / 1e6:.4g}",
        f"{row.error:.1e}",
        "" if bound is None else f"{bound * 1e3:.3f}",
        "" if bound is None else f"{row.seconds / bound:.2f}",
        "" if flat is None else f"{flat.seconds / row.seconds:.2f}",
    )


def draw(figures: Figures, path: Path) -> None:
    """Draw seconds over bytes, a curve for each algorithm; raises as `curves.draw` does."""
    panel: dict[str, list[tuple[float, float]]] = {}
    for row in figures.rows:
        panel.setdefault(row.algorithm, []).append((row.nbytes, row.seconds))
        bound = figures.bound(row)
        if bound is not None and row.wire == "float32":
            limit = panel.setdefault("lower bound", [])
            if (row.nbytes, bound) not in limit:
                limit.append((row.nbytes, bound))
    curves.draw(path, title(figures), {"bytes": panel})
