"""Criteria that other distributions bring, good ones and bad ones."""

import sys

import pytest
from ds_prune.importance.installed import criteria, make_criterion
from ds_prune.importance.taylor import Taylor

from ds_core.errors import PluginError, UnknownNameError

GOOD = """
from ds_prune.importance.criterion import Criterion

class Longest(Criterion):
    name = "longest"

    def scores(self, tensors, structure):
        return {}
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with one module and one criterion on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = []

    def install(distribution, name, attribute, code):
        module = f"made_for_{distribution.replace('-', '_')}"
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{distribution.replace('-', '_')}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n"
        )
        (info / "entry_points.txt").write_text(
            f"[ds_prune.criteria]\n{name} = {module}:{attribute}\n"
        )

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def test_ours_come_first_and_import_nothing(install):
    install("their-pruning", "longest", "Longest", "raise RuntimeError('imported')")
    assert [offer.full_name for offer in criteria()] == [
        "ds-prune:taylor",
        "ds-prune:magnitude",
        "ds-prune:fpgm",
        "ds-prune:random",
        "their-pruning:longest",
    ]


def test_anyone_may_bring_one(install):
    install("their-pruning", "longest", "Longest", GOOD)
    assert make_criterion("longest").scores({}, None) == {}
    assert make_criterion("their-pruning:longest").name == "longest"


def test_a_name_of_ours_stays_ours(install):
    install("their-pruning", "taylor", "Longest", GOOD)
    assert type(make_criterion("taylor")) is Taylor
    assert make_criterion("their-pruning:taylor").name == "longest"


def test_two_of_one_name_must_be_told_apart(install):
    install("a-pruning", "longest", "Longest", GOOD)
    install("b-pruning", "longest", "Longest", GOOD)
    with pytest.raises(PluginError, match=r"'a-pruning:longest' or 'b-pruning:longest'"):
        make_criterion("longest")
    assert make_criterion("b-pruning:longest").name == "longest"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "SystemExit"),
        ("x = 1", "AttributeError"),
        ("def Longest(): pass", "is not a criterion"),
    ],
)
def test_a_broken_one_is_named_with_its_distribution(install, code, words):
    install("their-pruning", "longest", "Longest", code)
    with pytest.raises(PluginError) as caught:
        make_criterion("longest")
    assert words in str(caught.value)
    assert "their-pruning" in str(caught.value)
    make_criterion("taylor")  # which hurts no other


def test_an_unknown_name_is_met_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'magnitude'\?"):
        make_criterion("magnitud")
    with pytest.raises(UnknownNameError, match="Installed: taylor, magnitude, fpgm, random"):
        make_criterion("xyzzy")


def test_one_that_is_switched_off_is_not_there(install, monkeypatch):
    install("their-pruning", "longest", "Longest", "raise RuntimeError('imported')")
    monkeypatch.setenv("DS_DISABLE_PLUGINS", "their-pruning")
    with pytest.raises(UnknownNameError):
        make_criterion("longest")
