import numpy as np
from ds_inspector.analysis.timing import timing
from ds_inspector.analysis.typical import typical
from ds_inspector.recording import Recording
from hypothesis import given
from synthetic import recordings, steps_of


@given(recordings())
def test_it_is_the_median_of_the_same_call_in_other_steps(recording):
    events, step = recording.events, timing(recording).step
    values = events.numbers("duration")
    groups, seen = {}, {}
    for row in range(events.rows):
        kind = tuple(events.texts(name)[row] for name in ("name", "module", "phase", "lane"))
        ordinal = seen[kind, step[row]] = seen.get((kind, step[row]), -1) + 1
        groups.setdefault((kind, ordinal), []).append(row)
    expected = np.zeros(events.rows)
    for rows in groups.values():
        expected[rows] = sorted(values[rows])[(len(rows) - 1) // 2]
    assert typical(recording, values).tolist() == expected.tolist()


def test_a_call_that_waited_once_is_as_long_as_the_others():
    recording = steps_of([1.0] * 5, [("aten::mm", "m", 0.5), ("aten::mm", "m", 0.25)])
    duration = recording.events.numbers("duration").copy()
    duration[2] *= 100
    events = recording.events.replaced(duration=duration)
    recording = Recording(recording.about, {**recording.tables, "events": events})
    assert typical(recording, duration).tolist() == [0.5, 0.25] * 5
