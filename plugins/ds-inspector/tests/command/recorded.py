"""Recordings as files, of steps that take as long as is said."""

from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About, Collector

PEAKS = {"cpu": {"float32": 1e12, "bandwidth": 1e10}}


def write(path, seconds, *, module="encoder.layer.0", name="aten::mm"):
    """A recording of steps, nine tenths of which a matrix product takes."""
    count = len(seconds)
    starts = [float(10 * step) for step in range(count)]
    events = {
        "start": starts,
        "duration": [0.9 * length for length in seconds],
        "name": [name] * count,
        "kind": ["operator"] * count,
        "lane": ["cpu 1"] * count,
        "phase": ["forward"] * count,
        "step": range(count),
        "module": [module] * count,
        "shapes": ["6400x6400, 6400x6400"] * count,
        "dtype": ["float32"] * count,
    }
    ends = [start + length for start, length in zip(starts, seconds, strict=True)]
    tensors = {
        "born": [0.0],
        "died": [2.0],
        "bytes": [1 << 20],
        "kind": ["activation"],
        "op": [name],
    }
    about = About(
        title="net.py",
        origin="torch",
        machine={"device": "cpu"},
        collectors=[Collector(name="time", overhead=1.05, note="torch.profiler")],
        problems=["The graph is missing: it cannot be exported."],
        peaks=PEAKS,
    )
    tables = {
        "events": Table("events", events),
        "steps": Table("steps", {"start": starts, "end": ends}),
        "tensors": Table("tensors", tensors),
    }
    return Recording(about, tables).save(path)
