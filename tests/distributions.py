"""Installed distributions made by hand: a folder that stands on the path as site-packages does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(
    site: Path,
    name: str,
    entry_points: Mapping[str, Mapping[str, str]],
    *,
    modules: Mapping[str, str] | None = None,
    version: str = "1.2.3",
    requires: str = "ds-core>=0.1",
    summary: str = "A plugin",
    headers: str = "",
) -> None:
    """Lay down what pip would: modules and a `.dist-info` folder with its metadata.

    Args:
        site: The folder; it must then stand on `PYTHONPATH` or `sys.path`.
        name: The distribution's.
        entry_points: `module:attribute` by name, by group.
        modules: Source by module name.
        version: The distribution's.
        requires: Its requirement on ds-core; empty for none.
        summary: One line.
        headers: Further lines of METADATA.
    """
    for module, source in (modules or {}).items():
        path = site / Path(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: {summary}\n"
        f"{requirement}{headers}\n# {name}\n\nWhat a README says, at some length.\n"
    )
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items()) + "\n"
            for group, points in entry_points.items()
        )
    )
    (info / "RECORD").write_text("")
