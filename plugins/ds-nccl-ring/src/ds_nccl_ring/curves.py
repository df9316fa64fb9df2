"""Curves as a picture, for benchmarks and simulations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ds_core.errors import ConfigError, DsError

Curve = Sequence[tuple[float, float]]

_SUFFIXES = (".png", ".svg")


def check(path: Path) -> None:
    """Whether a picture can be drawn into such a file.

    Raises:
        ConfigError: Its name ends in neither `.png` nor `.svg`.
        DsError: matplotlib is not installed.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigError(
            f"No picture can be drawn as {path.name!r}.", mend="End its name in .png or .svg."
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise DsError(
            "A picture needs matplotlib, which is not installed.",
            mend='Run: pip install "ds-nccl-ring[picture]".',
        ) from None


def draw(path: Path, title: str, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draw panels side by side; a panel's name is its horizontal axis, seconds go upwards.

    Args:
        path: As `check` takes it.
        title: Says where the figures come from.
        panels: Curves by name. A name that ends in `bound` is drawn as a limit.

    Raises:
        ConfigError: The file cannot be written, or as `check` does.
    """
    check(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(panels) + 1.6, 4.8), layout="constrained")
    found = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (axis, curves) in zip(found, panels.items(), strict=True):
        for name, curve in curves.items():
            limit = name.endswith("bound")
            axes.plot(
                [x for x, _ in curve],
                [y for _, y in curve],
                label=name,
                marker="" if limit else "o",
                markersize=4,
                linestyle="--" if limit else "-",
                color="black" if limit else None,
            )
        axes.set_xscale("log", base=2)
        axes.set(yscale="log", xlabel=axis, ylabel="seconds")
        axes.xaxis.set_major_formatter(_bytes if axis == "bytes" else "{x:g}")
        axes.grid(alpha=0.3)
    found[-1].legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None


def _bytes(x: float, _: int) -> str:
    from ds_core.cli.output import size

    return size(round(x))
