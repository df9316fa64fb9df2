"""`ds`: finds the command that was asked for, and says in one sentence what went wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from ds_core import __version__
from ds_core.commands import COMMANDS
from ds_core.errors import DsError, PluginError, nearest


def main() -> None:
    """The entry point of the script `ds`."""
    ds.main(prog_name="ds")


class Deferred(click.Command):
    """Stands for a command in listings, and becomes it when it is used."""

    def __init__(self, name: str, summary: str, load: Callable[[], click.Command]) -> None:
        super().__init__(name, short_help=summary)
        self._load = load

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        try:
            command = self._load()
        except DsError:
            if extra.get("resilient_parsing"):  # completing: nobody wants to read errors
                return super().make_context(info_name, args, parent, **extra)
            raise
        return command.make_context(info_name, args, parent, **extra)


class Commands(click.Group):
    """The commands of `ds` itself, and after them those of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *_plugin_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            where, summary = COMMANDS[cmd_name]
            return Deferred(cmd_name, summary, partial(_load_own, where))
        if cmd_name in _plugin_commands(ctx, every=True):
            summary = _plugin_commands(ctx, every=True)[cmd_name]
            return Deferred(cmd_name, summary, partial(_load_plugins, cmd_name))
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and self.get_command(ctx, args[0]) is None:
            near = nearest(args[0], self.list_commands(ctx))
            raise click.UsageError(f"There is no command {args[0]!r}. {near}".rstrip(), ctx)
        return super().resolve_command(ctx, args)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        with _in_one_sentence(debug=os.environ.get("DS_DEBUG") == "1"):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _in_one_sentence(debug=ctx.params["debug"]):
            return super().invoke(ctx)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Names complete in bash after: eval "$(_DS_COMPLETE=bash_source ds)"; '
    "zsh_source and fish_source are for those shells.",
)
@click.option(
    "--debug", is_flag=True, envvar="DS_DEBUG", help="Show tracebacks (or set DS_DEBUG=1)."
)
@click.version_option(__version__, prog_name="ds-core")
@click.pass_context
def ds(ctx: click.Context, debug: bool) -> None:
    """Hooks and plugins that make PyTorch training cheaper."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


class Stopped(click.ClickException):
    """The user pressed Ctrl-C."""

    exit_code = 130

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


@contextmanager
def _in_one_sentence(debug: bool) -> Iterator[None]:
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
        raise
    except (KeyboardInterrupt, click.Abort):
        raise Stopped("Stopped.") from None
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        if isinstance(error, DsError):
            raise click.ClickException(str(error)) from None
        raise click.ClickException(
            f"This is a bug in ds or in a plugin: {type(error).__name__}: {error}\n"
            "Run it again with `ds --debug` in front for the traceback, and report it."
        ) from None


def _plugin_commands(ctx: click.Context, every: bool = False) -> dict[str, str]:
    """Summaries by name; with `every`, also of what can only be told why it does not run."""
    from ds_core.registry import installed
    from ds_core.summaries import own_summary

    try:
        records = [own_summary(record) for record in installed().records("command")]
    except DsError as error:
        # Help and the commands of ds itself must work where a settings file does not.
        if not ctx.resilient_parsing and "told" not in ctx.meta:
            ctx.meta["told"] = True
            click.echo(f"Commands of plugins are left out. {error}", err=True)
        return {}
    summaries = {
        record.name: record.summary for record in records if every or record.status == "ok"
    }
    if every:
        summaries |= {record.full_name: record.summary for record in records}
    return summaries


def _load_own(where: str) -> click.Command:
    from importlib import import_module

    module, _, attribute = where.partition(":")
    command: click.Command = getattr(import_module(module), attribute)
    return command


def _load_plugins(name: str) -> click.Command:
    from ds_core.registry import installed

    record, command = installed().load("command", name)
    if not isinstance(command, click.Command):
        raise PluginError(
            f"{record.value} of {record.distribution} is no command, but a "
            f"{type(command).__name__}.",
            mend="Its author must let the entry point name a click command.",
        )
    return command
