"""Reference pages that are made from the code: hooks, components, commands.

MkDocs calls `on_page_markdown`, which replaces a line `<!-- generated: hooks -->` by what the
function of that name in `PARTS` returns. Nothing here imports torch.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ds_core import hookspecs
from ds_core.cli.main import Deferred, ds
from ds_core.commands import COMMANDS
from ds_core.components import KINDS
from ds_core.plugin_info import OptionInfo, PluginInfo, describe
from ds_core.registry import CORE, Registry
from ds_core.switches import Switches

MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)

PURPOSE = {
    "backend": "The hardware that a session runs on.",
    "pruner": "Which weights or channels remain.",
    "precision": "Which dtype each layer computes in.",
    "topology": "How gradients travel between ranks.",
    "observer": "Watches and changes nothing.",
    "transform": "Model in, faster or smaller model out.",
    "model": "Where `load_model` finds architectures and files.",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs' event: fill in the parts that a page asks for."""
    return MARKER.sub(lambda found: PARTS[found[1]](), markdown)


def hooks() -> str:
    """Every hook in the order in which a session calls them, with signature and documentation."""
    source = Path(hookspecs.__file__).read_text(encoding="utf-8")
    sections = {
        number: line.removeprefix("# ")
        for number, line in enumerate(source.splitlines(), 1)
        if line.startswith("# ")
    }
    users: dict[str, list[str]] = {}
    for part in core():
        for hook in part.hooks:
            users.setdefault(hook, []).append(f"{part.kind} `{part.name}`")
    lines: list[str] = []
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("ds_"):
            continue
        for number in [number for number in sections if number < node.lineno]:
            lines += [f"## {sections.pop(number)}", ""]
        returns = ast.unparse(node.returns) if node.returns else "None"
        arguments = ast.unparse(node.args)
        lines += [
            f"### {node.name}",
            "",
            f"```python\n{node.name}({arguments}) -> {returns}\n```",
            "",
            ast.get_docstring(node) or "",
            "",
        ]
        if "firstresult=True" in [ast.unparse(k) for d in node.decorator_list for k in _keys(d)]:
            lines += ["The first component that returns something other than None decides.", ""]
        if node.name in users:
            lines += [f"In the core: {', '.join(sorted(users[node.name]))}.", ""]
    return "\n".join(lines)


def components() -> str:
    """Every component and model source of the core with its options and hooks."""
    lines: list[str] = []
    everything = core()
    for kind, purpose in PURPOSE.items():
        lines += [f"## {kind.capitalize()}", "", purpose, ""]
        for part in (part for part in everything if part.kind == kind):
            lines += [f"### {kind} {part.name}", "", part.doc, ""]
            lines += [f"Class: `{part.value.replace(':', '.')}`.", ""]
            if part.hooks:
                lines += [f"Hooks: {', '.join(f'[`{h}`](hooks.md#{h})' for h in part.hooks)}.", ""]
            if part.options:
                lines += [*_options(part.options), ""]
            elif kind in KINDS:
                lines += ["It has no options.", ""]
    return "\n".join(lines)


def commands() -> str:
    """Every command of `ds` with its arguments and options."""
    return "\n".join(_command(ds, "ds", None))


PARTS: dict[str, Callable[[], str]] = {
    "hooks": hooks,
    "components": components,
    "commands": commands,
}


def core() -> list[PluginInfo]:
    """All that the core itself offers, whatever the user has switched off."""
    registry = Registry(switches=Switches())
    records = [record for record in registry.records() if record.distribution == CORE]
    return [describe(registry, record) for record in records]


def _keys(decorator: ast.expr) -> list[ast.keyword]:
    return decorator.keywords if isinstance(decorator, ast.Call) else []


def _options(options: tuple[OptionInfo, ...]) -> Iterator[str]:
    yield "| option | type | default | what it does |"
    yield "| --- | --- | --- | --- |"
    for option in options:
        shown = option.type.replace("|", "\\|")
        yield f"| `{option.name}` | `{shown}` | `{option.shown_default}` | {option.doc} |"


def _command(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    if isinstance(command, Deferred):
        command = command._load()
    settings = command.context_settings
    context = click.Context(command, parent=parent, info_name=name, **settings)
    path = context.command_path
    pieces = " ".join([path, *command.collect_usage_pieces(context)])
    yield f"## {path}\n\n```text\n{pieces}\n```\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    rows = [f"| `{names}` | {text} |" for names, text in filter(None, records)]
    yield "\n".join(["| option | what it does |", "| --- | --- |", *rows, ""])
    if isinstance(command, click.Group):
        names = COMMANDS if command is ds else command.list_commands(context)
        for inner_name in sorted(names):
            inner = command.get_command(context, inner_name)
            assert inner is not None
            yield from _command(inner, inner_name, context)
