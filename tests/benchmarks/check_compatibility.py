"""How long `ds check-compatibility` takes on 1,000 files, and how right it is on labelled sources.

    python tests/benchmarks/check_compatibility.py [--files 1000] [--rounds 3]

The tree is made of the labelled sources in tests/compatibility/labelled, three to a file. Precision
and recall are of findings against labels by hand; sources and labels are by the authors of the
scan, so that they show what it is meant to find, not how it does on code that nobody chose. Beside
them stands what torch's own hipify says of the same files.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.compatibility.labelled_sources import FOLDER, Labelled, labelled  # noqa: E402
from tests.compatibility.targets import add  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        timing(Path(folder), options.files, options.rounds)
    sources = list(labelled())
    scores(sources)
    with tempfile.TemporaryDirectory() as folder:
        hipify(Path(folder), [one for one in sources if one.path.suffix != ".py"])


def timing(folder: Path, files: int, rounds: int) -> None:
    site, tree = folder / "site", folder / "tree"
    site.mkdir()
    body = "from tests.compatibility import labelled_sources; return labelled_sources.rocm()"
    add(site, "translated", body, device="cuda")
    lines = plant(tree, files)
    command = [sys.executable, "-m", "ds_core", "check-compatibility", str(tree), "--json"]
    environ = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    seconds, report = [], {}
    for _ in range(rounds):
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--target", "translated"],
            env=environ,
            stdout=subprocess.PIPE,
            check=False,
        )
        seconds.append(time.perf_counter() - start)
        report = json.loads(done.stdout)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (used.ru_utime + used.ru_stime) / rounds
    click.echo(f"{files:,} files, {lines:,} lines, {len(report['findings']):,} findings")
    click.echo(
        f"median of {rounds}: {statistics.median(seconds):.2f} s "
        f"({min(seconds):.2f} to {max(seconds):.2f}), {cpu:.2f} s of CPU\n"
    )


def plant(tree: Path, files: int) -> int:
    """Write a tree of `files` sources, six in ten of them Python; returns their lines."""
    by_suffix: dict[str, list[str]] = {".py": [], ".cu": [], ".cpp": []}
    for path in sorted(FOLDER.iterdir()):
        text = path.read_text() if path.suffix in by_suffix else ""
        if text and "from __future__" not in text:  # which may only stand at the top
            by_suffix[path.suffix].append(text)
    sets = {s: itertools.cycle(itertools.permutations(t, 2)) for s, t in by_suffix.items()}
    suffixes = itertools.cycle([".py"] * 6 + [".cu"] * 3 + [".cpp"])
    lines = 0
    for number in range(files):
        suffix = next(suffixes)
        text = "\n".join([*next(sets[suffix]), next(sets[suffix])[0]])
        lines += text.count("\n")
        path = tree / f"package{number // 50}" / f"source{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return lines


def scores(sources: list[Labelled]) -> None:
    expected, found, right = Counter(), Counter(), Counter()
    for one in sources:
        expected.update(rule for _, rule, _ in one.expected)
        found.update(rule for _, rule, _ in one.found)
        right.update(rule for _, rule, _ in one.found & one.expected)
    click.echo(f"{len(sources)} labelled sources")
    click.echo(f"{'rule':18} {'labels':>6} {'found':>6} {'precision':>9} {'recall':>7}")
    for rule in [*sorted(expected | found), ""]:
        counts = [sum(c.values()) if not rule else c[rule] for c in (expected, found, right)]
        click.echo(
            f"{rule or 'all':18} {counts[0]:6} {counts[1]:6} "
            f"{share(counts[2], counts[1]):>9} {share(counts[2], counts[0]):>7}"
        )


def share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def hipify(folder: Path, sources: list[Labelled]) -> None:
    """What torch's hipify says of each source, with how many labels it has."""
    from torch.utils.hipify.hipify_python import hipify as run

    click.echo("\nsource, what torch's hipify says, unsupported calls that it counts, labels")
    for one in sources:
        project = folder / one.path.stem
        project.mkdir()
        (project / one.path.name).write_text(one.path.read_text())
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            run(
                project_directory=str(project),
                output_directory=str(project),
                includes=[f"{project}/*"],
                extra_files=[str(project / one.path.name)],
                show_detailed=True,
                is_pytorch_extension=True,
                hip_clang_launch=True,
            )
        status = re.search(r"-> \S+ \[(.*?)\]", said.getvalue())
        unsupported = re.search(r"function calls: (\d+)", said.getvalue())
        verdict = status[1] if status else "nothing"
        counted = unsupported[1] if unsupported else "-"
        click.echo(f"{one.path.name:24} {verdict:20} {counted:>3} {len(one.expected):5}")


if __name__ == "__main__":
    main()
