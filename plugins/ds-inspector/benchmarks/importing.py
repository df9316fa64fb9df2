"""How long large files take to open.

    python benchmarks/importing.py [--events 1000000] [--nodes 50000] [--repeats 3]

Files are made first: a real trace of training steps that is repeated, a graph of operators in
groups, and a model whose weights are 1.9 GB (a sparse file). Each is opened in processes of their
own, from a warm disk. Printed are medians of wall-clock and processor seconds, and the most memory.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

OPEN = """
import sys, time
started = time.perf_counter()
from ds_inspector.importing.opening import open_any
imported = time.perf_counter()
recording = open_any(sys.argv[1])
opened = time.perf_counter()
status = open("/proc/self/status").read()
memory = int(status.partition("VmHWM:")[2].split()[0]) / 1024
rows = max(recording.events.rows, recording.nodes.rows)
print(imported - started, opened - imported, time.process_time(), memory, rows)
if len(sys.argv) > 2:
    recording.save(sys.argv[2])
"""


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, body):
    return varint(number << 3 | 2) + varint(len(body)) + body


def make_trace(path, events):
    """Repeat three steps of a small transformer's training, each time later."""
    import torch

    model = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    optimizer = torch.optim.AdamW(model.parameters())
    inputs = torch.randn(2, 16, 64)

    def step():
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    options = {"record_shapes": True, "with_stack": True, "with_modules": True}
    with torch.profiler.profile(profile_memory=True, **options) as profiler:
        for _ in range(3):
            step()
    profiler.export_chrome_trace(str(path))
    trace = json.loads(path.read_text())
    first = [event for event in trace["traceEvents"] if event["ph"] == "M"]
    repeated = [event for event in trace["traceEvents"] if event["ph"] != "M"]
    start = min(event["ts"] for event in repeated)
    span = max(event["ts"] + event.get("dur", 0) for event in repeated) - start + 100
    about = {key: value for key, value in trace.items() if key != "traceEvents"}
    with path.open("w") as file:
        file.write(json.dumps(about)[:-1] + ',"traceEvents": [\n')
        for number in range(events):
            event = first[number] if number < len(first) else repeated[number % len(repeated)]
            event = {**event, "ts": round(event["ts"] + number // len(repeated) * span, 3)}
            file.write(("" if number == 0 else ",\n") + "  " + json.dumps(event))
        file.write("\n]}")


def make_graph(path, nodes):
    """Operators in groups of eight, joined in a row, with shapes of their values."""
    dims = b"".join(field(1, b"\x08" + varint(size)) for size in (8, 64))
    kind = field(2, field(1, b"\x08\x01" + field(2, dims)))
    graph = []
    for row in range(nodes):
        name = f"/layers.{row // 800}/block.{row // 8 % 100}/{('MatMul', 'Add', 'Relu')[row % 3]}"
        values = [f"v{row}".encode(), f"v{row + 1}".encode()]
        node = field(1, values[0]) + field(2, values[1]) + field(3, f"{name}_{row}".encode())
        graph.append(field(1, node + field(4, name.rpartition("/")[2].encode())))
        graph.append(field(13, field(1, values[1]) + kind))
    path.write_bytes(b"\x08\x08" + field(7, b"".join(graph)))


def make_weights(path, size):
    """One operator with a weight of many bytes, which the file system does not store."""
    tensor = b"\x08" + varint(size // 4) + b"\x10\x01" + field(8, b"w") + varint(9 << 3 | 2)
    tensor += varint(size)
    node = field(1, field(1, b"w") + field(2, b"y") + field(4, b"Relu"))
    inner = varint(5 << 3 | 2) + varint(len(tensor) + size) + tensor
    head = b"\x08\x08" + varint(7 << 3 | 2) + varint(len(node) + len(inner) + size) + node + inner
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)


def opened(path, repeats, save=None):
    """Seconds to import, to open and of processors; MiB; rows."""
    found = []
    for _ in range(repeats):
        command = [sys.executable, "-c", OPEN, str(path), *([str(save)] if save else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append([float(part) for part in done.stdout.split()])
    return [statistics.median(column) for column in zip(*found, strict=True)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = folder / "trace.json"
        make_trace(trace, given.events)
        packed = folder / "trace.json.gz"
        with gzip.open(packed, "wb", 3) as file:
            file.write(trace.read_bytes())
        make_graph(folder / "graph.onnx", given.nodes)
        make_weights(folder / "weights.onnx", 1_900_000_000)
        print(f"{'file':16}{'MB':>9}{'rows':>11}{'open s':>9}{'cpu s':>8}{'MiB':>8}")
        saved = folder / "trace.dsrec"
        for path, save in (
            (trace, saved),
            (packed, None),
            (saved, None),
            (folder / "graph.onnx", None),
            (folder / "weights.onnx", None),
        ):
            _, seconds, cpu, memory, rows = opened(path, given.repeats, save)
            size = path.stat().st_size / 1e6
            print(f"{path.name:16}{size:9.1f}{rows:11,.0f}{seconds:9.2f}{cpu:8.2f}{memory:8.0f}")


if __name__ == "__main__":
    main()
