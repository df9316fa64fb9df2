"""How long `ds plugins list` takes with 5 and with 200 plugins, against `import click`.

    python tests/benchmarks/listing.py [--rounds 40]

Each round starts every command once, so that whatever else the machine does meets all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.distributions import install

BASE = "import click"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        commands = {BASE: ([sys.executable, "-c", BASE], None)}
        for count in (5, 200):
            site = Path(folder, str(count))
            for number in range(count):
                install(
                    site,
                    f"ds-plugin-{number}",
                    {"ds.passes.pruner": {f"pruner-{number}": f"plugin_{number}:Pruner"}},
                )
            ds = Path(sys.executable).with_name("ds")
            commands[f"ds plugins list, {count} plugins"] = ([str(ds), "plugins", "list"], site)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(rounds + 1):
            for name, (command, site) in commands.items():
                taken = run(command, site, folder)
                if number:  # the first round writes bytecode and fills the page cache
                    seconds[name].append(taken)
    base = statistics.median(seconds[BASE])
    click.echo(f"{rounds} rounds, interleaved; medians, with the range of the middle half")
    for name, values in seconds.items():
        low, middle, high = statistics.quantiles(values, n=4)
        click.echo(
            f"{name:32} {middle * 1e3:6.1f} ms ({low * 1e3:.1f} to {high * 1e3:.1f})"
            f"  {middle / base:5.2f}x"
        )


def run(command: list[str], site: Path | None, home: str) -> float:
    # A user who has set nothing: no variables of ours, and an empty home.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DS_")}
    environ |= {"HOME": home, "XDG_CONFIG_HOME": home}
    environ.pop("PYTHONPATH", None)
    environ.pop("PYTHONDONTWRITEBYTECODE", None)  # pip compiles what users install
    if site is not None:
        environ["PYTHONPATH"] = str(site)
    start = time.perf_counter()
    subprocess.run(command, env=environ, check=True, stdout=subprocess.PIPE, cwd=home)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
