"""Recordings to write."""

import numpy as np
from ds_inspector.importing.trace import nesting
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from hypothesis import strategies as st

NAMES = ["aten::mm", 'a,b\n"c"', "<b>x</b>", "", "=1+1", "日本語"]


def recording_of(rows, title="test"):
    """A recording of events (lane, start in us, duration in us, name)."""
    lane, start, duration, name = (
        np.array(column, np.int64) for column in (zip(*rows, strict=True) if rows else [[]] * 4)
    )
    order = nesting.order_of(lane, start, duration)
    lane, start, duration, name = (each[order] for each in (lane, start, duration, name))
    events = {
        "start": start / 1e6,
        "duration": duration / 1e6,
        "parent": nesting.parents(lane, start, start + duration),
        "name": [NAMES[each] for each in name.tolist()],
        "kind": ["operator"] * len(rows),
        "lane": [f"cpu {each}" for each in lane.tolist()],
        "source": [f"model.py:{each + 1}" if each % 2 else "" for each in name.tolist()],
        "module": [f"layer.{each}" for each in name.tolist()],
        "shapes": ["2x3"] * len(rows),
    }
    return Recording(About(title=title, origin="torch"), {"events": Table("events", events)})


recordings = st.lists(
    st.tuples(
        *(st.integers(0, 2), st.integers(0, 40), st.integers(0, 20)),
        st.integers(0, len(NAMES) - 1),
    ),
    min_size=1,
    max_size=40,
).map(recording_of)
