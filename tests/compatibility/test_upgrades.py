import pytest

from ds_core import __version__
from ds_core.compatibility.upgrades import unmet, upgrade_findings, upgrade_plan
from ds_core.registry import Registry
from ds_core.switches import Switches
from tests.distributions import install


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(**plugins):
        for name, requires in plugins.items():
            headers = "".join(
                f"Requires-Python: {line[7:]}\n"
                if line.startswith("python ")
                else f"Requires-Dist: {line}\n"
                for line in requires
            )
            install(
                tmp_path,
                f"ds-{name}",
                {"ds.passes.pruner": {name: f"{name}:X"}},
                requires="",
                headers=headers.rstrip("\n"),
            )
        problems = unmet(Registry(switches=Switches()))
        found = list(upgrade_findings(problems))
        assert {finding.level for finding in found} <= {"error"}
        assert len(found) == len(problems)
        return [step.what for step in upgrade_plan(problems)]

    return make


def test_what_fits_needs_nothing(plan):
    assert plan(a=[f"ds-core=={__version__}", "torch>=2", "python >=3.8"]) == []


def test_torch_goes_before_the_core_and_the_core_before_plugins(plan):
    steps = plan(a=["ds-core>=99", "torch>=98"], b=["ds-core<0.0.1", "python >=4"])
    assert steps == [
        "Use Python >=4",
        'pip install "torch>=98"',
        'pip install "ds-core>=99"',
        "pip install --upgrade ds-b",
    ]


def test_what_is_missing_is_installed(plan):
    assert plan(a=["no-such-thing-here>=2"]) == ['pip install "no-such-thing-here>=2"']


def test_requirements_of_extras_and_of_other_platforms_do_not_count(plan):
    assert plan(a=["nothing; extra == 'x'", "nothing; python_version < '3'"]) == []


def test_metadata_that_cannot_be_read_is_passed_over(plan):
    assert plan(a=["!!!", "torch>=2"]) == []
