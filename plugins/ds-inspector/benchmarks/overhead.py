"""What recording costs: ratios of step times, interleaved with plain steps.

    python benchmarks/overhead.py [--rounds N] [--cpu-time] [--json FILE]

Prints, for a ResNet-50 and for a transformer, the median over rounds of the time of a step with
one collector over that of the plain step before it, and the quartiles of these ratios. On a
machine that others use, CPU time says more than the wall clock's.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from ds_inspector.capture.recorder import Recorder
from ds_inspector.observer import Inspector

from ds_core.builtin.cpu import Cpu
from ds_core.session import Session

GOALS = {"time": 1.10, "lifetimes": 1.50, "idle observer": 1.00}


def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig(num_labels=10)).train()
    inputs = {"pixel_values": torch.randn(8, 3, 96, 96), "labels": torch.randint(0, 10, (8,))}
    return model, inputs


def transformer():
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8000, hidden_size=384, num_hidden_layers=6, num_attention_heads=6,
        intermediate_size=1536,
    )  # fmt: skip
    model = BertForMaskedLM(config).train()
    tokens = torch.randint(0, 8000, (8, 128))
    return model, {"input_ids": tokens, "labels": tokens}


def step_of(model, inputs, optimizer):
    def step(recorder=None):
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        if recorder is not None:
            recorder.before_optimizer(optimizer)
        optimizer.step()
        if recorder is not None:
            recorder.after_optimizer(optimizer)

    return step


def collectors(model, step, rounds, clock):
    recorder = Recorder(model, steps=rounds, collectors=("time", "lifetimes"))
    seconds = {}
    for role in recorder.roles:
        recorder.begin()
        begun = clock()
        step(recorder)
        seconds.setdefault(role, []).append(clock() - begun)
        recorder.end()
    recorder.close()
    plain = np.array(seconds["plain"])
    found = {name: np.array(seconds[name]) / plain for name in ("time", "lifetimes")}
    return plain, {**found, "sources, one step": np.array(seconds["sources"]) / np.median(plain)}


def idle(model, step, optimizer, rounds, clock):
    """Steps with the observer waiting for its window, over steps without a session."""
    backend = Cpu()
    backend.activate()
    ratios = []
    for _ in range(rounds):
        times = []
        for watched in (False, True):
            if watched:
                observer = Inspector(start=10**9)
                session = Session(model, optimizer, backend=backend, passes=[observer]).attach()
            step()
            begun = clock()
            step()
            times.append(clock() - begun)
            if watched:
                session.detach()
        ratios.append(times[1] / times[0])
    return np.array(ratios)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cpu-time", action="store_true", help="Not wall-clock time.")
    options = parser.parse_args()
    clock = time.process_time if options.cpu_time else time.perf_counter
    told = {}
    for make in (resnet, transformer):
        model, inputs = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
        step = step_of(model, inputs, optimizer)
        for _ in range(2):
            step()
        plain, ratios = collectors(model, step, options.rounds, clock)
        ratios["idle observer"] = idle(model, step, optimizer, options.rounds, clock)
        size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(
            f"{type(model).__name__}, {size:.1f}M parameters, plain step "
            f"{np.median(plain) * 1e3:.0f} ms, {options.rounds} rounds, "
            f"{torch.get_num_threads()} threads"
        )
        for name, values in ratios.items():
            low, middle, high = np.percentile(values, [25, 50, 75])
            goal = f"  goal {GOALS[name]:.2f}x" if name in GOALS else ""
            print(f"  {name:18} {middle:.3f}x  ({low:.3f} to {high:.3f}){goal}")
        told[make.__name__] = {name: values.tolist() for name, values in ratios.items()}
    if options.json:
        options.json.write_text(json.dumps(told))


if __name__ == "__main__":
    main()
