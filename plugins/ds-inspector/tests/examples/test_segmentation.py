"""The walk-through runs, changes only what is advised, and leaves the outputs as they were."""

import re
from pathlib import Path

import pytest
from ds_inspector import load

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """What it prints, and its folder."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("walk")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        import segmentation

        with contextlib.redirect_stdout(io.StringIO()) as printed:
            segmentation.main(
                ["--output", str(folder), "--size", "64", "--steps", "2", "--rounds", "4"]
            )
    return printed.getvalue(), folder


def table(text, head):
    """Rows below a head, cut where its columns begin."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(head))
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S+( \S+)*", lines[begin])]
    names = [lines[begin][a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    rows = []
    for line in lines[begin + 1 :]:
        if not line:
            break
        cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        rows.append(dict(zip(names, cells, strict=True)))
    return rows


def test_each_change_answers_a_finding_and_changes_no_result(walked):
    first, *changed = table(walked[0], "change")
    assert (first["change"], first["finding"], first["in all"]) == ("as it was written", "-", "0%")
    assert changed
    assert len({row["finding"] for row in changed}) == len(changed)
    for row in changed:
        assert re.fullmatch(r"[\d.]+ ms", row["latency"])
        assert re.fullmatch(r"-?\d+%", row["saved"])
        low = "slow-dtype" in [one["finding"] for one in changed[: changed.index(row) + 1]]
        assert float(row["error"]) < (3e-2 if low else 1e-4)
        assert float(row["same mask"].rstrip("%")) > (97 if low else 99.9)


def test_inference_with_gradients_is_always_found(walked):
    assert "Inference with gradients on:" in walked[0]
    assert "grad-mode" in [row["finding"] for row in table(walked[0], "change")]


def test_it_says_what_was_gained_with_confidence(walked):
    assert re.search(
        r"Latency is -?\d+% lower \(-?\d+% to -?\d+% with 95% confidence, from 4 rounds\)",
        walked[0],
    )


def test_the_recordings_are_kept_to_be_viewed(walked):
    assert all(load(walked[1] / f"{name}.dsrec").steps.rows == 2 for name in ("before", "after"))
    operators = [row["operator"] for row in table(walked[0], "operator")]
    assert all(name.startswith("aten::") for name in operators)
    assert operators
