"""The timeline of tensors against what the allocator gave out: the peak of a step, both ways.

    python benchmarks/memory.py

On the CPU the allocator's count is summed from torch.profiler's memory events, which hold every
allocation and release. On a CUDA device it is `torch.cuda.max_memory_allocated`.
"""

import argparse

import numpy as np
import torch
from ds_inspector.capture.recorder import Recorder
from overhead import resnet, step_of, transformer
from torch.profiler import ProfilerActivity, profile, record_function

MARK = "benchmark.step"
STEPS = 3


def live_peak(storages):
    """The most bytes that were alive at once."""
    born = np.array(storages.born)
    died = np.array(storages.died)
    size = np.array(storages.bytes)
    ended = died > 0
    times = np.concatenate([born, died[ended]])
    change = np.concatenate([size, -size[ended]])
    order = np.lexsort((change, times))
    return int(np.cumsum(change[order]).max())


def prepared(make, device):
    model, inputs = make()
    model.to(device)
    inputs = {name: value.to(device) for name, value in inputs.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    step = step_of(model, inputs, optimizer)
    step()
    return model, inputs, step


def recorded(recorder, step):
    recorder.begin()
    with record_function(MARK):
        step(recorder)
    recorder.end()


def on_cpu(make):
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model, _inputs, step = prepared(make, "cpu")  # so that the allocator's count begins at 0
        recorder = Recorder(model, steps=STEPS, collectors=("lifetimes",))
        while not recorder.done:
            recorded(recorder, step)
        recorder.close()
    events = profiler.profiler.kineto_results.events()
    memory = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    steps = [(event.start_ns(), event.end_ns()) for event in events if event.name() == MARK]
    times, sizes = (np.array(column) for column in zip(*sorted(memory), strict=True))
    total = np.cumsum(sizes)
    lived = [bounds for bounds, role in zip(sorted(steps), recorder.roles, strict=True)
             if role == "lifetimes"]  # fmt: skip
    peak = max(int(total[(times >= begin) & (times <= end)].max()) for begin, end in lived)
    return peak, live_peak(recorder.recorded.lifetimes.storages)


def on_cuda(make):
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    model, _inputs, step = prepared(make, "cuda")
    recorder = Recorder(model, steps=STEPS, collectors=("lifetimes",))
    peaks = []
    for role in recorder.roles:
        torch.cuda.reset_peak_memory_stats()
        recorded(recorder, step)
        if role == "lifetimes":
            peaks.append(torch.cuda.max_memory_allocated() - before)
    recorder.close()
    return max(peaks), live_peak(recorder.recorded.lifetimes.storages)


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    for measure in [on_cpu, *([on_cuda] if torch.cuda.is_available() else [])]:
        for make in (resnet, transformer):
            exact, seen = measure(make)
            print(
                f"{measure.__name__[3:]:5} {make.__name__:12} allocator {exact / 2**20:8.2f} MiB  "
                f"tensors {seen / 2**20:8.2f} MiB  {seen / exact - 1:+.2%}"
            )


if __name__ == "__main__":
    main()
