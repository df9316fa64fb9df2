"""Recording a script that knows nothing of it."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from ds_inspector.capture.graph import first_line
from ds_inspector.capture.steps import Enough, Steps
from ds_inspector.recording import Recording

_INTERRUPTED = 130


class Script:
    """Runs a script as `python SCRIPT ARGS` would, and records some of its steps.

    Whatever becomes of the script, what was recorded until then is saved.

    Args:
        path: Of the script.
        arguments: Its own.
        output: Where the recording goes.
        steps: As of `Recorder`.
        warmup: Steps before the first that is recorded.
        collectors: As of `Recorder`.
        stop: End the script once its steps are recorded.
        command: What the recording says was run.
        record: False to run it only.

    Attributes:
        recording: What was recorded, once it is saved.
        problems: Why there is none, or what is missing; sentences.
    """

    def __init__(
        self,
        path: Path,
        arguments: Sequence[str],
        *,
        output: Path,
        steps: int,
        warmup: int,
        collectors: Sequence[str],
        stop: bool = False,
        command: str = "",
        record: bool = True,
    ) -> None:
        self.path = path
        self.output = output
        self.recording: Recording | None = None
        self.problems: list[str] = []
        self._arguments = list(arguments)
        self._record = record
        self._steps = Steps(
            steps=steps,
            warmup=warmup,
            collectors=collectors,
            command=command,
            stop=stop,
            done=self._save,
        )

    def run(self, device: str | None = None) -> int:
        """Run it to its end.

        Args:
            device: Where tensors are made that are not told where.

        Returns:
            The status that the process is to end with.
        """
        import torch

        if device is not None:
            torch.set_default_device(device)
        argv, path = sys.argv, list(sys.path)
        sys.argv = [str(self.path), *self._arguments]
        sys.path[0:1] = [str(self.path.resolve().parent)]
        if self._record:
            self._steps.start()
        try:
            runpy.run_path(str(self.path), run_name="__main__")
        except Enough:
            pass
        except SystemExit as ended:
            return _status(ended)
        except KeyboardInterrupt:
            print("Stopped.", file=sys.stderr)  # noqa: T201
            return _INTERRUPTED
        except BaseException as error:
            traceback.print_exception(error.with_traceback(_own(error.__traceback__)))
            return 1
        finally:
            self._steps.end()
            self.problems += self._steps.problems
            sys.argv = argv
            sys.path[:] = path
            if device is not None:
                torch.set_default_device(None)
        return 0

    def _save(self, recording: Recording) -> None:
        try:
            recording.save(self.output)
        except Exception as error:
            self.problems.append(first_line(error) + ".")
        else:
            self.recording = recording


def _status(ended: SystemExit) -> int:
    if ended.code is None or isinstance(ended.code, int):
        return int(ended.code or 0)
    print(ended.code, file=sys.stderr)  # noqa: T201
    return 1


def _own(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the script on, without what ran it."""
    found = trace
    while found is not None:
        if found.tb_frame.f_globals.get("__name__") == "__main__":
            return found
        found = found.tb_next
    return trace
