"""NVIDIA's management library by ctypes: what the cards are, without CUDA and without torch.

NVML API Reference Guide, https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any, NamedTuple


class NvmlCard(NamedTuple):
    """One card in PCI order."""

    name: str
    uuid: str
    memory: int | None
    """Bytes in all."""
    arch: str
    """As `sm_90`."""


class NvmlReport(NamedTuple):
    """What the library answered."""

    driver: str | None
    cards: tuple[NvmlCard, ...]


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def report(patience: float = 0.03) -> NvmlReport | None:
    """Ask the library; None where it is missing, fails, or is not done after `patience` seconds.

    Its first call takes seconds on machines whose driver sleeps while no program uses the cards.
    """
    answers: list[NvmlReport] = []

    def ask() -> None:
        found = _ask()
        if found is not None:
            answers.append(found)

    thread = threading.Thread(target=ask, name="nvml", daemon=True)
    thread.start()
    thread.join(patience)
    return answers[0] if answers else None


def _ask() -> NvmlReport | None:
    try:
        library = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return None
        try:
            count = ctypes.c_uint()
            if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
                return None
            cards = [_card(library, index) for index in range(count.value)]
            driver = _text(library.nvmlSystemGetDriverVersion)
            return NvmlReport(driver or None, tuple(card for card in cards if card is not None))
        finally:
            library.nvmlShutdown()
    except (OSError, AttributeError):  # no such library; no such function in an old one
        return None


def _card(library: Any, index: int) -> NvmlCard | None:
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) != 0:
        return None
    memory = _Memory()
    has_memory = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
    major, minor = ctypes.c_int(), ctypes.c_int()
    has_arch = (
        library.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
        == 0
    )
    return NvmlCard(
        name=_text(library.nvmlDeviceGetName, handle),
        uuid=_text(library.nvmlDeviceGetUUID, handle),
        memory=memory.total if has_memory else None,
        arch=f"sm_{major.value}{minor.value}" if has_arch else "",
    )


def _text(function: Any, *arguments: Any) -> str:
    buffer = ctypes.create_string_buffer(96)
    if function(*arguments, buffer, ctypes.c_uint(len(buffer))) != 0:
        return ""
    return buffer.value.decode(errors="replace")
