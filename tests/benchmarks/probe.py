"""How long `probe()` of each installed backend takes, and whether it imports torch.

    python tests/benchmarks/probe.py [--rounds 20]

Each figure is from a fresh process, in which the backend's class is imported but nothing was
probed before: what a user waits for in `ds backends`, beside starting Python. Processes of all
backends take turns, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

import click

from ds_core.registry import installed

PROBE = """
import json, sys, time
from ds_core.registry import installed

backends = [installed().load("backend", name)[1] for name in sys.argv[1:]]
start = time.perf_counter()
present = [backend.probe().present for backend in backends]
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "present": present, "torch": "torch" in sys.modules}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    names = [record.full_name for record in installed().records("backend") if record.status == "ok"]
    sets = {name: [name] for name in names} | {"all of them": names}
    runs: dict[str, list[dict]] = {name: [] for name in sets}
    for number in range(rounds + 1):
        for name, backends in sets.items():
            found = probe(backends)
            if number:  # the first round writes bytecode and fills the page cache
                runs[name].append(found)
    click.echo(f"{rounds} rounds, interleaved; medians, with the range of the middle half")
    for name, found in runs.items():
        low, middle, high = statistics.quantiles([run["seconds"] for run in found], n=4)
        torch = "torch was imported" if any(run["torch"] for run in found) else "no torch"
        present = "" if len(found[0]["present"]) > 1 else present_text(found[0]["present"][0])
        click.echo(
            f"{name:16} {middle * 1e3:6.2f} ms ({low * 1e3:.2f} to {high * 1e3:.2f})"
            f"  {torch}{present}"
        )


def present_text(present: bool) -> str:
    return ", present" if present else ", not present"


def probe(names: list[str]) -> dict:
    command = [sys.executable, "-c", PROBE, *names]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


if __name__ == "__main__":
    main()
