"""Checks of every component: what it says of itself, its options, its import."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pydantic
import pytest

from ds_core.components import KINDS, Component
from ds_core.components.component import hook_problems
from ds_core.errors import ConfigError
from ds_core.registry import installed
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.subject import Conformance, python

IMPORT = """
import json, os, signal, sys, threading, warnings
before = {
    "cwd": os.getcwd(), "environ": dict(os.environ), "path": list(sys.path),
    "threads": threading.active_count(), "filters": list(map(str, warnings.filters)),
    "interrupt": str(signal.getsignal(signal.SIGINT)), "files": sorted(os.listdir()),
    "recursion": sys.getrecursionlimit(),
}
module = __import__(sys.argv[1], fromlist=["_"])
getattr(module, sys.argv[2])
after = {
    "cwd": os.getcwd(), "environ": dict(os.environ), "path": list(sys.path),
    "threads": threading.active_count(), "filters": list(map(str, warnings.filters)),
    "interrupt": str(signal.getsignal(signal.SIGINT)), "files": sorted(os.listdir()),
    "recursion": sys.getrecursionlimit(),
}
print(json.dumps({
    "torch": "torch" in sys.modules,
    "changed": [key for key in before if before[key] != after[key]],
}))
"""


class MetadataChecks(Conformance):
    """What can be checked without a model."""

    @check(
        "metadata.installed",
        "users find a component by its entry point",
        "Register it in pyproject.toml under the group of its kind and install the distribution.",
    )
    def test_installed(self) -> None:
        assert self.record.kind == self.kind

    @check(
        "metadata.usable",
        "a component that is listed as anything but ok cannot be attached",
        "See the reason that `ds plugins list` shows.",
    )
    def test_usable(self) -> None:
        assert self.record.status == "ok", self.record.reason

    @check(
        "metadata.summary",
        "`ds plugins list` shows one line about each distribution",
        "Set `description` in the [project] table of pyproject.toml.",
    )
    def test_summary(self) -> None:
        assert self.record.summary
        assert "\n" not in self.record.summary

    @check(
        "metadata.version",
        "checkpoints and reports record the version",
        "Set `version` in the [project] table of pyproject.toml.",
    )
    def test_version(self) -> None:
        from packaging.version import Version

        Version(self.record.version)

    @check(
        "metadata.requirement",
        "the requirement on ds-core says which hooks a component was written for",
        "Add `ds-core>=...` to the dependencies in pyproject.toml.",
    )
    def test_requirement(self) -> None:
        if self.record.distribution != "ds-core":
            assert self.record.requirement, "the distribution does not depend on ds-core"

    @check(
        "metadata.kind",
        "the group says the kind, and the class must agree",
        "Subclass the class of the kind, or register it in the group of its kind.",
    )
    def test_kind(self) -> None:
        assert issubclass(self.component, Component)
        assert self.component.kind == self.kind
        assert self.kind in KINDS

    @check(
        "metadata.name",
        "what users type must be what reports show",
        "Make the class attribute `name` equal to the entry point's name.",
    )
    def test_name(self) -> None:
        assert self.component.name == self.record.name

    @check(
        "metadata.spelling",
        "a name is typed in shells, TOML files and variables",
        "Use lower-case letters, digits and single hyphens.",
    )
    def test_spelling(self) -> None:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.record.name), self.record.name

    @check(
        "metadata.docstring",
        "`ds plugins info` shows the docstring",
        "Write one that says what the component does.",
    )
    def test_docstring(self) -> None:
        own = self.component.__dict__.get("__doc__")
        assert own, f"{self.component.__qualname__} has none"

    @check(
        "metadata.rank",
        "`best` compares ranks",
        "Leave `rank` at 0 or set it to an integer.",
    )
    def test_rank(self) -> None:
        assert isinstance(self.component.rank, int)

    @check(
        "import.no-torch",
        "listing and checking components must not wait for torch",
        "Import torch inside methods, and for annotations under `if TYPE_CHECKING:`.",
    )
    def test_import_without_torch(self) -> None:
        assert not self._import()["torch"], "importing it imports torch"

    @check(
        "import.no-side-effects",
        "importing a component must change nothing for whoever does not use it",
        "Move the work into methods, best into `ds_session_start`.",
    )
    def test_import_changes_nothing(self) -> None:
        changed = self._import()["changed"]
        assert not changed, f"importing it changed: {', '.join(changed)}"

    def _import(self) -> dict[str, Any]:
        module, _, attribute = self.record.value.partition(":")
        found: dict[str, Any] = json.loads(python(IMPORT, module, attribute))
        return found

    @check(
        "config.defaults",
        "a bare name must be enough to use a component",
        "Give every option a default that suits most users.",
    )
    def test_defaults(self) -> None:
        installed().load(self.kind, self.name)[1]()

    @check(
        "config.round-trip",
        "options go through TOML, JSON and checkpoints",
        "Use types that pydantic can dump and read back.",
    )
    def test_config_round_trip(self) -> None:
        config = self.make().config
        assert type(config).model_validate(config.model_dump()) == config
        assert type(config).model_validate_json(config.model_dump_json()) == config

    @check(
        "config.unknown",
        "a misspelt option must never be ignored",
        'Derive Config from Options and leave `extra="forbid"` as it is.',
    )
    def test_unknown_options_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="surely_not_an_option"):
            self.make(surely_not_an_option=1)

    @check(
        "config.frozen",
        "options that changed in mid-training would not be what the report shows",
        "Leave Config frozen and keep what changes in attributes of the component.",
    )
    def test_config_does_not_change(self) -> None:
        config = self.make().config
        for name in type(config).model_fields:
            with pytest.raises(pydantic.ValidationError):
                setattr(config, name, getattr(config, name))

    @check(
        "config.schema",
        "`ds plugins info` and editors read the schema",
        "Use types that pydantic can describe.",
    )
    def test_schema(self) -> None:
        json.dumps(self.component.Config.model_json_schema())

    @check(
        "config.documented",
        "`ds plugins info` shows a line for each option",
        "Put a docstring under each field of Config.",
    )
    def test_options_are_documented(self) -> None:
        bare = [
            name
            for name, field in self.component.Config.model_fields.items()
            if not field.description
        ]
        assert not bare, f"without a docstring: {', '.join(bare)}"

    @check(
        "hooks.specified",
        "a hook that no specification knows is never called",
        "Correct the name or the argument that the message names.",
    )
    def test_hooks_match_their_specifications(self) -> None:
        problems = hook_problems(self.component)
        assert not problems, "; ".join(map(str, problems))

    @check(
        "capabilities.form",
        "sessions compare capabilities as `family:name`",
        "Return frozensets of such strings from requires, provides and conflicts.",
    )
    def test_capabilities(self) -> None:
        made = self.make()
        for found in (made.requires, made.provides, made.conflicts):
            assert isinstance(found, frozenset)
            assert all(re.fullmatch(r"[a-z0-9_]+:[\w.-]+", item) for item in found), found

    @check(
        "instances.separate",
        "two sessions may use the component at once",
        "Keep state in attributes set by __init__, not in class attributes or module globals.",
    )
    def test_instances_share_no_state(self) -> None:
        one, two = self.make(), self.make()
        shared = [
            name
            for name, value in vars(one).items()
            if isinstance(value, dict | list | set) and value is vars(two).get(name)
        ]
        mutable = [
            f"{owner.__name__}.{name}"
            for owner in inspect.getmro(self.component)[:-1]
            if not owner.__module__.startswith(("ds_core.components", "pydantic"))
            for name, value in vars(owner).items()
            if isinstance(value, list | dict | set)
            and not name.startswith("__")
            and name != "conformance"
        ]
        assert not shared + mutable, f"shared: {', '.join(shared + mutable)}"

    @check(
        "instances.repr",
        "errors and logs name a component by its repr",
        "Leave __repr__ as it is, or return one line.",
    )
    def test_repr(self) -> None:
        assert "\n" not in repr(self.make())

    @check(
        "report.empty",
        "a report may be asked for before anything happened",
        "Have report() return JSON-compatible values at any time.",
    )
    def test_report_before_use(self) -> None:
        json.dumps(self.make().report())

    @check(
        "state.empty",
        "a session may be saved before its first step",
        "Have state_dict() work on a fresh component.",
    )
    def test_state_before_use(self) -> None:
        assert isinstance(self.make().state_dict(), dict)
