"""The policy under torch.compile: whole graphs, and new ones when a layer changes its dtype."""

import pytest
import torch
from training import Offset, attach, details, dtypes

from ds_core.builtin.cpu import Cpu
from ds_core.components import BackendInfo, DtypeSupport
from ds_core.testing import jobs


class CalledFast(Cpu):
    """torch.compile cannot trace through an emulation, so small products run on real kernels."""

    def info(self):
        fast = DtypeSupport(works=True, fast=True, speedup=1.0, reason="for the test")
        return BackendInfo(device="cpu", name="cpu", dtypes={"fp32": fast, "bf16": fast})


@pytest.mark.parametrize("engine", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_whole_graphs_decide_as_eager_forwards_do(engine):
    torch._dynamo.reset()
    runs = []
    limit = torch._dynamo.config.recompile_limit
    for compiled in (False, True):
        torch.manual_seed(0)
        model = Offset(8)
        with attach(model, CalledFast()) as session:
            call = torch.compile(model, fullgraph=True, backend=engine) if compiled else None
            losses = jobs.train(model, session.optimizers[0], 8, call=call)
            runs.append((losses, dtypes(session), details(session)["flips"]))
    if engine == "aot_eager":  # inductor rounds less, which a cancellation amplifies
        assert runs[1][0] == runs[0][0]
    assert runs[1][1:] == runs[0][1:]
    assert runs[1][1]["first"] == "fp32"
    assert torch._dynamo.config.recompile_limit == limit


def test_more_changes_than_torch_keeps_graphs_for():
    torch._dynamo.reset()
    model = Offset(8)
    with attach(model, CalledFast(), every=1) as session:
        call = torch.compile(model, fullgraph=True, backend="eager")
        plan = session.components[0]._plan
        for turn in range(20):
            jobs.train(model, session.optimizers[0], 1, seed=turn, call=call)
            for bit, unit in enumerate(plan.units):  # another combination in every turn
                dtype = "fp32" if (turn + 1) >> bit & 1 else "bf16"
                plan.decisions.put(unit.name, dtype, turn, "for the test")
            plan.apply()
            with torch.no_grad():
                call(torch.randn(4, 8))
        assert len(plan.combinations) > 16
        # That is enough: nobody is looked at any more, so nothing changes by itself.
        assert not plan.region.watching
