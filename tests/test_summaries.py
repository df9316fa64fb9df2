"""What a listing says of each component, read from sources that are not imported."""

import sys

import pytest

from ds_core.registry import Registry
from ds_core.summaries import own_summary
from ds_core.switches import Switches
from tests.distributions import install

SAID = {
    "a class": ('class It(Base):\n    """Cuts. And more."""', "Cuts. And more"),
    "a class without bases": ('class It:\n    """Cuts.\n\n    At length."""\n', "Cuts"),
    "a raw docstring": ('class It(Base[int]):\n    r"""Cuts."""', "Cuts"),
    "a command": (
        '@command()\n@option("--x")\ndef It(x: int = f(1)) -> None:\n    """Cuts."""',
        "Cuts",
    ),
    "no docstring": (
        'class It(Base):\n    x = 1\n\n    def f(self):\n        """Not it."""',
        "A plugin",
    ),
    "a namesake before it": (
        'class Item:\n    """Not it."""\n\nclass It:\n    """Cuts."""',
        "Cuts",
    ),
    "not defined there": ("from elsewhere import It\n", "A plugin"),
}


@pytest.mark.parametrize("way", SAID)
@pytest.mark.parametrize("module", ["alone", "package.inner"])
def test_the_docstrings_first_line_is_the_summary(way, module, tmp_path, monkeypatch):
    source, said = SAID[way]
    points = {"ds.passes.pruner": {"it": f"{module}:It"}}
    install(tmp_path, "ds-it", points, modules={module: "raise SystemExit\n\n" + source})
    monkeypatch.syspath_prepend(str(tmp_path))
    (record,) = Registry([str(tmp_path)], Switches()).records()
    assert own_summary(record).summary == said
    assert not {"alone", "package"} & set(sys.modules)


def test_a_module_that_is_missing_or_unreadable(tmp_path, monkeypatch):
    points = {"ds.passes.pruner": {"gone": "gone:It", "odd": "odd:It"}}
    install(tmp_path, "ds-it", points)
    (tmp_path / "odd.py").write_bytes(b"\xff\xfe")
    monkeypatch.syspath_prepend(str(tmp_path))
    for record in Registry([str(tmp_path)], Switches()).records():
        assert own_summary(record).summary == "A plugin"
