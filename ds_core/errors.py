"""The errors of ds-core: each says what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable


class DsError(Exception):
    """Base of every error that ds-core raises on purpose.

    Args:
        what: One sentence that names the culprit.
        mend: What the reader can do about it; empty where nothing can be advised.
        where: A file and line, a component or an entry point; empty where ``what`` says it.
    """

    def __init__(self, what: str, *, mend: str = "", where: str = "") -> None:
        self.what = what
        self.mend = mend
        self.where = where
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} {self.mend}" if self.mend else text

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by their positional arguments, which here is only the message.
        return _rebuild, (type(self), self.what, self.mend, self.where)


def _rebuild(kind: type[DsError], what: str, mend: str, where: str) -> DsError:
    return kind(what, mend=mend, where=where)


class ConfigError(DsError):
    """A setting is unknown or has a value that it cannot have."""

    option: str = ""
    """The option of a component or of a session that is meant, where it is one."""


class PluginError(DsError):
    """An installed plugin cannot be used: broken, disabled, incompatible or ambiguous."""


class UnknownNameError(DsError):
    """A name that nothing installed answers to."""


class HookError(DsError):
    """A component's hook raised, or does not match its specification."""


class RefusedError(DsError):
    """The pieces asked for cannot work together, or not on this model or machine."""


class BackendError(DsError):
    """The hardware, its driver or its software is not usable."""


class SessionError(DsError):
    """A session is used in an order that it does not allow."""


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """A clause with the names closest to ``name``, or an empty string.

    >>> nearest("bf17", ["bf16", "fp32"])
    "Did you mean 'bf16'?"
    """
    import difflib  # only once something is wrong

    found = difflib.get_close_matches(name.lower(), sorted(set(known)), n=limit, cutoff=0.55)
    return f"Did you mean {' or '.join(repr(match) for match in found)}?" if found else ""
