"""The page of the matrix is that of the components that ship here, and the trial can fail."""

from pathlib import Path

import pytest
import torch

import ds_core as ds
from ds_core.components import Observer, Pruner
from tests.matrix import combinations as matrix
from tests.matrix.run import judge, table

PAGE = Path(__file__).parents[2] / "docs/matrix.md"


def test_the_page_has_a_row_for_each_of_the_cores_combinations():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| cpu ")]
    core = [
        one
        for one in matrix.combinations()
        if one.backend == "ds-core:cpu"
        and all(
            name == matrix.NONE or name.startswith("ds-core:")
            for name in (one.precision, one.pruner, one.topology, one.observer)
        )
    ]
    heads = {tuple(cell.strip() for cell in row.split("|")[1:6]) for row in rows}
    for one in core:
        short = tuple(getattr(one, kind).rpartition(":")[2] for kind in matrix.KINDS)
        assert short in heads
    assert not [row for row in rows if "| failed |" in row]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_combination_passes():
    one = matrix.Combination("cpu", "bf16", "magnitude", matrix.NONE, "finite")
    outcome, detail = matrix.attempt(one)
    assert outcome == "passed"
    assert judge({one: (outcome, detail)}, matrix.plain())[one][0] == "passed"


def test_a_refusal_is_shown_as_one():
    one = matrix.Combination("cpu", "fp16", "magnitude", matrix.NONE, matrix.NONE)
    settings = {**one.settings, "precision": {"name": "fp16", "outputs": "keep"}}

    class Refused(matrix.Combination):
        @property
        def settings(self):
            return settings

    refused = Refused("cpu", "fp16", "magnitude", matrix.NONE, matrix.NONE)
    outcome, detail = matrix.attempt(refused)
    assert outcome == "refused"
    assert "outputs in float32" in detail
    assert "| refused |" in table({refused: (outcome, detail)})


class Forgetful(Pruner):
    """Loses its state, so that a resumed run differs."""

    name = "forgetful"

    def __init__(self):
        super().__init__()
        self.steps = 0

    @ds.hookimpl
    def ds_after_step(self, session, optimizer, skipped):
        self.steps += 1
        with torch.no_grad():
            for parameter in session.model.parameters():
                parameter.mul_(1 - 1e-3 / self.steps)


def test_a_component_that_loses_its_state_fails(monkeypatch):
    attach = ds.attach
    monkeypatch.setattr(
        ds,
        "attach",
        lambda model, optimizer, config: attach(
            model, optimizer, pruner=Forgetful(), config={"backend": "cpu"}
        ),
    )
    one = matrix.Combination("cpu", matrix.NONE, "forgetful", matrix.NONE, matrix.NONE)
    outcome, detail = matrix.attempt(one)
    assert outcome == "failed"
    assert "resumed run differs" in detail


class Writing(Observer):
    """Leaves a file where it runs, as those do that record."""

    name = "writing"

    @ds.hookimpl
    def ds_after_step(self, session, optimizer, skipped):
        Path("left").write_text("here")


def test_files_of_observers_are_not_left(monkeypatch, tmp_path):
    attach = ds.attach
    monkeypatch.setattr(
        ds,
        "attach",
        lambda model, optimizer, config: attach(
            model, optimizer, observers=[Writing()], config={"backend": "cpu"}
        ),
    )
    monkeypatch.chdir(tmp_path)
    one = matrix.Combination("cpu", *[matrix.NONE] * 3, "writing")
    assert matrix.attempt(one)[0] == "passed"
    assert not list(tmp_path.iterdir())


def test_a_loss_far_from_the_plain_run_fails():
    one = matrix.Combination("cpu", *[matrix.NONE] * 4)
    assert judge({one: ("passed", "1.3000")}, 0.2)[one][0] == "failed"
