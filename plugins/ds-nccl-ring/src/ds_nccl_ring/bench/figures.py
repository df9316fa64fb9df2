"""What a benchmark measured, as JSON both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic

from ds_core.errors import ConfigError
from ds_nccl_ring.bounds import bus_factor, lower_bound


class Row(pydantic.BaseModel):
    """One algorithm at one size."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    algorithm: str
    nbytes: int
    elements: int
    dtype: str = "float32"
    operation: str = "sum"
    seconds: float
    """The median over the rounds, of the slowest rank in each."""
    low: float
    """The fastest round."""
    high: float
    """The slowest round."""
    rounds: int
    error: float
    """Relative L2 distance from the sum in float64."""

    @property
    def wire(self) -> str:
        """What the numbers are between hosts."""
        _, _, name = self.algorithm.partition("-")
        return name if name in ("bfloat16", "int8") else "float32"

    @property
    def bandwidth(self) -> float:
        """nccl-tests' algbw, in bytes a second."""
        return self.nbytes / self.seconds


class Figures(pydantic.BaseModel):
    """A whole benchmark."""

    model_config = pydantic.ConfigDict(frozen=True, use_attribute_docstrings=True)

    hosts: tuple[int, ...]
    """Ranks on each."""
    emulated: bool
    """On an emulated cluster, which is no measurement of a real one."""
    rate: float | None
    """Bytes a second of a host's uplink; None on a single host."""
    rate_source: Literal["given", "measured"] = "given"
    rows: tuple[Row, ...]

    @property
    def ranks(self) -> int:
        """Of all hosts."""
        return sum(self.hosts)

    def bus_bandwidth(self, row: Row) -> float:
        """nccl-tests' busbw, in bytes a second."""
        return row.bandwidth * bus_factor(self.ranks)

    def bound(self, row: Row) -> float | None:
        """Seconds that the row's format needs on the uplinks at least; None on one host."""
        if self.rate is None or len(self.hosts) < 2:
            return None
        return lower_bound(row.nbytes, len(self.hosts), self.rate, row.wire)

    def find(self, algorithm: str, nbytes: int) -> Row | None:
        """The row of an algorithm at a size."""
        return next(
            (row for row in self.rows if (row.algorithm, row.nbytes) == (algorithm, nbytes)), None
        )

    @classmethod
    def read(cls, path: Path) -> Figures:
        """What `ds topology bench --json` printed into a file.

        Raises:
            ConfigError: It cannot be read, or is something else.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
        except ValueError:
            raise ConfigError(
                f"{path} does not hold the figures of a benchmark.",
                mend="Write them with: ds topology bench --json.",
            ) from None
