"""What users may say about groups of backend `ds_ring`, in code or in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pydantic

from ds_core.components.component import config_error
from ds_nccl_ring.plan import KIB, MIB, Wire

VARIABLES = {
    "wire": "DS_RING_WIRE",
    "chunk_bytes": "DS_RING_CHUNK_BYTES",
    "calibrate": "DS_RING_CALIBRATE",
}
"""Each option's variable."""


class RingOptions(pydantic.BaseModel):
    """Given as `pg_options` to `init_process_group` or `new_group`; else read from variables."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    wire: Wire = "float32"
    """Numbers between hosts; `float32` is exact, in the tensor's own dtype."""
    chunk_bytes: int = pydantic.Field(default=4 * MIB, ge=64 * KIB)
    """Bytes that go through the stages at a time, over all ranks of a host."""
    calibrate: bool = True
    """Time the algorithms at the first large all-reduce, a second or two, and take the fastest."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> RingOptions:
        """What the variables say.

        Raises:
            ConfigError: One of them has a value that it cannot have.
        """
        said: dict[str, Any] = {
            field: environment[variable]
            for field, variable in VARIABLES.items()
            if environment.get(variable)
        }
        try:
            return cls.model_validate(said)
        except pydantic.ValidationError as error:
            where = VARIABLES[str(error.errors()[0]["loc"][0])]
            raise config_error(error, cls, "backend 'ds_ring'", where) from None
