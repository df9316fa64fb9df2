import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ds_core
from ds_core.errors import PluginError, UnknownNameError
from ds_core.registry import GROUPS, Record, Registry
from ds_core.requirement import is_met, is_on_core
from ds_core.switches import Switches
from tests.distributions import install

PRUNERS = "ds.passes.pruner"


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def registry(site, **off):
    return Registry([str(site)], Switches(off))


def test_records_carry_what_the_metadata_says(site):
    install(
        site,
        "DS_Long.Name",
        {PRUNERS: {"cut": "mod.sub:Cut [extra]"}, "console_scripts": {"cut": "mod:main"}},
        version="2.0rc1",
        summary="Cuts: all of it",
        requires="ds-core[demo] (>=0.1,<9)",
        headers="Requires-Dist: torch\nProject-URL: Docs, https://d\nProject-URL: Homepage, https://h",
    )
    (record,) = registry(site).records()
    assert record == Record(
        kind="pruner",
        name="cut",
        distribution="ds-long-name",
        version="2.0rc1",
        summary="Cuts: all of it",
        value="mod.sub:Cut [extra]",
        requirement="ds-core[demo] (>=0.1,<9)",
    )
    assert record.home == "https://h"
    assert record.full_name == "ds-long-name:cut"
    assert pickle.loads(pickle.dumps(record)) == record


def test_every_group_has_a_kind_and_is_found(site):
    install(site, "ds-all", {group: {"thing": "m:x"} for group in GROUPS})
    assert {record.kind for record in registry(site).records()} == set(GROUPS.values())


def test_what_is_commented_out_or_not_ours_is_not_found(site):
    install(site, "ds-x", {PRUNERS: {"# no": "m:x", "; nor": "m:x"}, "ds.unknown": {"y": "m:y"}})
    assert registry(site).records() == []


def test_the_first_on_the_path_shadows_the_others(tmp_path):
    for folder, version in (("one", "1.0"), ("two", "2.0")):
        install(tmp_path / folder, "ds-x", {PRUNERS: {"x": "x:X"}}, version=version)
    both = Registry([str(tmp_path / "one"), str(tmp_path / "two")], Switches())
    assert [record.version for record in both.records()] == ["1.0"]


def test_loading_imports_only_what_was_asked_for(site):
    for name in ("wanted", "other"):
        install(site, f"ds-{name}", {PRUNERS: {name: f"{name}:thing"}}, modules={name: "thing = 5"})
    record, thing = registry(site).load("pruner", "wanted")
    assert (record.name, thing) == ("wanted", 5)
    assert "other" not in sys.modules


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module_here", "ModuleNotFoundError: No module named"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("assert False, 'never'", "AssertionError: never"),
        ("def (", "SyntaxError"),
        ("", "has no attribute 'thing'"),
        (
            "from ds_core.errors import RefusedError\nraise RefusedError('Not on a Tuesday.')",
            "Not on a Tuesday.",
        ),
    ],
)
def test_one_that_fails_to_import_is_remembered_and_hurts_no_other(site, source, said):
    install(site, "ds-bad", {PRUNERS: {"bad": "bad:thing"}}, modules={"bad": source})
    install(site, "ds-fine", {PRUNERS: {"fine": "fine:thing"}}, modules={"fine": "thing = 1"})
    here = registry(site)
    assert here.names("pruner") == ["bad", "fine"]
    with pytest.raises(PluginError) as caught:
        here.load("pruner", "bad")
    assert said in caught.value.what
    assert "ds-bad 1.2.3" in caught.value.what
    assert "ds plugins disable bad" in caught.value.mend
    assert here.names("pruner") == ["fine"]
    bad = next(record for record in here.records() if record.name == "bad")
    assert bad.status == "broken"
    assert said in bad.reason
    with pytest.raises(PluginError) as again:
        here.load("pruner", "bad")
    assert again.value.what == caught.value.what
    assert here.load("pruner", "fine")[1] == 1


@pytest.mark.parametrize("key", ["x", "ds-x", "ds-x:x"])
def test_switched_off_by_any_of_its_names(site, key):
    install(site, "ds-x", {PRUNERS: {"x": "x:X"}})
    here = registry(site, **{key: "/a/config.toml"})
    assert here.names("pruner") == []
    (record,) = here.records()
    assert record.status == "disabled"
    assert f"ds plugins enable {key}" in record.reason
    with pytest.raises(PluginError, match=r"switched off in /a/config\.toml"):
        here.load("pruner", "x")


def test_incompatible_ones_are_never_imported(site):
    install(
        site,
        "ds-x",
        {PRUNERS: {"x": "x:X"}},
        modules={"x": "raise SystemError"},
        requires="ds-core>=99",
    )
    with pytest.raises(PluginError, match=r"needs ds-core>=99, but ds-core"):
        registry(site).load("pruner", "x")


def test_a_clash_is_resolved_by_the_full_name(site):
    for letter in "ab":
        install(
            site,
            f"ds-{letter}",
            {PRUNERS: {"x": f"{letter}_mod:thing"}},
            modules={f"{letter}_mod": f"thing = {letter!r}"},
        )
    here = registry(site)
    assert [record.status for record in here.records()] == ["clash", "clash"]
    with pytest.raises(PluginError, match="'ds-a:x' or 'ds-b:x'"):
        here.load("pruner", "x")
    assert here.load("pruner", "ds-a:x")[1] == "a"
    assert here.load("pruner", "ds-b:x")[1] == "b"


@pytest.mark.parametrize("how", ["disabled", "incompatible"])
def test_a_namesake_that_cannot_be_used_does_not_stand_in_the_way(site, how):
    install(
        site,
        "ds-a",
        {PRUNERS: {"x": "a_mod:thing"}},
        requires="ds-core>=99" if how == "incompatible" else "",
    )
    install(site, "ds-b", {PRUNERS: {"x": "b_mod:thing"}}, modules={"b_mod": "thing = 2"})
    here = registry(site, **({"ds-a": "DS_DISABLE_PLUGINS"} if how == "disabled" else {}))
    assert here.load("pruner", "x")[1] == 2


def test_the_same_name_in_two_kinds_is_no_clash(site):
    install(site, "ds-a", {PRUNERS: {"x": "a:x"}, "ds.passes.observer": {"x": "a:y"}})
    assert [record.status for record in registry(site).records()] == ["ok", "ok"]


def test_unknown_names(site):
    install(site, "ds-a", {PRUNERS: {"shears": "a:x"}, "ds.passes.observer": {"eye": "a:y"}})
    here = registry(site)
    for name, said in (
        ("sheers", "Did you mean 'shears'?"),
        ("channel", "pip install ds-prune"),
        ("chanel", "'channel' comes with pip install ds-prune"),
        ("zzz", "Installed: shears."),
        ("ds-b:shears", ""),
    ):
        with pytest.raises(UnknownNameError) as caught:
            here.load("pruner", name)
        assert repr(name) in caught.value.what
        assert said in caught.value.mend
    with pytest.raises(UnknownNameError, match="Did you mean 'eye'"):
        here.matching("eyes")


def test_matching_by_component_full_and_distribution_name(site):
    install(site, "ds-a", {PRUNERS: {"x": "a:x", "y": "a:y"}, "ds.models": {"x": "a:z"}})
    here = registry(site)
    assert [record.kind for record in here.matching("x")] == ["model", "pruner"]
    assert [record.kind for record in here.matching("x", "pruner")] == ["pruner"]
    assert [record.name for record in here.matching("ds-a:y")] == ["y"]
    assert len(here.matching("ds-a")) == 3


@pytest.mark.parametrize(
    ("requirement", "met"),
    [
        ("ds-core", True),
        ("ds_core >= 0.1", True),
        ("DS.Core (>=0.1)", True),
        ("ds-core[demo]>=0.1", True),
        (f"ds-core=={ds_core.__version__}", True),
        ("ds-core>=99", False),
        ("ds-core<0.1", False),
        ("ds-core>=99; python_version < '3'", True),
        ("ds-core>=99; python_version > '3'", False),
        ("ds-core @ https://example.org/x.whl", True),
        ("ds-core is nice", False),
        ("ds-core>=0.1; nonsense", True),
    ],
)
def test_requirements(requirement, met):
    assert is_on_core(requirement)
    assert is_met(requirement) is met


@pytest.mark.parametrize(
    "other", ["ds-core-extras>=99", "ds-corer", "ds-core.x", "torch", "ds-core>=99; extra == 'x'"]
)
def test_requirements_on_others(other):
    assert not is_on_core(other)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=3),
    st.sampled_from([">=", "<=", "==", "!=", "<", ">", "~="]),
)
def test_requirements_agree_with_packaging(numbers, operator):
    from packaging.requirements import Requirement

    version = ".".join(map(str, numbers)) + (".0" if operator == "~=" else "")
    text = f"ds-core{operator}{version}"
    expected = Requirement(text).specifier.contains(ds_core.__version__, prereleases=True)
    assert is_met(text) is expected


def test_the_builtins_are_found_and_load():
    here = Registry(switches=Switches())
    own = [record for record in here.records() if record.distribution == "ds-core"]
    assert {"cpu", "cuda", "bf16", "magnitude", "flat", "finite"} <= {r.name for r in own}
    for record in own:
        loaded = here.load(record.kind, record.full_name)[1]
        assert getattr(loaded, "name", record.name) == record.name
