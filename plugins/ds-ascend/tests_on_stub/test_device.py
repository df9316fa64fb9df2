"""Memory, streams, random state, formats and collectives of torch_npu, through the backend."""

import jobs_on_stub as on_stub
import pytest
import torch
import torch.distributed as dist
from ds_ascend.backend import Ascend
from ds_ascend.tuning import FRACTAL_NZ

from ds_core.testing.simulated import in_fresh_process


@pytest.fixture
def backend(computing):
    made = Ascend()
    made.activate()
    return made


def test_memory_is_counted_by_torch_npu(backend):
    before = backend.memory()
    backend.reset_peak_memory()
    held = torch.empty(2**20, device="npu")
    during = backend.memory()
    del held
    after = backend.memory()
    assert 0 <= during.allocated - before.allocated - 4 * 2**20 < 4096  # it is rounded up
    assert during.peak >= during.allocated
    assert after.allocated == before.allocated
    assert after.peak == during.peak
    assert 0 < after.free < after.total == 2**30


def test_out_of_memory_is_torchs_own_error_and_passes(backend):
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**31, device="npu")
    assert torch.zeros(8, device="npu").sum().item() == 0


def test_random_state_can_be_set_back(backend):
    state = backend.rng_state()
    assert (state.device.type, state.dtype) == ("cpu", torch.uint8)
    first = torch.randn(8, device="npu").cpu()
    second = torch.randn(8, device="npu").cpu()
    backend.set_rng_state(state)
    assert torch.equal(torch.randn(8, device="npu").cpu(), first)
    assert not torch.equal(first, second)


def test_streams_and_events(backend):
    stream = torch.npu.Stream()
    start, end = torch.npu.Event(enable_timing=True), torch.npu.Event(enable_timing=True)
    with torch.npu.stream(stream):
        start.record()
        value = torch.ones(4, device="npu") + 1
        end.record()
    stream.synchronize()
    backend.synchronize()
    assert value.tolist() == [2.0] * 4
    assert start.elapsed_time(end) >= 0


def test_the_collective_library_is_hccl(backend, tmp_path):
    assert backend.distributed_backend() == "hccl"
    assert dist.get_default_backend_for_device("npu") == "hccl"
    dist.init_process_group("hccl", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        with pytest.raises(NotImplementedError, match="allreduce"):
            dist.all_reduce(torch.ones(2, device="npu"))
    finally:
        dist.destroy_process_group()


def test_the_compiler_is_torchair_where_there_is_no_triton(backend):
    assert backend.compile_backend() == "npu"


@pytest.mark.parametrize(
    ("soc", "allow", "tiles"),
    [
        ("Ascend910B1", None, False),
        ("Ascend910B1", True, True),
        ("Ascend910A", None, True),
    ],
)
def test_torch_npu_makes_tiles_where_its_setting_allows(soc, allow, tiles, monkeypatch):
    monkeypatch.setenv("CANN_STUB_SOC", soc)
    sentence, number, same = in_fresh_process(on_stub.tuned, 32, allow)
    assert same
    assert ("allow_internal_format" in sentence) == (not tiles)
    assert (number == FRACTAL_NZ) == ("stored in tiles" in sentence)


# In torch_npu's queue the error comes later, after half a minute.
@pytest.mark.parametrize(("call", "blocking"), [("add", "1"), ("sum", "1"), ("add", "0")])
def test_an_operator_that_nothing_computes_fails(call, blocking, monkeypatch):
    monkeypatch.setenv("ASCEND_LAUNCH_BLOCKING", blocking)
    assert "stub of CANN" in in_fresh_process(on_stub.not_computed, call)


def test_an_operator_of_torch_npu_alone_is_refused(backend):
    import torch_npu

    with pytest.raises(NotImplementedError, match="npu_rms_norm"):
        torch_npu.npu_rms_norm(torch.ones(2, 4, device="npu"), torch.ones(4, device="npu"))


def test_a_tensor_can_be_printed(backend):
    assert "[1., 1.]" in repr(torch.ones(2, device="npu", requires_grad=True))


def test_tensors_of_two_devices_do_not_meet(backend):
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="npu") + torch.ones(2)


def test_float32_is_reduced_in_convolutions_alone(backend):
    assert torch.npu.conv.allow_hf32
    assert not torch.npu.matmul.allow_hf32
    torch.npu.conv.allow_hf32 = False
    try:
        assert not torch.npu.conv.allow_hf32
    finally:
        torch.npu.conv.allow_hf32 = True


def test_fused_attention_is_called_what_findings_call_it(backend):
    import torch_npu

    assert callable(torch_npu.npu_fusion_attention)
