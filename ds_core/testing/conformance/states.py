"""Checks of copies, checkpoints and processes."""

from __future__ import annotations

import copy
import io
import json
import multiprocessing
import os
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from ds_core.errors import SessionError
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.subject import attach
from ds_core.testing.conformance.trains import MODELS, Trains


class StateChecks(Trains):
    """What is copied, saved or sent is plain, and continues where it was."""

    @check(
        "copy.deepcopy",
        "averaged and teacher models are deep copies, and plain",
        "Keep nothing of the session in the model's own attributes.",
    )
    @MODELS
    def test_a_deep_copy_is_plain(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        with self.session(made, optimizer) as session:
            self.train(session, 2)
            copied = copy.deepcopy(made)
            assert type(copied) is model
            assert jobs.same_values(copied, jobs.values(made))
            assert not any(p._backward_hooks for p in copied.parameters())

    @check(
        "copy.pickle",
        "models are saved whole and sent to processes",
        "Keep nothing of the session in the model's own attributes.",
    )
    def test_a_pickle_is_plain(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 2)
            copied = pickle.loads(pickle.dumps(made))
            assert type(copied) is jobs.Mlp
            assert jobs.same_values(copied, jobs.values(made))

    @check(
        "state.continues",
        "a resumed session must go on exactly where it was saved",
        "Return everything that later decisions depend on from state_dict.",
    )
    @MODELS
    def test_a_resumed_session_continues_identically(self, model: type[nn.Module]) -> None:
        made, optimizer = self.job(model)
        with self.session(made, optimizer, total_steps=20) as session:
            self.train(session, 7)
            saved = copy.deepcopy((made.state_dict(), optimizer.state_dict(), session.state_dict()))
            expected = self.train(session, 7, seed=2)
            values = jobs.values(made)
        made, optimizer = self.job(model)
        with self.session(made, optimizer, total_steps=20) as session:
            made.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])
            session.load_state_dict(saved[2])
            assert self.train(session, 7, seed=2) == expected
            assert jobs.same_values(made, values)

    @check(
        "state.restored",
        "what a component saved must be what it holds after loading, reports included",
        "Take back in load_state_dict everything that state_dict returned.",
    )
    def test_a_loaded_state_is_the_saved_one(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 7)
            saved = copy.deepcopy(session.state_dict())
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            session.load_state_dict(copy.deepcopy(saved))
            different = jobs.difference(session.state_dict(), saved)
            assert not different, f"loaded against saved: {different}"

    @check(
        "state.safe",
        "checkpoints are loaded with weights_only=True",
        "Return tensors, numbers, strings, lists and dicts from state_dict, nothing else.",
    )
    def test_state_loads_without_pickled_code(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 3)
            file = io.BytesIO()
            torch.save(session.state_dict(), file)
            file.seek(0)
            session.load_state_dict(torch.load(file, weights_only=True))
            self.train(session, 1)

    @check(
        "state.independent",
        "a saved state must not change while training goes on",
        "Return copies from state_dict where values are changed in place.",
    )
    def test_a_saved_state_does_not_change(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 3)
            state = session.state_dict()
            before = copy.deepcopy(state)
            self.train(session, 3)
            different = jobs.difference(state, before)
            assert not different, f"after three more steps against when it was saved: {different}"

    @check(
        "report.json",
        "reports are read by people and by programs",
        "Return JSON-compatible values from report().",
    )
    def test_report_after_use(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 3)
            report = session.report()
            json.loads(report.model_dump_json())
            assert self.component.name in str(report)

    @check(
        "sessions.two",
        "several models may be trained in one process",
        "Keep state in the component's own attributes.",
    )
    def test_two_sessions_at_once(self) -> None:
        alone, optimizer = self.job()
        with self.session(alone, optimizer) as session:
            expected = self.train(session, 4)
        (one, first), (two, second) = self.job(), self.job()
        with self.session(one, first) as a, self.session(two, second) as b:
            found = [(self.train(a, 1, seed=s), self.train(b, 1, seed=s)) for s in (1, 2)]
        assert all(x == y for x, y in found)
        assert found[0][0][0] == expected[0]

    @check(
        "sessions.nested",
        "a part of an attached model may be attached itself by someone else",
        "Change only the model that you were given, through session.changes.",
    )
    def test_a_second_session_elsewhere_does_not_disturb(self) -> None:
        made, optimizer = self.job()
        other = jobs.Conv()
        with self.session(made, optimizer) as session:
            plain = attach(other, jobs.sgd(other), backend=self.backend)
            self.train(session, 2)
            plain.detach()
            self.train(session, 2)
            with pytest.raises(SessionError):
                attach(made, optimizer, backend=self.backend)

    @check(
        "processes.spawn",
        "data loaders and launchers start processes afresh",
        "Let the component's module be imported anywhere, and hold nothing that cannot be.",
    )
    def test_spawn(self) -> None:
        self._in_process("spawn")

    @check(
        "processes.fork",
        "data loaders fork the training process",
        "Start no threads and hold no locks in the component between steps.",
    )
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_fork(self) -> None:
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            if session.device.type != "cpu":
                pytest.skip("torch forbids backward in a process forked after an accelerator's")
            self.train(session, 1)
            self._in_process("fork")
            self.train(session, 1)

    def _in_process(self, method: str) -> None:
        context: Any = multiprocessing.get_context(method)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
            process = context.Process(
                target=make_and_use, args=(self.kind, self.name, self.options, self.backend)
            )
            process.start()
        process.join(120)
        if process.is_alive():
            process.kill()
            process.join()
            raise AssertionError(f"a process made by {method} hangs")
        assert process.exitcode == 0, f"a process made by {method} ended with {process.exitcode}"

    @check(
        "trace.hooks",
        "DS_TRACE_HOOKS=1 must show what a component does",
        "Leave the hooks to the session's manager, and do not write to stderr yourself.",
    )
    def test_traced(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.setenv("DS_TRACE_HOOKS", "1")
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            self.train(session, 1)
            hooks = [c.name for c in session.manager.get_hookcallers(session.components[0]) or ()]
        printed = capsys.readouterr().err
        assert not hooks or "ds_" in printed


def make_and_use(kind: str, name: str, options: dict[str, Any], backend: str) -> None:
    """Train one step with a component; run in a process of its own."""

    class Suite(StateChecks):
        pass

    Suite.kind, Suite.name, Suite.options, Suite.backend = kind, name, options, backend
    suite = Suite()
    made, optimizer = suite.job()
    torch.set_num_threads(1)
    with attach(made, optimizer, **suite.passes()) as session:
        suite.train(session, 1)
