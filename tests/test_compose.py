from pathlib import Path

import pytest

from ds_core.builtin.autocast import Bf16
from ds_core.builtin.cpu import Cpu
from ds_core.components import Observer, Pruner, Topology
from ds_core.compose import best, check_fit, compose
from ds_core.config import resolve
from ds_core.errors import ConfigError, DsError, PluginError, RefusedError, UnknownNameError
from ds_core.registry import Registry
from ds_core.switches import Switches
from tests.distributions import install


@pytest.fixture
def registry():
    return Registry(switches=Switches())


def made(registry, given=(), **settings):
    return compose(resolve(settings, environ={}), registry, given=given)


def test_names_become_components_in_calling_order(registry):
    found = made(
        registry,
        observers=["finite"],
        precision={"name": "bf16", "outputs": "keep"},
        pruner="magnitude",
    )
    assert [part.name for part in found.passes] == ["magnitude", "bf16", "finite"]
    assert found.passes[1].config.outputs == "keep"
    assert {part.record.distribution for part in found.passes} == {"ds-core"}
    assert found.backend.name == "cpu"
    assert any(candidate.chosen for candidate in found.ranking)


def test_objects_take_the_place_of_settings_of_their_kind(registry):
    mine = Bf16()
    backend = Cpu()
    Path("ds.toml").write_text('precision = "fp16"\nobservers = ["finite"]\nbackend = "cuda"\n')
    found = compose(resolve(environ={}), registry, given=[mine, backend])
    assert found.backend is backend
    assert found.passes[0] is mine
    assert [part.name for part in found.passes] == ["bf16", "finite"]


def test_errors_name_the_line_of_the_option(registry):
    path = Path("ds.toml").resolve()
    for text, where, said in (
        ('[pruner]\nname = "magnitude"\nsparsty = 0.5\n', ":3", "Did you mean 'sparsity'"),
        ('[pruner]\nname = "magnitude"\nsparsity = 7\n', ":3", "cannot be 7"),
        ('[pruner]\nname = "magnitud"\n', ":2", "Did you mean 'magnitude'"),
        ('pruner = { name = "magnitude", sparsty = 1 }\n', ":1", "Did you mean 'sparsity'"),
        ('observers = ["finit"]\n', ":1", "Did you mean 'finite'"),
        ('[backend]\nname = "cpu"\nthreds = 1\n', ":3", "has no option 'threds'"),
        ("[backend]\nthreads = 1\n", ":2", "Name the backend"),
    ):
        path.write_text(text)
        with pytest.raises(DsError) as caught:
            compose(resolve(environ={}), registry)
        assert isinstance(caught.value, ConfigError | UnknownNameError)
        assert caught.value.where == f"{path}{where}", text
        assert said in str(caught.value)


def test_a_variables_option_is_named(registry):
    environ = {"DS_PRUNER": "magnitude", "DS_PRUNER__SPARSTY": "1"}
    with pytest.raises(ConfigError) as caught:
        compose(resolve(environ=environ), registry)
    assert caught.value.where == "DS_PRUNER__SPARSTY"


def test_what_the_hardware_lacks_is_refused_before_anything(registry):
    class Exotic(Bf16):
        name = "exotic"
        dtype = "fp3"

    with pytest.raises(RefusedError, match="does not support fp3"):
        made(registry, given=[Exotic()])


def test_best_is_the_highest_rank_that_loads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    source = """
from ds_core.components import Pruner
class {name}(Pruner):
    name = "{name}"
    rank = {rank}
"""
    for name, rank in (("bestof_low", 1), ("bestof_high", 2)):
        install(
            tmp_path,
            f"ds-{name}",
            {"ds.passes.pruner": {name: f"{name}:{name}"}},
            modules={name: source.format(name=name, rank=rank)},
        )
    install(
        tmp_path,
        "ds-ruin",
        {"ds.passes.pruner": {"ruin": "ruin_of_best:X"}},
        modules={"ruin_of_best": "1/0"},
    )
    here = Registry([str(tmp_path)], Switches())
    assert best(here, "pruner") == "ds-bestof-high:bestof_high"
    with pytest.raises(UnknownNameError, match="No topology is installed"):
        best(here, "topology")


@pytest.mark.parametrize("source", ["thing = 3", "class thing: rank = 100", "thing = print"])
def test_an_entry_point_that_is_no_component(tmp_path, monkeypatch, source):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"no_component_{abs(hash(source))}"
    install(
        tmp_path,
        "ds-odd",
        {"ds.passes.pruner": {"odd": f"{module}:thing"}},
        modules={module: source},
    )
    with pytest.raises(PluginError, match="ds-odd is not a pruner component"):
        made(Registry([str(tmp_path)], Switches()), pruner="odd")
    with pytest.raises(UnknownNameError, match="No pruner is installed"):
        best(Registry([str(tmp_path)], Switches()), "pruner")


class Needy(Pruner):
    name = "needy"
    requires = frozenset({"signal:loss"})
    conflicts = frozenset({"graph:static"})


class Giver(Observer):
    name = "giver"
    provides = frozenset({"signal:loss"})


class Static(Topology):
    name = "static"
    provides = frozenset({"graph:static", "signal:gradient"})


def test_fit():
    check_fit([Needy(), Giver(), Cpu()])
    check_fit([Giver(), Static(), Cpu()])
    with pytest.raises(RefusedError, match=r"pruner 'needy' needs signal:loss"):
        check_fit([Needy()])
    with pytest.raises(RefusedError, match=r"Provided here: signal gradient"):
        check_fit([Needy(), Static()])
    with pytest.raises(RefusedError, match=r"'needy' cannot work with topology 'static'"):
        check_fit([Needy(), Giver(), Static()])
    with pytest.raises(RefusedError, match=r"one pruner, not 'needy' and 'needy'"):
        check_fit([Needy(), Needy(), Giver()])
    check_fit([Giver(), Giver()])
