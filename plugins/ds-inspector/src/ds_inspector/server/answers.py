"""What the page asks for, as JSON: computed once for each recording and arguments."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import orjson

from ds_core.errors import ConfigError, DsError, UnknownNameError
from ds_inspector.recording import Recording
from ds_inspector.server.query import Query
from ds_inspector.server.questions import flame_question

Key = tuple[str, tuple[tuple[str, str], ...]]

Opened = Future[Sequence[Recording]]
"""Recordings that are there, or will be."""

_KEPT = 256 * 2**20
"""Bytes of answers that are kept; the oldest go first."""


class Answers:
    """Answers about one or two recordings, in any thread.

    Args:
        recordings: What was opened, or will be: none, one, or two to compare.
        title: Of the page; by default the first recording's.
        live: Whether a running session is streamed.
    """

    def __init__(
        self,
        recordings: Sequence[Recording] | Opened,
        *,
        title: str = "",
        live: bool = False,
    ) -> None:
        self._opened = recordings if isinstance(recordings, Future) else _done(recordings)
        self._title = title
        self.live = live
        self._known: OrderedDict[Key, Future[bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def recordings(self) -> Sequence[Recording]:
        """What was opened, once it is.

        Raises:
            DsError: It could not be opened.
        """
        return self._opened.result()

    @property
    def title(self) -> str:
        """Of the page."""
        return self._title or (self.recordings[0].about.title if self.recordings else "")

    @property
    def view(self) -> str:
        """Which view the page begins with."""
        if not self.recordings:
            return "live"
        first = self.recordings[0]
        return "flame" if first.events.rows and not first.nodes.rows else "graph"

    def prepare(self) -> None:
        """Compute what the page asks for first, while the browser starts."""
        if self._opened.exception() is not None or not self.recordings:
            return
        view = flame_question(0) if self.view == "flame" else (self.view, {"r": "0"})
        with suppress(DsError):  # which is told to who asks
            self.json(*view)
            self.json("summary", {"r": "0"})

    def json(self, name: str, query: Mapping[str, str]) -> bytes:
        """An answer as JSON; NaN and infinity are null.

        Raises:
            UnknownNameError: Nothing answers to the name.
            ConfigError: The query is not understood.
        """
        if name not in _ENDPOINTS:
            raise UnknownNameError(f"Nothing answers to {name[:40]!r}.")
        key = (name, tuple(sorted(query.items())))
        with self._lock:
            known = self._known.get(key)
            mine = known is None
            if known is None:
                known = self._known[key] = Future()
            else:
                self._known.move_to_end(key)
        if mine:
            self._compute(key, known)
        return known.result()

    def value(self, name: str, **query: str) -> Any:
        """An answer as the page will read it."""
        return orjson.loads(self.json(name, query))

    def _compute(self, key: Key, future: Future[bytes]) -> None:
        name, query = key
        try:
            asked = Query(dict(query))
            found = _ENDPOINTS[name](self, asked)
            encoded = orjson.dumps(
                found, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=_plain
            )
        except BaseException as error:
            with self._lock:
                self._known.pop(key, None)
            future.set_exception(error)
            return
        future.set_result(encoded)
        with self._lock:
            self._bytes += len(encoded)
            while self._bytes > _KEPT and len(self._known) > 1:
                oldest, kept = next(iter(self._known.items()))
                if not kept.done():
                    break
                del self._known[oldest]
                self._bytes -= len(kept.result())

    def recording(self, query: Query) -> Recording:
        """The one that a query means."""
        if not self.recordings:
            raise UnknownNameError("No recording is open.")
        return self.recordings[query.integer("r", len(self.recordings))]

    def other(self, recording: Recording) -> Recording | None:
        """What a recording is compared with."""
        others = [one for one in self.recordings if one is not recording]
        return others[0] if others else None


def _done(recordings: Sequence[Recording]) -> Opened:
    opened: Opened = Future()
    opened.set_result(recordings)
    return opened


def _plain(value: Any) -> Any:
    """What orjson does not know: arrays that are not contiguous, and numpy's scalars."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be sent.")


def _session(answers: Answers, query: Query) -> Any:
    query.done()
    return {
        "title": answers.title,
        "recordings": [recording.about.title for recording in answers.recordings],
        "live": answers.live,
        "view": answers.view,
    }


def _summary(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.summary import summary

    recording = answers.recording(query)
    query.done()
    return {**summary(recording), "count": len(answers.recordings)}


def _graph(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.groups import graph

    recording, group = answers.recording(query), query.text("group")
    query.done()
    return graph(recording, group=group, against=answers.other(recording))


def _search(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.groups import search

    recording, text = answers.recording(query), query.text("q", 200)
    query.done()
    return search(recording, text)


def _flame(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.flame import flame

    recording = answers.recording(query)
    step = query.optional("step", recording.steps.rows)
    by = query.choice("by", ("module", "operator", "source"))
    phase = query.choice("phase", ("all", "forward", "backward", "optimizer"))
    inverted, against = query.flag("inverted"), query.flag("against")
    query.done()
    other = answers.other(recording) if against else None
    if against and other is None:
        raise ConfigError("There is no second recording to compare with.")
    return flame(recording, by=by, phase=phase, step=step, inverted=inverted, against=other)


def _memory(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.memory import memory

    recording = answers.recording(query)
    start, end = query.number("from"), query.number("to")
    query.done()
    return memory(recording, start=start, end=end)


def _operators(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.operators import operators

    recording = answers.recording(query)
    query.done()
    return operators(recording)


def _advice(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.advice import advice

    recording = answers.recording(query)
    query.done()
    # What was tried is seen in the later of the two: the one opened first is looked at.
    before = answers.other(recording) if recording is answers.recordings[0] else None
    return advice(recording, before=before)


def _difference(answers: Answers, query: Query) -> Any:
    from ds_inspector.analysis.difference import difference

    query.done()
    if len(answers.recordings) < 2:
        raise ConfigError("There is no second recording to compare with.")
    after, before = answers.recordings
    return difference(before, after)


_ENDPOINTS: dict[str, Callable[[Answers, Query], Any]] = {
    "session": _session,
    "summary": _summary,
    "graph": _graph,
    "graph/search": _search,
    "flame": _flame,
    "memory": _memory,
    "operators": _operators,
    "advice": _advice,
    "difference": _difference,
}
