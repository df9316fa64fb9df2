"""What a suite is run on."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any, ClassVar

import ds_core as ds
from ds_core.components import Component
from ds_core.compose import make
from ds_core.config import Choice
from ds_core.registry import Record, installed


class Conformance:
    """Base of all suites: knows the component by its entry point.

    Subclass the suite of the component's kind in a test module, and pytest runs it:

        class TestMine(ObserverConformance):
            name = "mine"
            options = {"every": 2}
    """

    kind: ClassVar[str]
    """Set by the suite of each kind."""

    name: ClassVar[str]
    """The entry point's name, or `distribution:name`."""

    options: ClassVar[dict[str, Any]] = {}
    """Options that every check gives the component, over its defaults."""

    backend: ClassVar[str] = "cpu"
    """Where the trainings of the suite run."""

    @property
    def record(self) -> Record:
        """The component's entry point."""
        return installed().find(self.kind, self.name)

    @property
    def component(self) -> type[Component]:
        """The component's class."""
        loaded: type[Component] = installed().load(self.kind, self.name)[1]
        return loaded

    def make(self, **options: Any) -> Component:
        """A new component with the suite's options and those given."""
        choice = Choice.model_validate({"name": self.name, **self.options, **options})
        return make(installed(), self.kind, choice)


def python(code: str, *arguments: str, timeout: float = 120, **environ: str) -> str:
    """Run code in an interpreter of its own and return what it printed.

    Raises:
        AssertionError: It failed; shows the end of what it wrote to stderr.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr.strip()[-1500:]
    return done.stdout


def attach(model: Any, optimizer: Any, **passes: Any) -> ds.Session:
    """`ds_core.attach` untouched by settings that stand around on this machine."""
    kinds = ("precision", "pruner", "topology")
    quiet = {kind: "none" for kind in kinds if passes.get(kind) is None}
    settings = {**quiet, **passes.pop("config", {})}
    return ds.attach(model, optimizer, config=settings, **passes)
