import threading

import ds_inspector
import numpy as np
import torch
from capture.nets import Net, loss_of
from ds_inspector.capture.lifetimes import Lifetimes
from ds_inspector.capture.lines import Lines
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ds_core.testing.simulated import in_fresh_process, simulated_device

FLOAT = 4


class Empty(nn.Module):
    """Has nothing that would be counted."""


def watching(model=None):
    model = model or Empty()
    return Lifetimes(model, Lines(model))


def live(storages):
    return sum(size for size, died in zip(storages.bytes, storages.died, strict=True) if died == 0)


def test_views_share_their_storage():
    watch = watching()
    watch.start()
    whole = torch.ones(8, 8)
    part = whole[2:].t().reshape(-1)[:3].view(3)
    whole.add_(1)
    watch.stop()
    assert watch.storages.bytes[0] == 64 * FLOAT
    assert live(watch.storages) == whole.untyped_storage().nbytes() + (
        part.untyped_storage().nbytes()
    )
    watch.close()


def test_a_storage_lives_as_long_as_its_last_view():
    watch = watching()
    watch.start()
    whole = torch.ones(16)
    view = whole[:2]
    del whole
    assert live(watch.storages) == 16 * FLOAT
    del view
    assert live(watch.storages) == 0
    watch.stop()
    watch.close()


def test_a_resized_storage_ends_and_begins_anew():
    watch = watching()
    watch.start()
    tensor = torch.ones(4)
    tensor.resize_(100)
    watch.stop()
    assert watch.storages.bytes == [4 * FLOAT, 100 * FLOAT]
    assert [bool(died) for died in watch.storages.died] == [True, False]
    watch.close()


def test_what_another_thread_frees_is_seen():
    watch = watching()
    watch.start()
    held = [torch.ones(4)]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    assert live(watch.storages) == 0
    watch.stop()
    watch.close()


def test_nothing_is_seen_between_steps():
    watch = watching()
    watch.start()
    watch.stop()
    kept = torch.ones(4)
    watch.start()
    watch.stop()
    assert not watch.storages.bytes
    assert kept is not None
    watch.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50)), max_size=30))
def test_live_bytes_are_those_of_the_tensors_that_are_held(program):
    watch = watching()
    watch.start()
    held = {}
    try:
        for slot, size in program:
            if size % 5 == 0:
                held.pop(slot, None)
            elif size % 7 == 0 and held:
                held[slot] = next(iter(held.values()))[:1]  # a view
            else:
                held[slot] = torch.ones(size)
            storages = {
                tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
                for tensor in held.values()
            }
            assert live(watch.storages) == sum(storages.values())
    finally:
        watch.stop()
        watch.close()


def test_kinds(training):
    tensors = training.tensors
    kinds = {}
    for kind, name, size in zip(
        tensors["kind"], tensors["name"], tensors["bytes"].tolist(), strict=True
    ):
        kinds.setdefault(kind, []).append((name, size))
    model = Net()
    sizes = {name: p.numel() * FLOAT for name, p in model.named_parameters()}
    assert dict(kinds["parameter"]) == sizes
    assert {name for name, _ in kinds["buffer"]} == {name for name, _ in model.named_buffers()}
    assert dict(kinds["gradient"]) == sizes
    moments = [size for _, size in kinds["optimizer"] if size > FLOAT]
    assert sorted(moments) == sorted(2 * list(sizes.values()))
    assert (4 * 3 * 12 * 12 * FLOAT) in [size for _, size in kinds["input"]]
    assert kinds["activation"]
    assert kinds["temporary"]


def test_activations_live_from_the_forward_until_the_backward(training):
    tensors = training.tensors
    (row,) = np.flatnonzero(
        tensors.texts("kind").equal("activation")
        & tensors.texts("op").equal("aten::relu")
        & tensors.texts("module").equal("blocks.0")
        & (tensors["step"] == 0)
    )
    events = training.events
    (made,) = np.flatnonzero(
        events.texts("name").equal("aten::relu")
        & events.texts("module").equal("blocks.0")
        & (events["step"] == 0)
    )
    backward = np.flatnonzero(events.texts("phase").equal("backward") & (events["step"] == 0))
    assert tensors["node"][row] == events["node"][made]
    assert tensors["source"][row] == events["source"][made]
    assert tensors["phase"][row] == "forward"
    assert events["start"][made] <= tensors["born"][row]
    first, last = events["start"][backward].min(), events["start"][backward].max()
    assert tensors["born"][row] < first
    assert first < tensors["died"][row] <= last + events["duration"][backward].max()


def test_gradients_have_the_module_that_made_them(training):
    tensors = training.tensors
    rows = np.flatnonzero(
        tensors.texts("kind").equal("gradient") & tensors.texts("name").equal("stem.weight")
    )
    made = {tensors["module"][row] for row in rows if tensors["op"][row]}
    assert made == {"stem"}


def test_times_are_in_order(training):
    tensors = training.tensors
    assert (tensors["born"] <= tensors["died"]).all()
    ends = training.steps["end"]
    finite = np.isfinite(tensors["died"])
    assert (tensors["born"] >= 0).all()
    assert (tensors["died"][finite] <= ends[-1]).all()


def test_a_checkpoint_keeps_less():
    from torch.utils.checkpoint import checkpoint

    class Repeated(nn.Module):
        def __init__(self, saves):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(64, 64) for _ in range(4)))
            self.saves = saves

        def forward(self, x):
            for layer in self.layers:
                whole = lambda x, layer=layer: torch.sigmoid(layer(x)).square()  # noqa: E731
                x = checkpoint(whole, x, use_reentrant=False) if self.saves else whole(x)
            return x

    kept, modules = {}, {}
    for saves in (False, True):
        recording = ds_inspector.inspect(
            Repeated(saves), torch.randn(32, 64), backward=loss_of, steps=1,
            collectors=["time", "lifetimes"],
        )  # fmt: skip
        tensors = recording.tensors
        kept[saves] = tensors["bytes"][tensors.texts("kind").equal("activation")].sum()
        events = recording.events
        again = events.texts("name").equal("aten::addmm") & events.texts("phase").equal("backward")
        modules[saves] = {events["module"][row] for row in np.flatnonzero(again)}
    assert kept[True] < 0.6 * kept[False]
    assert modules[True] == {f"layers.{number}" for number in range(4)}


def on_a_simulated_device():
    torch.set_num_threads(1)
    simulated_device("npu")
    torch.manual_seed(0)
    model = Net().to("npu")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    recording = ds_inspector.inspect(
        model, torch.randn(4, 3, 12, 12).to("npu"), optimizer=optimizer, steps=2,
        backward=loss_of, collectors=["time", "lifetimes"],
    )  # fmt: skip
    tensors, usage = recording.tensors, recording.usage
    own = np.array([device.startswith("npu") for device in tensors["device"]])
    kinds = {kind for kind, here in zip(tensors["kind"], own, strict=True) if here}
    born, died, size = (tensors[name][own] for name in ("born", "died", "bytes"))
    live_at = [int(size[(born <= time) & (died > time)].sum()) for time in usage["time"].tolist()]
    modules = set(recording.events["module"])
    return kinds, live_at, usage["bytes"].tolist(), modules


def test_any_device_is_seen_as_the_cpu_is():
    kinds, live_at, said, modules = in_fresh_process(on_a_simulated_device)
    assert kinds == {
        "parameter", "buffer", "gradient", "optimizer", "input", "activation", "temporary",
    }  # fmt: skip
    assert "blocks.0.first" in modules
    # The allocator also holds the copies by which the model is put back.
    assert len(said) > 4
    assert max(said) >= max(live_at) > 0
