"""Scripts in several processes, started by torchrun."""

import os
import subprocess
import sys


def ranks(folder, *command, count=2, timeout=180, **environment):
    """What each rank of a command wrote to its standard output.

    Each rank has a file of its own under `folder`: on a shared pipe their lines run into each
    other.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(count), "--redirects", "1", "--log-dir", str(folder)),
            *map(str, command),
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    logs = sorted(folder.glob("*/attempt_0/*/stdout.log"), key=lambda path: int(path.parent.name))
    found = [path.read_text() for path in logs]
    assert len(found) == count
    return found
