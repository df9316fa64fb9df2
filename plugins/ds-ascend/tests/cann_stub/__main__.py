"""Runs a command on the stub: `python -m cann_stub pytest tests_on_stub`.

The stub must be there when a process starts: the loader reads LD_LIBRARY_PATH only then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cann_stub.building import build, vendor
from cann_stub.hosting import write_host


def main(command: list[str]) -> int:
    """The command's exit status, or 2 where there is nothing to run or no torch_npu."""
    torch_npu = vendor()
    if not command or torch_npu is None:
        print("Give a command; torch_npu must be installed.", file=sys.stderr)  # noqa: T201
        return 2
    with tempfile.TemporaryDirectory(prefix="cann-stub-") as folder:
        stub = build(torch_npu, Path(folder) / "cann")
        environment = stub.environment | write_host(Path(folder) / "host", stub.home)
        return subprocess.run(command, env=os.environ | environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
