"""What the documentation says is so: blocks run, outputs are real, references are complete.

`REFRESH_DOCS=1 pytest tests/docs` writes the real outputs into the pages in place of comparing.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from pathlib import Path

import pluggy
import pytest
import torch

import ds_core
from ds_core import errors, hookspecs
from ds_core.cli.main import ds
from ds_core.commands import COMMANDS
from ds_core.config import RESERVED, SessionConfig
from ds_core.models import LoadConfig
from ds_core.registry import CORE, Registry
from ds_core.switches import Switches

from .pages import DOCS, ROOT, Page, blocks, commands, differences, normal

PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md"]
PROGRAMS = [
    path
    for path in PAGES
    if any(block.runs("python") or block.runs("console") for block in blocks("", path.read_text()))
    and path.parent.name != "author"  # run by test_first_plugin.py, as they install plugins
]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def reference(generate):
    """A page of the reference with its generated parts, and headings for what mkdocstrings adds."""

    def read(page):
        text = generate.on_page_markdown((DOCS / "reference" / page).read_text())
        return re.sub(r"^::: (\S+)", r"### `\1`", text, flags=re.MULTILINE)

    return read


# Blocks


@pytest.mark.skipif(torch.accelerator.is_available(), reason="pages show a machine without one")
@pytest.mark.parametrize("path", PROGRAMS, ids=name)
def test_what_a_page_shows_is_what_happens(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    page = Page(path, tmp_path)
    real = list(page.run())
    if os.environ.get("REFRESH_DOCS"):
        refresh(page, real)
        return
    wrong = [
        f"{block.place}: {line}"
        for block, shown, printed in real
        for line in differences(block, shown, printed)
    ]
    assert not wrong, "\n".join(wrong)


def refresh(page, real):
    lines = page.text.splitlines(keepends=True)
    for block in reversed(page.blocks):
        outputs = [(shown, printed) for other, shown, printed in real if other is block]
        if all(normal(shown) == normal(printed) for shown, printed in outputs):
            continue  # figures alone have changed
        printed = [printed for _, printed in outputs]
        start, size = block.line - 1, block.body.count("\n")
        if block.language == "console" and printed:
            pairs = zip(commands(block.body), printed, strict=True)
            lines[start : start + size] = [f"$ {command}\n{out}" for (command, _), out in pairs]
        elif block.language == "text" and printed:
            lines[start : start + size] = printed
        elif printed:
            lines.insert(start + size + 1, f"\n```text\n{printed[0]}```\n")
    page.path.write_text("".join(lines))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="pages show a machine without one")
def test_the_readme_shows_what_the_demo_prints(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    page = Page(ROOT / "README.md", tmp_path)
    (block,) = [block for block in page.blocks if block.body.startswith("$ ds demo\n")]
    # One epoch, as the full demo takes a minute: figures differ, what they are called does not.
    short = dataclasses.replace(
        block, marks=frozenset({"here"}), body=block.body.replace("ds demo", "ds demo --epochs 1")
    )
    page.blocks = [short]
    for _, shown, printed in page.run():
        assert not differences(short, shown, printed)


def test_a_block_that_does_not_run_is_marked():
    unmarked = [
        block.place
        for path in PAGES
        for block in blocks(name(path), path.read_text())
        if block.language not in {"python", "console", "text", "toml", "sh", "json", "mermaid"}
        or (block.language == "sh" and re.search(r"^(\$ )?ds ", block.body, re.MULTILINE))
    ]
    assert not unmarked


# References


def hooks():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    callers = [getattr(manager.hook, hook) for hook in vars(manager.hook) if hook[:3] == "ds_"]
    return {caller.name: caller.spec.argnames for caller in callers}


def test_the_hook_reference_has_every_hook_with_its_exact_arguments(reference):
    text = reference("hooks.md")
    found = {
        hook: re.findall(r"(\w+):", arguments)
        for hook, arguments in re.findall(r"^(ds_\w+)\((.*)\) ->", text, re.MULTILINE)
    }
    assert found == {hook: list(arguments) for hook, arguments in hooks().items()}
    for hook in found:
        assert f"### {hook}\n" in text


@pytest.mark.parametrize("public", [public for public in ds_core.__all__ if public[0] != "_"])
def test_the_api_reference_has_every_public_name(public, reference):
    text = reference("api.md") + reference("errors.md")
    assert re.search(rf"^### `ds_core(\.errors)?\.{public}`", text, re.MULTILINE)


def test_the_component_reference_has_everything_that_the_core_offers(reference):
    text = reference("components.md")
    for record in Registry(switches=Switches()).records():
        if record.distribution == CORE:
            assert f"### {record.kind} {record.name}\n" in text


def walk(command, context, path="ds"):
    import click

    yield path, command
    if isinstance(command, click.Group):
        for inner in command.list_commands(context):
            found = command.get_command(context, inner)
            found = found._load() if hasattr(found, "_load") else found
            yield from walk(found, click.Context(found, parent=context), f"{path} {inner}")


def test_the_command_reference_has_every_command_and_option(reference):
    import click

    sections = dict(
        re.findall(r"^## (ds[\w -]*)\n(.*?)(?=^## |\Z)", reference("cli.md"), re.M | re.S)
    )
    for path, command in walk(ds, click.Context(ds, info_name="ds")):
        if path != "ds" and path.split()[1] not in COMMANDS:
            continue  # a plugin's, which documents it itself
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert all(option in sections[path] for option in parameter.opts)


def test_the_configuration_reference_has_every_setting_and_variable(reference):
    text = reference("configuration.md")
    for setting in {**SessionConfig.model_fields, **LoadConfig.model_fields}:
        assert f"`{setting}`" in text
    for variable in RESERVED:
        assert f"`{variable}`" in text


def test_the_error_reference_has_every_error(reference):
    text = reference("errors.md")
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.DsError):
            assert f"`ds_core.errors.{error.__name__}`" in text


# Links


def anchors(text):
    """What headings are called in links, as MkDocs and GitHub make it."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    objects = set(re.findall(r"^::: (\S+)", text, re.MULTILINE))
    return objects | {
        re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_lead_somewhere(path, generate):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", generate.on_page_markdown(text)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), f"{name(path)} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(generate.on_page_markdown(there.read_text())), target


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for path in DOCS.rglob("*.md"):
        assert path.relative_to(DOCS).as_posix() in navigation
