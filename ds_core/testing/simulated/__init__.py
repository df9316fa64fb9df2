"""A simulated device: torch computes on the CPU under any device name that a plugin asks for.

```python
from ds_core.testing import simulated_device

simulated_device("npu", collective="hccl", memory=2 * 2**30)
model.to("npu"), torch.npu.memory_stats(), torch.autocast("npu", torch.bfloat16)
```

`python -m ds_core.testing.simulated --name npu script.py` runs a script that knows nothing of it.

float32 training gives the CPU's results bit for bit. That is what the device is for: a script, a
backend or a pass that behaves otherwise on it than on the CPU has a mistake that depends on the
device. It says nothing about how fast real hardware is, or how it rounds.

A process has one simulated device, for good, as torch has one place for such devices: tests run
each scenario in a process of its own (`in_fresh_process`).

What works: tensors of type `torch.Tensor`, views, autograd (`torch.func` too), modules and
optimizers, recurrent layers, checkpointing, saving and loading, random numbers apart from the
CPU's, `torch.accelerator`, autocast and `torch.amp.GradScaler`, process groups, DDP, and
`torch.compile` with the backends `eager` and `aot_eager` (there attention is composed of its parts,
which rounds differently from the CPU's). Mixing devices, sparse and quantized tensors and operators
of other libraries fail as on any device that lacks them.

What does not, and raises:

* a second device (`npu:1`): give each process its own, as torchrun does;
* `torch.compile(backend="inductor")`, which has no code generator for it;
* what torch asks of C++ alone: pinned memory (`DataLoader(pin_memory=True)`),
  `torch.Generator("npu")`, waiting for or timing a `torch.Event`, and resizing a storage, which
  FSDP does;
* second derivatives of attention and recurrent layers, which are computed as a whole;
* backward in a process forked after a backward, as torch computes those in threads.

In three places a real device differs in kind: nothing runs asynchronously, what autograd keeps of
attention and recurrent layers is not counted as the device's memory, and weights that autocast
has cast are not kept for a second use.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ds_core.errors import ConfigError, DsError, RefusedError
from ds_core.testing.simulated.faults import Faults
from ds_core.testing.simulated.memory import TORCH_KEYS
from ds_core.testing.simulated.processes import in_fresh_process

if TYPE_CHECKING:
    from ds_core.testing.simulated.device import SimulatedDevice

__all__ = ["TORCH_KEYS", "Faults", "in_fresh_process", "simulated_device"]

_DEFAULTS: dict[str, Any] = {
    "collective": "simccl",
    "memory": 2 * 2**30,
    "memory_keys": TORCH_KEYS,
    "autocast_dtypes": ("bfloat16", "float16"),
    "reduce_ops": ("sum", "avg", "min", "max", "product"),
    "faults": Faults(),
}

_REST = 0.1
"""Seconds at the end of a process."""

_made: tuple[SimulatedDevice, dict[str, Any]] | None = None


def simulated_device(
    name: str = "simulated",
    *,
    collective: str | None = None,
    memory: int | None = None,
    memory_keys: Mapping[str, str] | None = None,
    autocast_dtypes: Sequence[str] | None = None,
    reduce_ops: Sequence[str] | None = None,
    faults: Faults | None = None,
) -> SimulatedDevice:
    """Make torch know a simulated device, once for the process; a second call returns it.

    Args:
        name: What `torch.device` calls it: `npu`, `hpu`, or any name that is free in `torch`.
        collective: What `torch.distributed` calls its collective library; default `simccl`.
        memory: Bytes in all; default 2 GiB.
        memory_keys: Names in `torch.<name>.memory_stats()` of the figures to show, which are the
            keys of `TORCH_KEYS`; that is the default.
        autocast_dtypes: What autocast may compute in; default `bfloat16` and `float16`.
        reduce_ops: What its collective library can reduce by; default `sum`, `avg`, `min`, `max`
            and `product`.
        faults: What it does wrong from the start; `SimulatedDevice.inject` does so for a while.

    Raises:
        ConfigError: A value is none that a device can have.
        RefusedError: The process has a simulated device already that is another one.
        DsError: This torch cannot have devices written in Python.
    """
    global _made
    given = {key: value for key, value in locals().items() if key != "name" and value is not None}
    if _made is not None:
        device, settings = _made
        different = [key for key in given if given[key] != settings[key]]
        if device.name != name or different:
            raise RefusedError(
                f"This process has a {device} already"
                + (f", with another {different[0]}." if device.name == name else "."),
                mend="torch has room for one: start another process, as `in_fresh_process` does.",
            )
        return device
    settings = _DEFAULTS | given
    _check(name, settings)
    from ds_core.testing.simulated.device import register

    device = register(name, **settings)
    _made = device, settings
    # Autograd's thread of the device lets go of tensors a moment after `backward` has returned. One
    # that asks for the interpreter's lock once the interpreter ends is cut off, and torch aborts.
    atexit.register(time.sleep, _REST)
    return device


def _check(name: str, settings: dict[str, Any]) -> None:
    import torch
    import torch.utils.backend_registration as registration

    if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
        raise DsError(
            f"torch {torch.__version__} cannot have devices written in Python.",
            mend="pip install 'torch>=2.13'",
        )
    if not name.isidentifier() or not name.islower() or hasattr(torch, name) or name == "hip":
        raise ConfigError(
            f"A simulated device cannot be called {name!r}.",
            mend="Use a lower-case name that means nothing to torch, as 'npu' or 'hpu'.",
        )
    if settings["memory"] <= 0:
        raise ConfigError(f"A simulated device cannot have {settings['memory']} bytes of memory.")
