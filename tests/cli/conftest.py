"""Running `ds`: as a process of its own, with a folder of distributions on its path, or here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ds_core.cli.main import ds as cli
from ds_core.registry import installed
from tests.distributions import install

PRUNER = """
from ds_core.components import Options, Pruner
from ds_core.hookspecs import hookimpl

class {name}(Pruner):
    '''Removes weights that are in the way.

    More of it here.
    '''

    name = "{name}"

    class Config(Options):
        patience: int = 3
        '''Steps to wait.'''
        ratio: float
        '''How much goes.'''

    @hookimpl
    def ds_after_step(self, session): ...
"""


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


@pytest.fixture
def ds(site, tmp_path):
    """The real script, in an empty folder, with `site` on its path."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*args, input=None, **environ):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DS_")}
        return subprocess.run(
            [str(Path(sys.executable).with_name("ds")), *args],
            env={
                **clean,
                "PYTHONPATH": str(site),
                "DS_CONFIG_DIR": str(tmp_path / "settings"),
                "DS_CACHE_DIR": os.environ["DS_CACHE_DIR"],
                **environ,
            },
            cwd=home,
            input=input,
            capture_output=True,
            text=True,
        )

    run.home = home
    return run


@pytest.fixture
def invoke(site, monkeypatch):
    """`ds` in this process, with `site` on its path."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("COLUMNS", "200")
    installed.cache_clear()

    def run(*args):
        installed.cache_clear()
        return CliRunner().invoke(cli, args, prog_name="ds")

    yield run
    installed.cache_clear()
    for name in [name for name, module in sys.modules.items() if _from(module, site)]:
        del sys.modules[name]


def _from(module, site):
    return str(getattr(module, "__file__", None) or "").startswith(str(site))


@pytest.fixture
def zoo(site):
    """Plugins in every state."""
    pruners = "ds.passes.pruner"
    install(
        site,
        "ds-good",
        {pruners: {"good": "good:good"}},
        modules={"good": PRUNER.format(name="good")},
        summary="A pruner that works",
        headers="Project-URL: Homepage, https://example.org/good",
    )
    install(
        site,
        "ds-broken",
        {pruners: {"broken": "broken:X"}},
        modules={"broken": "import no_such_module_here"},
    )
    install(
        site,
        "ds-ahead",
        {pruners: {"ahead": "ahead:ahead"}},
        modules={"ahead": "raise SystemError('imported')"},
        requires="ds-core>=99",
    )
    for letter in "ab":
        install(
            site,
            f"ds-twin-{letter}",
            {pruners: {"twin": f"twin_{letter}:twin"}},
            modules={f"twin_{letter}": PRUNER.format(name="twin")},
        )
    return site
