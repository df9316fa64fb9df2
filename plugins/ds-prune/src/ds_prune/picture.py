"""What was kept of each layer over a training, as a picture."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from ds_core.errors import ConfigError, DsError

History = Sequence[tuple[int, Mapping[str, int]]]
"""Steps, and after each of them how many channels of each group were to stay."""

_WIDTH, _ROW, _TOP = 900, 18, 64
_SUFFIXES = (".html", ".png", ".svg")


def draw(history: History, totals: Mapping[str, int], path: Path) -> None:
    """Draw a row for each layer, steps from left to right, darker where more channels are kept.

    Args:
        history: As `Session.report` has it.
        totals: Channels of each layer in the beginning, in the order of rows.
        path: A file that ends in `.html`, `.svg` or `.png`.

    Raises:
        ConfigError: The suffix is another, or the file cannot be written.
        DsError: A `.png` is asked for where matplotlib is not installed.
    """
    check(path)
    try:
        if path.suffix == ".png":
            _draw_png(history, totals, path)
            return
        drawn = _svg(history, totals)
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Channels kept</title>'
            "<style>:root{color-scheme:light dark}body{margin:16px}svg{max-width:100%;height:auto}"
            f"svg text{{fill:currentColor}}</style>{drawn}</html>\n"
        )
        path.write_text(drawn if path.suffix == ".svg" else page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None


def check(path: Path) -> None:
    """Whether a picture can be drawn into such a file; raises as `draw` does."""
    if path.suffix not in _SUFFIXES:
        raise ConfigError(
            f"No picture can be drawn as {path.name!r}.",
            mend="End its name in .html, .png or .svg.",
        )
    if path.suffix == ".png":
        try:
            import matplotlib  # noqa: F401
        except ImportError:
            raise DsError(
                "A .png needs matplotlib, which is not installed.",
                mend='Run: pip install "ds-prune[picture]", or draw a .html or .svg.',
            ) from None


def _spans(history: History) -> list[tuple[int, int, Mapping[str, int]]]:
    """From which step to which something held."""
    steps = [0, *(step for step, _ in history)]
    return [
        (first, end, counts)
        for first, end, (_, counts) in zip(steps, steps[1:], history, strict=False)
        if end > first
    ]


def _svg(history: History, totals: Mapping[str, int]) -> str:
    last = max((step for step, _ in history), default=1)
    left = 12 + 7 * max((len(name) for name in totals), default=0)
    height = _TOP + len(totals) * _ROW + 40
    width = left + _WIDTH + 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="12">',
        '<text x="12" y="22" font-size="16" font-weight="600">Channels kept, by layer</text>',
        f'<text x="12" y="44">from step 0 to {last:,}; full colour is all of them</text>',
    ]
    for row, (name, total) in enumerate(totals.items()):
        y = _TOP + row * _ROW
        parts.append(
            f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>'
        )
        kept = total
        for first, end, counts in _spans(history):
            kept = counts.get(name, total)
            told = f"{name}: {kept} of {total}, steps {first:,} to {end:,}"
            parts.append(
                f'<rect x="{left + _WIDTH * first / last:.1f}" y="{y}" height="{_ROW - 2}" '
                f'width="{_WIDTH * (end - first) / last:.1f}" fill="#2a6f97" '
                f'fill-opacity="{kept / total:.3f}"><title>{html.escape(told)}</title></rect>'
            )
        parts.append(f'<text x="{left + _WIDTH + 6}" y="{y + 13}">{kept}/{total}</text>')
    return "\n".join([*parts, "</svg>"])


def _draw_png(history: History, totals: Mapping[str, int], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, min(1.6 + 0.22 * len(totals), 300)), layout="constrained")
    axes = figure.subplots()
    for row, (name, total) in enumerate(totals.items()):
        for first, end, counts in _spans(history):
            share = counts.get(name, total) / total
            axes.barh(
                row, end - first, left=first, height=0.86, color="#2a6f97", alpha=max(share, 0.02)
            )
    axes.set_yticks(range(len(totals)), list(totals), fontsize=7)
    axes.set_ylim(len(totals) - 0.5, -0.5)
    axes.set_xlabel("step")
    axes.set_title("Channels kept, by layer; full colour is all of them", fontsize=10, loc="left")
    figure.savefig(path, dpi=120)
