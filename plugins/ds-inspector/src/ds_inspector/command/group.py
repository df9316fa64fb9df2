"""`ds inspect`: a file to run or to open, or a subcommand."""

from __future__ import annotations

from importlib import import_module, util

import click

_SUMMARIES = {
    "run": "Run a script, or open a model, and record it; what is done without a subcommand.",
    "view": "Show a recording in the browser.",
    "diff": "Compare two recordings.",
    "show": "Print what a recording tells.",
    "attach": "Listen to a running session.",
    "export": "Write a recording for other viewers.",
}


class Inspect(click.Group):
    """Subcommands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _SUMMARIES if util.find_spec(_module(name)) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(_module(cmd_name)), cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if args and first not in ctx.help_option_names and first not in self.list_commands(ctx):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES[name]) for name in self.list_commands(ctx)])


def _module(name: str) -> str:
    return f"ds_inspector.command.{name}"


@click.group(
    "inspect",
    cls=Inspect,
    subcommand_metavar="[OPTIONS] SCRIPT.py|MODEL [ARGS]... | COMMAND [ARGS]...",
)
def inspect() -> None:
    """See where a model's time and memory go.

    `ds inspect train.py --epochs 1` runs a script as it is and records some of its steps;
    `ds inspect model.onnx` opens a model of ONNX, torch.export or TensorFlow, or a trace. Either
    writes a recording, which `ds inspect view` shows.
    """
