"""The suite of commands."""

from __future__ import annotations

import re
import subprocess
import sys

import click
from click.testing import CliRunner

from ds_core.registry import Record, installed
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.subject import Conformance


class CommandConformance(Conformance):
    """All checks of a command that a plugin adds to `ds`."""

    kind = "command"

    @property
    def command(self) -> click.Command:
        """The click command."""
        loaded: click.Command = installed().load("command", self.name)[1]
        return loaded

    def ds(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `ds` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "ds_core", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @check(
        "command.installed",
        "users find a command in `ds --help`",
        "Register it in pyproject.toml under ds.commands and install the distribution.",
    )
    def test_installed(self) -> None:
        record: Record = self.record
        assert record.status == "ok", record.reason

    @check(
        "command.click",
        "`ds` runs click commands",
        "Let the entry point name a click.Command.",
    )
    def test_is_a_click_command(self) -> None:
        assert isinstance(self.command, click.Command)

    @check(
        "command.spelling",
        "a command is typed in shells",
        "Use lower-case letters, digits and single hyphens.",
    )
    def test_spelling(self) -> None:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.record.name)

    @check(
        "command.requirement",
        "the requirement on ds-core says what a command was written for",
        "Add `ds-core>=...` to the dependencies in pyproject.toml.",
    )
    def test_requirement(self) -> None:
        if self.record.distribution != "ds-core":
            assert self.record.requirement

    @check(
        "command.listed",
        "`ds --help` lists every command",
        "Choose a name that no builtin command has.",
    )
    def test_listed_in_help(self) -> None:
        done = self.ds("--help")
        assert done.returncode == 0, done.stderr
        assert self.record.name in done.stdout

    @check(
        "command.help",
        "users read help first",
        "Write a docstring, and a help text for each option.",
    )
    def test_help(self) -> None:
        done = self.ds(self.record.name, "--help")
        assert done.returncode == 0, done.stderr
        assert self.command.help
        assert not [
            parameter.name
            for parameter in self.command.params
            if isinstance(parameter, click.Option) and not parameter.help
        ]

    @check(
        "command.bad-option",
        "a misspelt option must be refused",
        "Do not ignore unknown options.",
    )
    def test_an_unknown_option(self) -> None:
        done = self.ds(self.record.name, "--surely-not-an-option")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr

    @check(
        "import.no-torch",
        "help and completion must not wait for torch",
        "Import torch inside the command's function.",
    )
    def test_import_without_torch(self) -> None:
        module = self.record.value.partition(":")[0]
        code = f"import sys, {module}; print('torch' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.strip() == "False"

    @check(
        "command.help-in-process",
        "tests call commands in process",
        "Keep state in the function, not in the module.",
    )
    def test_help_in_process(self) -> None:
        for _ in range(2):
            assert CliRunner().invoke(self.command, ["--help"]).exit_code == 0
