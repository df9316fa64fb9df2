"""A trace as a picture: a row for each layer, steps from left to right, colours for dtypes."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from ds_core.errors import ConfigError, DsError
from ds_dmp.history import History

COLOURS = {"bf16": "#2a9d8f", "fp16": "#3d7dca", "fp32": "#e76f51"}
_WIDTH, _ROW, _TOP, _STRIP = 900, 18, 64, 60


def draw(history: History, path: Path) -> None:
    """Draw a history into a file, whose suffix says how: `.html`, `.png` or `.svg`.

    Raises:
        ConfigError: The suffix is another, or the file cannot be written.
        DsError: A `.png` is asked for where matplotlib is not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in (".html", ".png", ".svg"):
        raise ConfigError(
            f"No picture can be drawn as {path.name!r}.",
            mend="End its name in .html, .png or .svg.",
        )
    try:
        if suffix == ".png":
            _draw_png(history, path)
        else:
            drawn = _svg(history)
            path.write_text(drawn if suffix == ".svg" else _page(history, drawn), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None


def _svg(history: History) -> str:
    units, steps = history.units, max(history.steps, 1)
    left = 12 + 7 * max((len(_short(unit)) for unit in units), default=0)
    scales = any(look["scale"] is not None for look in history.looks)
    height = _TOP + len(units) * _ROW + 40 + (_STRIP if scales else 0)
    width = left + _WIDTH + 24

    def x(step: float) -> float:
        return left + _WIDTH * step / steps

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="12">',
        f'<text x="12" y="22" font-size="16" font-weight="600">{html.escape(_title(history))}'
        "</text>",
    ]
    at = 12.0
    for dtype in history.header["ladder"]:
        parts.append(
            f'<rect x="{at}" y="34" width="12" height="12" fill="{COLOURS[dtype]}"/>'
            f'<text x="{at + 17}" y="44">{dtype}</text>'
        )
        at += 70
    for index, unit in enumerate(units):
        y = _TOP + index * _ROW
        parts.append(
            f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">'
            f"{html.escape(_short(unit))}</text>"
        )
        for span in history.spans(unit):
            told = f"{unit}: {span.dtype}, steps {span.first:,} to {span.end:,}"
            told += f"; {span.why}" if span.why else ""
            parts.append(
                f'<rect x="{x(span.first):.1f}" y="{y}" height="{_ROW - 2}" '
                f'width="{max(x(span.end) - x(span.first), 0.5):.1f}" '
                f'fill="{COLOURS[span.dtype]}"><title>{html.escape(told)}</title></rect>'
            )
    bottom = _TOP + len(units) * _ROW
    for step in _ticks(steps):
        parts.append(
            f'<line x1="{x(step):.1f}" x2="{x(step):.1f}" y1="{_TOP - 4}" y2="{bottom + 4}" '
            'stroke="currentColor" stroke-opacity="0.25"/>'
            f'<text x="{x(step):.1f}" y="{bottom + 18}" text-anchor="middle">{step:,}</text>'
        )
    if scales:
        parts.append(_scale_line(history, left, bottom + 30, x))
    return "\n".join([*parts, "</svg>"])


def _scale_line(history: History, left: int, top: int, x: Any) -> str:
    import math

    points = [(look["step"], math.log2(look["scale"])) for look in history.looks if look["scale"]]
    low, high = min(value for _, value in points), max(value for _, value in points)
    room = _STRIP - 20
    path = " ".join(
        f"{x(step):.1f},{top + room - room * (value - low) / max(high - low, 1):.1f}"
        for step, value in points
    )
    return (
        f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<text x="{left}" y="{top + room + 18}">loss scale, from 2^{low:g} to 2^{high:g}</text>'
    )


def _page(history: History, drawn: str) -> str:
    rows = "".join(
        f"<tr><td>{flip['step']:,}</td><td>{html.escape(flip['unit'] or '(the model)')}</td>"
        f"<td>{flip['before']} &rarr; {flip['after']}</td><td>{html.escape(flip['why'])}</td></tr>"
        for flip in history.flips
    )
    table = (
        f"<table><tr><th>step</th><th>layer</th><th>change</th><th>why</th></tr>{rows}</table>"
        if rows
        else "<p>No layer changed its dtype.</p>"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(_title(history))}</title>"
        "<style>:root{color-scheme:light dark}body{font:14px system-ui,sans-serif;margin:16px}"
        "svg{max-width:100%;height:auto}svg text{fill:currentColor}"
        "table{border-collapse:collapse;margin-top:16px}"
        "td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top}</style>"
        f"{drawn}{table}</html>\n"
    )


def _draw_png(history: History, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError:
        raise DsError(
            "A .png needs matplotlib, which is not installed.",
            mend='Run: pip install "ds-dmp[picture]", or draw a .html or .svg.',
        ) from None
    units = history.units
    figure = Figure(figsize=(11, min(1.6 + 0.2 * len(units), 300)), layout="constrained")
    axes = figure.subplots()
    for index, unit in enumerate(units):
        for span in history.spans(unit):
            steps, colour = span.end - span.first, COLOURS[span.dtype]
            axes.barh(index, steps, left=span.first, height=0.86, color=colour)
    axes.set_yticks(range(len(units)), [_short(unit) for unit in units], fontsize=7)
    axes.set_ylim(len(units) - 0.5, -0.5)
    axes.set_xlim(0, max(history.steps, 1))
    axes.set_xlabel("step")
    axes.set_title(_title(history), fontsize=10, loc="left")
    ladder = history.header["ladder"]
    figure.legend(
        handles=[Patch(color=COLOURS[dtype], label=dtype) for dtype in ladder],
        loc="outside upper right",
        ncols=len(ladder),
    )
    figure.savefig(path, dpi=120)


def _title(history: History) -> str:
    summary = history.summary()
    changes = "1 change" if summary["flips"] == 1 else f"{summary['flips']} changes"
    return (
        f"{summary['model']}: {summary['share']:.1%} of multiply-adds in 16 bit, "
        f"{changes} in {summary['steps']:,} steps"
    )


def _short(unit: str) -> str:
    return "(the model)" if not unit else unit if len(unit) <= 44 else f"…{unit[-43:]}"


def _ticks(steps: int) -> list[int]:
    """About six round numbers up to `steps`."""
    rough = max(steps / 6, 1)
    power = 10 ** (len(str(int(rough))) - 1)
    size = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return list(range(0, steps + 1, size))
