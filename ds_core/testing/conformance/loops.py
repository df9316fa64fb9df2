"""Checks of the user's loop: whatever people do in theirs goes on."""

from __future__ import annotations

import json
import math
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ds_core.errors import DsError
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.trains import Trains


class LoopChecks(Trains):
    """The loop stays the user's."""

    @check(
        "loop.accumulation",
        "gradients may be accumulated over batches",
        "Take hooks on gradients as one arrival of several, and steps as steps.",
    )
    def test_gradient_accumulation(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            for x, y in jobs.batches(4):
                for part in range(2):
                    inputs, labels = session.to_device(x[part::2], y[part::2])
                    torch.autograd.backward(F.cross_entropy(made(inputs), labels) / 2)
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)
            assert session.steps == 4

    @check(
        "loop.scheduler",
        "learning-rate schedulers wrap the optimizer's step",
        "Leave optimizer.step and the parameter groups alone.",
    )
    def test_a_scheduler(self) -> None:
        made, optimizer = self.job()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        with self.session(made, optimizer) as session, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for _ in range(3):
                self.train(session, 1)
                scheduler.step()
        assert scheduler.get_last_lr() == [0.1 * 0.5**3]

    @check(
        "loop.closure",
        "optimizers such as LBFGS evaluate the model inside their step",
        "Use ds_before_step, which the session calls at the right moment.",
    )
    def test_a_closure(self) -> None:
        made, _ = self.job()
        optimizer = torch.optim.LBFGS(made.parameters(), max_iter=3, lr=0.1)
        with self.session(made, optimizer) as session:
            x, y = session.to_device(*next(jobs.batches(1)))

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = F.cross_entropy(made(x), y)
                torch.autograd.backward(loss)
                return loss

            optimizer.step(closure)  # type: ignore[no-untyped-call]
            assert all(p.isfinite().all() for p in made.parameters())

    @check(
        "loop.two-optimizers",
        "some models are trained by two optimizers",
        "Follow all of session.optimizers.",
    )
    def test_two_optimizers(self) -> None:
        made, _ = self.job()
        first = torch.optim.SGD(made.get_submodule("first").parameters(), 0.1)
        rest = [p for name, p in made.named_parameters() if not name.startswith("first.")]
        second = torch.optim.AdamW(rest, 1e-2)
        with self.session(made, [first, second]) as session:
            for x, y in jobs.batches(3):
                inputs, labels = session.to_device(x, y)
                torch.autograd.backward(F.cross_entropy(made(inputs), labels))
                first.step()
                second.step()
                first.zero_grad()
                second.zero_grad()
            assert session.steps == 6

    @check(
        "loop.empty-batch",
        "the last batch of a filtered data set may be empty",
        "Treat tensors without elements as what they are: no reductions that fail on them.",
    )
    def test_an_empty_batch(self) -> None:
        made, optimizer = self.job(jobs.Conv)
        with self.session(made, optimizer) as session:
            out = made(torch.zeros(0, 8, device=session.device))
            assert out.shape == (0, 4)
            torch.autograd.backward(out.sum())
            optimizer.step()
            optimizer.zero_grad()
            self.train(session, 2)

    @check(
        "loop.unused-parameters",
        "a forward may leave parameters unused",
        "Expect parameters without a gradient.",
    )
    def test_unused_parameters(self) -> None:
        made, _ = self.job()
        made.add_module("unused", nn.Linear(3, 3))
        optimizer = jobs.sgd(made)
        with self.session(made, optimizer) as session:
            self.train(session, 3)

    @check(
        "loop.freezing",
        "layers are frozen and unfrozen while training",
        "Look at requires_grad when it matters, not once.",
    )
    def test_freezing_and_unfreezing(self) -> None:
        made, _ = self.job()
        optimizer = torch.optim.SGD(made.parameters(), 0.1)
        first = made.get_submodule("first")
        with self.session(made, optimizer) as session:
            self.train(session, 1)
            first.requires_grad_(False)
            self.train(session, 1)
            first.requires_grad_(True)
            self.train(session, 1)

    @check(
        "loop.non-finite",
        "a batch may give nan or inf gradients",
        "Skip the step, go on, or raise a DsError: never corrupt state of your own.",
    )
    @pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
    def test_non_finite_gradients(self, value: str) -> None:
        made, optimizer = self.job()
        before = jobs.snapshot(made, optimizer)
        with self.session(made, optimizer) as session:
            self.train(session, 2)
            values = jobs.values(made)
            x, y = session.to_device(*next(jobs.batches(1)))
            made.eval()
            torch.autograd.backward(F.cross_entropy(made(x), y) * float(value))
            try:
                optimizer.step()
            except DsError:
                assert jobs.same_values(made, values)
            optimizer.zero_grad()
            json.dumps(session.report().model_dump(mode="json"))
            # Whatever it did, a sound model must train on.
            made.load_state_dict(values)
            optimizer.state.clear()
            made.train()
            assert all(map(math.isfinite, self.train(session, 2)))
        assert jobs.snapshot(made, optimizer) == before

    @check(
        "loop.evaluation",
        "evaluation goes on between steps",
        "Touch gradients and statistics in training mode only; expect no_grad and inference_mode.",
    )
    @pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
    def test_evaluation_in_between(self, guard: Callable[[], Any]) -> None:
        made, optimizer = self.job()
        x = next(jobs.batches(1))[0]
        with self.session(made, optimizer) as session:
            self.train(session, 2)
            made.eval()
            with guard():
                one, two = made(session.to_device(x)), made(session.to_device(x))
            assert torch.equal(one, two)
            made.train()
            self.train(session, 2)

    @check(
        "loop.keywords",
        "models are called with keyword arguments",
        "Pass args and kwargs on as they came.",
    )
    def test_keyword_arguments(self) -> None:
        made, optimizer = self.job()
        made.eval()
        x = next(jobs.batches(1))[0]
        with self.session(made, optimizer) as session, torch.no_grad():
            assert torch.equal(made(x=session.to_device(x)), made(session.to_device(x)))

    @check(
        "loop.containers",
        "models return dicts, tuples and dataclasses",
        "Reach tensors in outputs with ds_core.nested.map_tensors.",
    )
    def test_outputs_in_containers(self) -> None:
        class Wrapped(jobs.Mlp):
            def forward(self, x: torch.Tensor) -> Any:
                scores = super().forward(x)
                return {"scores": scores, "more": jobs.Outputs(scores * 2, (scores, scores))}

        made, optimizer = self.job(Wrapped)
        with self.session(made, optimizer) as session:
            x, y = session.to_device(*next(jobs.batches(1)))
            out = made(x)
            assert isinstance(out["more"], jobs.Outputs)
            loss = F.cross_entropy(out["scores"], y) + out["more"].extra[1].pow(2).mean()
            torch.autograd.backward(loss)
            optimizer.step()

    @check(
        "loop.threads",
        "data parallel evaluation and servers call a model from other threads",
        "Keep what belongs to one forward in its frame, not in the component.",
    )
    def test_a_forward_in_another_thread(self) -> None:
        made, optimizer = self.job()
        made.eval()
        x = next(jobs.batches(1))[0]
        found: list[torch.Tensor] = []
        with self.session(made, optimizer) as session, torch.no_grad():
            expected = made(session.to_device(x))

            def call() -> None:
                with torch.no_grad():
                    found.append(made(session.to_device(x)))

            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
        assert torch.equal(found[0], expected)

    @check(
        "compile.forward",
        "users compile their models",
        "Surround forwards with plain code that torch.compile can trace.",
    )
    @pytest.mark.parametrize("when", ["before", "after"])
    def test_torch_compile(self, when: str) -> None:
        eager, optimizer = self.job(jobs.Conv)
        with self.session(eager, optimizer) as session:
            expected = self.train(session, 3)
        made, optimizer = self.job(jobs.Conv)
        torch.compiler.reset()
        compiled = torch.compile(made, backend="aot_eager")
        if when == "before":
            compiled(next(jobs.batches(1))[0])
        with self.session(made, optimizer) as session:
            if when == "after":
                compiled = torch.compile(made, backend="aot_eager")
            losses = self.train(session, 3, call=compiled)
        assert losses == pytest.approx(expected, rel=max(self.compile_tolerance, 1e-5))
