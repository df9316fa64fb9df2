"""Which architectures can be pruned: all of transformers', small, and hand-written ones.

    python plugins/ds-prune/benchmarks/coverage.py [--only vision,text,audio,idioms]
        [--families bert,vit] [--timeout 180] [--processes 2] [--no-peer] [--json]

Each model has random weights and loses 30% of every layer's channels and heads, without
fine-tuning. What ds-prune makes is compared with the whole model in which the weights that read
removed channels are zero, on inputs of the same and of other sizes; its plan is saved and loaded
into another instance; and the small model takes a training step. None of this relies on ds-prune's
own proof. Results: `pruned`; `nothing`, as no channel could go; `refused`; `WRONG`; `CRASH`;
`slow`.

Torch-Pruning gets the last linear layer as the one to leave, and the numbers of heads. It gives no
proof, so that `runs` says no more than that the forward works and its outputs have the same shapes.

Every model has a process of its own. Families that cannot be built small, or need libraries that
are not installed, are listed and do not count; nor do hand-written models that are meant to be
refused, or to have nothing to prune.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import click
from measuring import PEER, met, table, text

GOAL = 0.95
KINDS = ("vision", "text", "audio", "idioms")
TESTS = Path(__file__).parent.parent / "tests"
MEMORY = 10 << 30
"""Bytes that a process may have."""
PRELOADED = [
    "torch._dynamo",
    "torch._export.non_strict_utils",
    "torch.export._trace",
    "hf_families",
    "coverage_ours",
    "coverage_peer",
    "ds_prune.one_shot",
    "ds_prune.analysis.analysis",
    "ds_prune.plan",
    "ds_prune.surgery.shrink",
]
"""What every process needs."""
RESULTS = ("pruned", "nothing", "refused", "WRONG", "CRASH", "slow")


def names(kinds: list[str], chosen: list[str] | None) -> list[tuple[str, str]]:
    """Kind and name of each model."""
    found: list[tuple[str, str]] = []
    if set(kinds) - {"idioms"}:
        from hf_families import families

        found += [(one.kind, one.name) for one in families() if one.kind in kinds]
    if "idioms" in kinds:
        sys.path.insert(0, str(TESTS))
        from idioms import IDIOMS

        found += [("idioms", one.name) for one in IDIOMS]
    return [one for one in found if chosen is None or one[1] in chosen]


def subject(kind: str, name: str) -> Any:
    """The model and its inputs."""
    from coverage_ours import Subject

    if kind == "idioms":
        from idioms import IDIOMS

        idiom = next(one for one in IDIOMS if one.name == name)
        return Subject(idiom.seeded, idiom.inputs(), idiom.keywords())
    from hf_families import build, families

    built = build(next(one for one in families() if one.name == name))
    others = {what: ((), inputs) for what, inputs in built.others.items()}
    return Subject(built.make, (), built.inputs, others)


def meant(kind: str, name: str) -> bool:
    """Whether a hand-written model is there to be refused, or to have nothing to prune."""
    if kind != "idioms":
        return False
    from idioms import IDIOMS

    idiom = next(one for one in IDIOMS if one.name == name)
    return bool(idiom.refused) or not set(idiom.groups) - idiom.normalised


def examine(kind: str, name: str, peer: bool, answer: Connection) -> None:
    """Both tools on one model, in a process of its own; answers as it goes."""
    import resource
    import warnings

    import torch
    from coverage_ours import ours
    from coverage_peer import peers

    from ds_core.causes import cause

    warnings.simplefilter("ignore")
    with Path(os.devnull).open("w") as nowhere:  # libraries print what they think of a model
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    try:
        made = subject(kind, name)
    except Exception as error:
        answer.send({"built": False, "why": str(cause(error))})
        return
    answer.send({"built": True, "meant": meant(kind, name)})
    for who, call in (("ours", ours), *([("peer", peers)] if peer else [])):
        start = time.perf_counter()
        try:
            found = call(made)
        except Exception as error:
            found = {"result": "CRASH", "why": f"{type(error).__name__}: {cause(error)}"}
        answer.send({who: found | {"seconds": time.perf_counter() - start}})


def sweep(models: list[tuple[str, str]], options: argparse.Namespace) -> list[dict[str, Any]]:
    """All of them, a few at a time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    waiting, rows = list(reversed(models)), []
    running: dict[Connection, tuple[Any, dict[str, Any], float]] = {}
    while waiting or running:
        while waiting and len(running) < options.processes:
            kind, name = waiting.pop()
            own, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=examine, args=(kind, name, options.peer, theirs), daemon=True
            )
            process.start()
            theirs.close()
            running[own] = (process, {"kind": kind, "name": name}, time.monotonic())
        for connection in wait(list(running), timeout=1.0):
            process, row, start = running[connection]
            try:
                row.update(connection.recv())
                running[connection] = (process, row, time.monotonic())  # each part has its time
            except EOFError:
                process.join()
                _close(running, connection, rows, options, "CRASH", "its process ended")
        for connection, (process, _, start) in list(running.items()):
            if time.monotonic() - start > options.timeout:
                process.kill()
                process.join()
                said = f"it took over {options.timeout:g} s"
                _close(running, connection, rows, options, "slow", said)
    order = {one: position for position, one in enumerate(models)}
    return sorted(rows, key=lambda row: order[row["kind"], row["name"]])


def _close(
    running: dict[Connection, Any],
    connection: Connection,
    rows: list[dict[str, Any]],
    options: argparse.Namespace,
    result: str,
    why: str,
) -> None:
    _, row, _ = running.pop(connection)
    connection.close()
    row.setdefault("built", False)
    if row["built"]:
        row.setdefault("ours", {"result": result, "why": why})
        if options.peer:
            row.setdefault("peer", {"result": "fails", "why": why})
    else:
        row.setdefault("why", why)
    rows.append(row)
    click.echo(json.dumps(row, default=str), err=True)


def shares(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By kind and for all: how many had each result."""
    found = []
    for kind in (*dict.fromkeys(row["kind"] for row in rows), "all"):
        own = [row for row in rows if kind in ("all", row["kind"]) and row["built"]]
        counts = Counter(row["ours"]["result"] for row in own)
        line: dict[str, Any] = {"kind": kind, "built": len(own)}
        line["of"] = sum(kind in ("all", row["kind"]) for row in rows)
        line |= {name: counts[name] for name in RESULTS}
        line["meant"] = sum(row["meant"] for row in own)
        line["share"] = counts["pruned"] / ((len(own) - line["meant"]) or 1)
        if own and "peer" in own[0]:
            line["peer"] = sum(row["peer"]["result"] == "runs" for row in own)
            line["peer share"] = line["peer"] / len(own)
        found.append(line)
    return found


def describe(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    mine, other = row["ours"], row.get("peer", {})
    shown = {"kind": row["kind"], "name": row["name"], "ours": mine["result"]}
    for key, one in (("left", mine), ("peer left", other)):
        if "after" in one:
            shown[key] = f"{one['after'] / one['before']:.2f}x"
    if "after" in mine:
        shown["groups"] = f"{mine['groups']}/{mine['of']}"
    if "gates" in mine:
        shown["error"] = (
            f"{max(mine[n] for n in ('gates', 'reloaded', 'batch', 'size') if n in mine):.0e}"
        )
    shown["peer"] = other.get("result")
    why = [mine.get("why"), other.get("why") and f"{PEER}: {other['why']}"]
    shown["why"] = "; ".join(one[:110].replace("\n", " ") for one in why if one)
    return shown


def main() -> None:
    """Examine, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(KINDS), metavar="KIND,...")
    parser.add_argument("--families", metavar="NAME,...", help="of these alone")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for each part")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-peer", dest="peer", action="store_false")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.peer:
        from peer import require

        require()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(TESTS)])
    chosen = options.families.split(",") if options.families else None
    rows = sweep(names(options.only.split(","), chosen), options)
    if options.json:
        click.echo(json.dumps({"shares": shares(rows), "models": rows}, indent=1, default=str))
        return
    built = [describe(row) for row in rows if row["built"]]
    columns = {
        "architecture": lambda row: f"{row['kind']} {row['name']}",
        "ds-prune": text("ours"),
        "left": text("left"),
        "groups": text("groups"),
        "error": text("error"),
        PEER: text("peer"),
        "left ": text("peer left"),
    }
    click.echo(table(columns, built) + "\n")
    for row in built:
        if row["why"]:
            click.echo(f"{row['name']}: {row['why']}")
    for row in rows:
        if not row["built"]:
            click.echo(f"{row['name']}: not built: {row['why'][:110]}")
    lines = shares(rows)
    columns = {name: text(name) for name in ("kind", "of", "built")}
    columns |= {name: text(name) for name in (*RESULTS, "meant")}
    columns["share"] = lambda row: f"{row['share']:.1%}"
    columns[f"{PEER} runs"] = text("peer")
    columns["share "] = lambda row: f"{row['peer share']:.1%}" if "peer share" in row else None
    click.echo("\n" + table(columns, lines))
    total = lines[-1]
    reached = bool(total["built"]) and total["share"] >= GOAL and not total["WRONG"]
    click.echo(f"\nGoal: {GOAL:.0%} pruned with proof, none wrong: {met(reached)}")


if __name__ == "__main__":
    main()
