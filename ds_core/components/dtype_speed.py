"""Which dtypes work on a device and which are fast, measured once and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pydantic

from ds_core.components import disk_cache
from ds_core.components.backend import DtypeSupport
from ds_core.errors import BackendError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FAST = 1.2
"""A dtype is fast when its matrix multiply has this many times float32's throughput."""

_METHOD = "1"  # Part of the key: another way of measuring must not read this one's results.
_LOW = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp8_e4m3fn": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}
_SIZES = (128, 256, 512, 1024, 2048, 4096)
_LONG_ENOUGH = 2e-3  # seconds: float32's multiply then outweighs launch and synchronisation
_HOPELESS = 4.0  # times slower than float32: larger sizes would take seconds and change nothing
_ROUNDS, _FINAL_ROUNDS = 3, 7


class _Entry(pydantic.BaseModel):
    key: dict[str, str]
    dtypes: dict[str, DtypeSupport]


def measure(
    device_type: str,
    device_index: int = 0,
    key: dict[str, str] | None = None,
    *,
    tf32: bool = False,
) -> dict[str, DtypeSupport]:
    """What each dtype is worth on a device, from the disk cache where it was measured before.

    A dtype works when a small convolution and linear layer under autocast give outputs and
    gradients close to float64's. It is fast when a square matrix multiply reaches `FAST` times
    float32's throughput: the best of interleaved runs, at a size that doubles until float32 takes
    2 ms. A CPU is measured on one thread and in processor time: on a busy machine a parallel
    multiply waits a scheduler's turn for its last thread, whatever the dtype, which hides all
    differences. Neither random state, nor grad mode, nor thread count, nor torch's precision
    settings are changed.

    Args:
        device_type: What `torch.device` calls it.
        device_index: Which of them.
        key: What identifies the hardware, as its name and architecture. Torch's version is added.
        tf32: Measure float32 tensors multiplied as TensorFloat-32, too (NVIDIA, from Ampere on).

    Returns:
        `fp32`, `tf32` where asked for, `bf16`, `fp16`, `fp8_e4m3fn` and `fp8_e5m2`, as far as
        torch has them.

    Raises:
        BackendError: The device cannot even compute in float32, or has no memory left.
    """
    identity = _identity(device_type, key or {}, tf32)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    name = f"dtypes-{device_type}-{digest}.json"
    known = _load(name, identity)
    if known is None:
        measured = _measure(device_type, device_index, tf32)
        # Processes that start together should agree: whoever stored first is believed.
        known = _load(name, identity)
        if known is None:
            known = measured
            disk_cache.store(name, _Entry(key=identity, dtypes=known).model_dump_json(indent=1))
    return known


def _identity(device_type: str, key: dict[str, str], tf32: bool) -> dict[str, str]:
    import torch

    return {
        **key,
        "device_type": device_type,
        "torch": torch.__version__,
        "tf32": str(tf32),
        "isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "method": _METHOD,
    }


def _load(name: str, identity: dict[str, str]) -> dict[str, DtypeSupport] | None:
    text = disk_cache.load(name)
    if text is None:
        return None
    try:
        entry = _Entry.model_validate_json(text)
    except ValueError:
        return None
    return entry.dtypes if entry.key == identity else None


def _measure(device_type: str, device_index: int, tf32: bool) -> dict[str, DtypeSupport]:
    import torch

    device = (
        torch.device("cpu") if device_type == "cpu" else torch.device(device_type, device_index)
    )
    dtypes = {name: getattr(torch, low) for name, low in _LOW.items() if hasattr(torch, low)}
    with _undisturbed(device):
        try:
            broken = _failure(device, torch.float32)
            if broken:
                raise BackendError(f"{device} does not compute in float32. {broken}")
            failures = {name: _failure(device, dtype) for name, dtype in dtypes.items()}
            working = {name: dtype for name, dtype in dtypes.items() if not failures[name]}
            speedups = _speedups(device, working, tf32)
        except torch.OutOfMemoryError as error:
            raise BackendError(
                f"{device} has no memory left to measure what it can do.",
                mend="Free some, or choose another device.",
            ) from error
    found = {"fp32": DtypeSupport(works=True, fast=True, speedup=1.0, reason="The baseline.")}
    for name in (["tf32"] if tf32 else []) + list(dtypes):
        if failures.get(name):
            found[name] = DtypeSupport(works=False, reason=failures[name])
        else:
            ratio = speedups[name]
            found[name] = DtypeSupport(
                works=True,
                fast=ratio >= FAST,
                speedup=round(ratio, 4),
                reason=f"{ratio:.2g}x the speed of float32's matrix multiply, as measured.",
            )
    return found


@contextlib.contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Neither feel the modes that the caller is in, nor leave any behind."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", device.type}:
            if torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_float32_matmul("ieee"))
        if deterministic:  # cuBLAS would refuse without its workspace
            torch.use_deterministic_algorithms(False)
            stack.callback(torch.use_deterministic_algorithms, True, warn_only=warn_only)
        torch.set_num_threads(1)
        stack.callback(torch.set_num_threads, threads)
        yield


@contextlib.contextmanager
def _float32_matmul(precision: str) -> Iterator[None]:
    """Multiply float32 matrices in `ieee` float32 or as `tf32`."""
    import torch

    places: list[Any] = [torch.backends.cuda, torch.backends.mkldnn]
    owners: list[Any] = [getattr(place, "matmul", None) for place in places]
    if all(hasattr(owner, "fp32_precision") for owner in owners):
        before = [owner.fp32_precision for owner in owners]
        try:
            for owner in owners:
                owner.fp32_precision = precision
            yield
        finally:
            for owner, value in zip(owners, before, strict=True):
                owner.fp32_precision = value
    else:  # before torch 2.9
        old = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest" if precision == "ieee" else "high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(old)


def _failure(device: torch.device, dtype: torch.dtype) -> str:
    """Why training in `dtype` does not work, as a sentence; empty where it does."""
    import torch

    try:
        got = _step(device, dtype)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:200]
        return f"{type(error).__name__}: {first}" if first else f"It raised {type(error).__name__}."
    if got is None:
        return f"Autocast does not compute in it on {device.type}."
    expected = _step(torch.device("cpu"), torch.float64)
    assert expected is not None
    if not all(bool(torch.isfinite(value).all()) for value in got):
        return "A small convolution and linear layer gave inf or nan."
    # Roundings along one small step add up to a few units in the last place.
    tolerance = max(8 * torch.finfo(dtype).eps, 2e-3)
    error_size = max(
        float((value - right).norm() / right.norm())
        for value, right in zip(got, expected, strict=True)
    )
    if error_size > tolerance:
        return f"A small convolution and linear layer were off by {error_size:.2g}, relatively."
    return ""


def _step(device: torch.device, dtype: torch.dtype) -> list[Tensor] | None:
    """Output and gradients of a convolution and a linear layer, as float64 on the CPU.

    float32 and float64 compute plainly, others under autocast. None where autocast leaves the
    dtype out.
    """
    import torch
    from torch.nn import functional

    plain = dtype in (torch.float32, torch.float64)
    random = torch.Generator("cpu").manual_seed(0)

    def tensor(*shape: int, scale: float = 1.0) -> Tensor:
        values = torch.randn(shape, generator=random, dtype=torch.float64, device="cpu") * scale
        values = values if dtype == torch.float64 else values.float()
        return values.to(device).requires_grad_()

    images, kernel = tensor(4, 8, 8, 8), tensor(8, 8, 3, 3, scale=72**-0.5)
    matrix = tensor(16, 512, scale=512**-0.5)
    weights = tensor(4, 16)
    region = contextlib.nullcontext() if plain else torch.autocast(device.type, dtype)
    with region:
        output = functional.linear(functional.conv2d(images, kernel, padding=1).flatten(1), matrix)
    if output.dtype != dtype:
        return None
    loss = (output.to(weights.dtype) * weights).sum()
    gradients = torch.autograd.grad(loss, (images, kernel, matrix))
    return [value.detach().to("cpu", torch.float64) for value in (output, *gradients)]


def _speedups(device: torch.device, dtypes: dict[str, torch.dtype], tf32: bool) -> dict[str, float]:
    """Matrix-multiply throughput over float32's, by dtype."""
    import torch

    running = {"fp32": torch.float32, **({"tf32": torch.float32} if tf32 else {}), **dtypes}
    speedups: dict[str, float] = {}
    for size in _SIZES:
        try:
            seconds = _times(device, size, running, _ROUNDS)
        except torch.OutOfMemoryError:
            if not speedups:
                raise
            return speedups
        base = min(seconds["fp32"])
        speedups |= {name: base / min(times) for name, times in seconds.items()}
        running = {
            name: dtype for name, dtype in running.items() if min(seconds[name]) < _HOPELESS * base
        }
        if base >= _LONG_ENOUGH or len(running) == 1:
            break
    seconds = _times(device, size, running, _FINAL_ROUNDS)
    base = min(seconds["fp32"])
    return speedups | {name: base / min(times) for name, times in seconds.items()}


def _times(
    device: torch.device, size: int, dtypes: dict[str, torch.dtype], rounds: int
) -> dict[str, Sequence[float]]:
    """Seconds of each of `rounds` multiplies of two `size` x `size` matrices, by dtype."""
    import torch

    random = torch.Generator("cpu").manual_seed(0)
    side = _SIZES[0]
    tile = torch.randn(side, side, generator=random, dtype=torch.float32, device="cpu").to(device)
    matrix = tile.repeat(size // side, size // side)
    operands = {name: matrix.to(dtype) for name, dtype in dtypes.items()}

    # One thread's processor time leaves out what other programs take; Windows counts it coarsely.
    fine = time.get_clock_info("process_time").resolution < 1e-5
    clock = time.process_time if device.type == "cpu" and fine else time.perf_counter

    def seconds(name: str) -> float:
        operand = operands[name]
        with _float32_matmul("tf32") if name == "tf32" else contextlib.nullcontext():
            _wait(operand)
            start = clock()
            result = torch.mm(operand, operand)
            _wait(result)
            return clock() - start

    for name in operands:
        seconds(name)
    rows = [{name: seconds(name) for name in operands} for _ in range(rounds)]
    return {name: [row[name] for row in rows] for name in operands}


def _wait(tensor: Tensor) -> None:
    # Reading a value waits for it on any device, also where work is batched up until asked for.
    float(tensor[0, 0])
