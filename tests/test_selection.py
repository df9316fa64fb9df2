from types import MappingProxyType

import pytest

from ds_core.components import Backend, BackendInfo, Device, DtypeSupport, Probe, Problem
from ds_core.errors import BackendError, PluginError, RefusedError, UnknownNameError
from ds_core.registry import Record, Registry
from ds_core.selection import candidates, choose
from ds_core.switches import Switches


class Card(Backend):
    """A backend in this file: what `probe` and `activate` do is set by a subclass."""

    device_type = "card"
    rank = 0
    dtypes = ("fp32",)
    gib = 8
    problem: Problem | None = None
    failure: Exception | None = None

    @classmethod
    def probe(cls, root="/"):
        return Probe(
            present=cls.gib > 0,
            devices=(Device(index=0, name="Card", memory=cls.gib * 2**30),) if cls.gib else (),
            problems=(cls.problem,) if cls.problem else (),
        )

    def activate(self):
        if self.failure:
            raise self.failure

    def info(self):
        dtypes = {name: DtypeSupport(works=True) for name in self.dtypes}
        dtypes.setdefault("bf16", DtypeSupport(works=False, reason="No such unit."))
        return BackendInfo(device="card:0", name="Card", dtypes=dtypes)

    def distributed_backend(self):
        return None


class Shelf(Registry):
    """A registry of classes that are here already."""

    def __init__(self, **backends):
        super().__init__([], Switches())
        self._classes = MappingProxyType(backends)
        self._records = [
            Record(
                kind="backend",
                name=name,
                distribution=f"ds-{name}",
                version="1",
                summary="",
                value="",
                status="disabled" if made is None else "ok",
                reason="it is off" if made is None else "",
            )
            for name, made in backends.items()
        ]

    def load(self, kind, name):
        record = self.find(kind, name)
        made = self._classes[record.name]
        if isinstance(made, Exception):
            raise made
        return record, made


def card(name, **attributes):
    return type(name, (Card,), {"name": name, **attributes})


def test_rank_then_memory_and_unusable_ones_last():
    shelf = Shelf(
        low=card("low", rank=0),
        small=card("small", rank=5),
        large=card("large", rank=5, gib=80),
        absent=card("absent", rank=9, gib=0),
        ill=card("ill", rank=9, problem=Problem(what="No driver.", mend="Install one.")),
        off=None,
        broken=PluginError("It does not import."),
    )
    found = candidates(shelf)
    assert [one.record.name for one in found][:3] == ["large", "small", "low"]
    reasons = {one.record.name: one.reason for one in found}
    assert reasons["absent"] == "no such device here"
    assert reasons["ill"] == "No driver. Install one."
    assert reasons["off"] == "it is off"
    assert reasons["broken"] == "It does not import."
    backend, ranking = choose(shelf)
    assert backend.name == "large"
    assert backend.record.name == "large"
    assert [one.record.name for one in ranking if one.chosen] == ["large"]
    reasons = {one.record.name: one.reason for one in ranking}
    assert reasons["small"] == "usable, but 'large' comes first"


def test_a_probe_that_explodes_takes_no_other_down():
    def probe(cls, root="/"):
        raise ZeroDivisionError("by nought")

    shelf = Shelf(bomb=card("bomb", rank=9, probe=classmethod(probe)), fine=card("fine"))
    backend, ranking = choose(shelf)
    assert backend.name == "fine"
    bomb = next(one for one in ranking if one.record.name == "bomb")
    assert bomb.reason == "ds-bomb 1 failed while probing: ZeroDivisionError: by nought"
    with pytest.raises(BackendError, match="by nought"):
        choose(shelf, "bomb")


@pytest.mark.parametrize(
    "failure", [BackendError("The driver is too old."), RuntimeError("The driver is too old.")]
)
def test_one_that_cannot_be_activated_gives_way(failure):
    shelf = Shelf(first=card("first", rank=9, failure=failure), second=card("second"))
    backend, ranking = choose(shelf)
    assert backend.name == "second"
    assert "The driver is too old." in ranking[0].reason
    with pytest.raises(BackendError, match=r"The driver is too old\."):
        choose(shelf, "first")


def test_a_dtype_that_the_best_lacks_is_found_on_the_next():
    shelf = Shelf(first=card("first", rank=9), second=card("second", dtypes=("fp32", "bf16")))
    backend, ranking = choose(shelf, requires={"dtype:bf16"})
    assert backend.name == "second"
    assert ranking[0].reason == "Backend 'first' does not support bf16 (No such unit)."
    assert choose(shelf, requires={"something:else"})[0].name == "first"


def test_a_dtype_that_nobody_has_is_refused_with_what_there_is():
    found = candidates(Shelf(only=card("only", dtypes=("fp32", "fp16"))))
    with pytest.raises(RefusedError) as caught:
        choose(Shelf(only=card("only", dtypes=("fp32", "fp16"))), requires={"dtype:bf16"})
    assert "It supports fp32, fp16" in caught.value.mend
    with pytest.raises(RefusedError):
        choose(Shelf(only=card("only")), requires={"dtype:bf16"}, found=found)
    assert found[0].reason == caught.value.what  # also a refusal leaves the reasons


def test_the_model_stays_where_it_is():
    shelf = Shelf(first=card("first", rank=9), npu=card("npu", device_type="npu"))
    backend, ranking = choose(shelf, device_type="npu")
    assert backend.name == "npu"
    assert ranking[0].reason == "the model is on npu"
    with pytest.raises(BackendError, match="'tpu'"):
        choose(shelf, device_type="tpu")


@pytest.mark.parametrize("made", [3, print, type("NoBackend", (), {"rank": 9})])
def test_what_is_no_backend_takes_no_other_down(made):
    shelf = Shelf(odd=made, fine=card("fine"))
    backend, ranking = choose(shelf)
    assert backend.name == "fine"
    assert "ds-odd is not a backend component" in ranking[-1].reason
    with pytest.raises(PluginError, match="not a backend component"):
        choose(shelf, "odd")


def test_by_name_there_is_no_second_choice():
    shelf = Shelf(
        ill=card("ill", problem=Problem(what="No driver.", mend="Install one.")),
        absent=card("absent", gib=0),
        fine=card("fine"),
    )
    assert choose(shelf, "fine")[0].name == "fine"
    assert choose(shelf, "ds-fine:fine")[0].name == "fine"
    with pytest.raises(BackendError, match=r"No driver\. Install one\."):
        choose(shelf, "ill")
    with pytest.raises(BackendError, match=r"no such device here\. See `ds backends`"):
        choose(shelf, "absent")
    with pytest.raises(UnknownNameError, match="Did you mean 'fine'"):
        choose(shelf, "fein")


def test_nothing_usable():
    with pytest.raises(BackendError, match="No backend is usable here"):
        choose(Shelf(absent=card("absent", gib=0)))


def test_any_accelerator_comes_before_the_cpu_whatever_memory_it_has():
    from ds_core.builtin.cpu import Cpu
    from ds_core.builtin.cuda import Cuda

    assert Cuda.rank > Cpu.rank
    shelf = Shelf(
        card=card("card", rank=Cuda.rank, gib=8), host=card("host", rank=Cpu.rank, gib=999)
    )
    _, ranking = choose(shelf)
    assert [one.record.name for one in ranking if one.chosen] == ["card"]
