"""What a session is told about emulated 16-bit units."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar, Literal

from ds_core.builtin.cpu import Cpu
from ds_core.components import Options
from ds_core.components.backend import BackendInfo, DtypeSupport

SPEEDUP = 2.0
"""What the backend claims for a fast dtype: any figure would do that a policy calls fast."""


class Emulated16BitCpu(Cpu):
    """A CPU with emulated 16-bit matrix units; `emulated_16bit` makes it and does the emulating."""

    name: ClassVar[str] = "emulated-16bit"

    class Config(Options):
        """Which dtypes sessions take for fast."""

        dtypes: tuple[Literal["bf16", "fp16"], ...] = ("bf16", "fp16")
        """The dtypes that are called fast."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self.products: Counter[str] = Counter()
        """How many products were emulated, by name of torch's operator."""

    def info(self) -> BackendInfo:
        """Both dtypes work and the configured ones are fast; nothing is measured."""
        dtypes = {"fp32": DtypeSupport(works=True, fast=True, speedup=1.0, reason="The baseline.")}
        for dtype in ("bf16", "fp16"):
            fast = dtype in self.config.dtypes
            dtypes[dtype] = DtypeSupport(
                works=True,
                fast=fast,
                speedup=SPEEDUP if fast else None,
                reason="Emulated for tests; its speed is not measured"
                + (f", {SPEEDUP:g}x is made up." if fast else " and taken for slow."),
            )
        return BackendInfo(device="cpu", name="emulated 16-bit units on a CPU", dtypes=dtypes)
