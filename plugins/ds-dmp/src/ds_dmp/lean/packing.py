"""What becomes of each tensor that autograd saves in one forward."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ds_dmp.lean.budget import AS_IS
from ds_dmp.lean.figures import Figures, Sum
from ds_dmp.lean.geometry import Geometry, geometry_of, is_plain
from ds_dmp.lean.quantize import quantize
from ds_dmp.lean.recompute import Rule, Side, agrees
from ds_dmp.lean.records import Cast, Kept, Mask, Packed, Recent, Recomputed, Record, Saved
from ds_dmp.lean.weights import is_replicated, parameter_behind

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

    from ds_dmp.lean.noise import Noise

SMALLEST = 4096
"""Elements below which a tensor stays as it is."""

STATISTIC = 16
"""A tensor this many times smaller than another of the same call is a statistic of it, as a mean or
a normaliser is: it stays as it is, since each of its elements has a part in many others."""

Key = tuple[Any, ...]


class Unpackable(Protocol):
    """What autograd holds instead of a tensor."""

    def unpack(self) -> Tensor:
        """The tensor."""


@dataclass(frozen=True)
class Settings:
    """What forwards have in common.

    Attributes:
        bits: From a layer to 2, 4, 8, or 16 where its tensors stay as they are.
        noise: Random numbers.
        verified: Modules whose computed output was compared with the real one; forwards add to it.
        pack: Whether activations are packed.
        recompute: Whether outputs are recomputed.
        recast: Whether 16-bit copies of parameters are made again.
        measure: Whether each tensor is compared with what it will come back as.
    """

    bits: Callable[[str], int]
    noise: Noise
    verified: set[str]
    pack: bool
    recompute: bool
    recast: bool
    measure: bool


@dataclass
class Call:
    """A module's forward under way.

    Attributes:
        layer: The module's name.
        rule: How to compute its output; None where that is not to be done. Then the rest is empty.
        module: The module.
        given: How its input lies in memory.
        key: Where its input lies.
        source: What its input became, where it was saved before.
        statistics: One-dimensional tensors that the forward saved.
        largest: Elements of the largest tensor that it saved.
    """

    layer: str
    rule: Rule | None = None
    module: Module | None = None
    given: Geometry | None = None
    key: Key | None = None
    source: Record | None = None
    statistics: list[Tensor] = field(default_factory=list)
    largest: int = 0


class Frame:
    """One forward: what its saved tensors became, by where they lay in memory.

    The records live in autograd's graph and as long as it; the frame ends with the forward.

    Args:
        settings: What to do.
        parameters: Parameters and buffers. They stay as they are and are not counted.
        inputs: What the forward was called with; the same.
    """

    def __init__(
        self, settings: Settings, parameters: Iterable[Tensor], inputs: Iterable[Tensor]
    ) -> None:
        self.figures = Figures()
        self._settings = settings
        self._recent = Recent()
        self._records: dict[Key, Record] = {}
        self._calls = [Call("")]
        self._storages: dict[int, object] = {}
        self._known: dict[int, str] = {}
        self._counted: set[Key] = set()
        self._frozen: dict[torch.Size, list[Tensor]] = {}
        for tensor in parameters:
            self._know(tensor, "parameter")
            if not tensor.requires_grad and tensor.is_floating_point():
                self._frozen.setdefault(tensor.shape, []).append(tensor)
        for tensor in inputs:
            self._know(tensor, "input")

    def close(self) -> None:
        """Let go of everything but the figures."""
        for held in (self._records, self._storages, self._frozen, self._calls):
            held.clear()

    # Modules

    def call(
        self,
        layer: str,
        rule: Rule | None,
        module: Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a module's forward; what it saves belongs to `layer`."""
        import torch

        call = Call(layer)
        if self._settings.recompute and rule is not None and len(args) == 1 and not kwargs:
            given = self._geometry(args[0])
            if given is not None and given.dense and given.distinct == given.size:
                call.rule, call.module, call.given = rule, module, given
                call.key = self._key(args[0], given)
                call.source = self._records.get(call.key)
        self._calls.append(call)
        try:
            output = forward(module, *args, **kwargs)
        finally:
            self._calls.pop()
        if call.rule is not None and torch.is_grad_enabled():
            self._offer(call, args[0], output)
        return output

    def _offer(self, call: Call, given: Tensor, output: Tensor) -> None:
        """Have whoever saves a module's output later compute it from the input that was saved."""
        assert call.key is not None
        # The module itself may have been the one who saved it.
        call.source = call.source or self._records.get(call.key)
        geometry = self._geometry(output)
        if call.source is None or geometry is None or not geometry.dense:
            return
        key = self._key(output, geometry)
        if key != call.key and key not in self._records:
            record = self._recomputed(call, given, output, geometry)
            if record is not None:
                self._records[key] = record

    def _recomputed(
        self, call: Call, given: Tensor, output: Tensor, geometry: Geometry
    ) -> Recomputed | None:
        import torch

        rule = call.rule
        assert rule is not None
        assert call.source is not None
        assert call.given is not None
        with torch.no_grad():
            function = rule.function(call.module, given, call.statistics)
            if function is None:
                return None
            if not rule.exact and call.layer not in self._settings.verified:
                if not agrees(output, function(given)):
                    return None
                self._settings.verified.add(call.layer)
        return Recomputed(self._recent, function, call.source, call.given, geometry, output.dtype)

    # Tensors

    def pack(self, tensor: Tensor) -> Unpackable:
        """What autograd is to hold instead of `tensor`."""
        call = self._calls[-1]
        if is_replicated(tensor):
            return Kept(tensor)
        known = self._known.get(tensor.untyped_storage()._cdata) if is_plain(tensor) else None
        if known is not None:
            if known == "input":
                call.largest = max(call.largest, tensor.numel())
            return Kept(tensor)
        if call.rule is not None and call.rule.statistics and tensor.dim() == 1:
            call.statistics.append(tensor.detach())
        geometry = self._geometry(tensor)
        if geometry is None:
            self._count(call, "kept", tensor, None, _nbytes(tensor))
            return Kept(tensor)
        key = self._key(tensor, geometry)
        if _by_checkpoint():
            self._count(call, "kept", tensor, key, _nbytes(tensor))
            return Kept(tensor)
        side = self._side(call, geometry, key)
        if side is not None:
            mask = Mask(geometry.flatten(tensor), side(call.module))
            call.largest = max(call.largest, geometry.numel)
            self._count(call, "recomputed", tensor, key, mask.nbytes)
            return Saved(mask, geometry)
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = self._record(call, tensor, geometry, key)
        elif isinstance(record, Recomputed):
            self._count(call, "recomputed", tensor, key, 0, record)
        if not isinstance(record, Cast):
            call.largest = max(call.largest, geometry.numel)
        return Kept(tensor) if isinstance(record, Kept) else Saved(record, geometry)

    def _side(self, call: Call, geometry: Geometry, key: Key) -> Callable[[Any], Side] | None:
        """Where the module's backward asks for no more than sides of a threshold: which."""
        rule = call.rule
        if rule is None or not geometry.dense:
            return None
        # A result that cannot be recomputed is packed for the next layer anyway, zeros and all.
        if rule.saves_result and not self._is_result(call, geometry, key):
            return None
        return rule.side

    def _record(self, call: Call, tensor: Tensor, geometry: Geometry, key: Key) -> Record:
        settings = self._settings
        nbytes = geometry.numel * tensor.dtype.itemsize
        parameter = parameter_behind(tensor, self._frozen)
        if parameter is not None:
            if settings.recast and geometry.dense and geometry.numel == parameter.numel():
                self._count(call, "weight casts", tensor, key, 0)
                return Cast(self._recent, parameter, tensor.dtype)
            self._count(call, "kept", tensor, key, nbytes)
            return Kept(tensor, geometry)
        if self._is_result(call, geometry, key):
            recomputed = self._recomputed(call, tensor, tensor, geometry)
            if recomputed is not None:
                self._count(call, "recomputed", tensor, key, 0, recomputed)
                return recomputed
        quantized = None
        if settings.pack and geometry.numel * STATISTIC > call.largest:
            figures = self.figures.layer(call.layer)
            bits = settings.bits(call.layer)
            if bits == AS_IS:
                figures.note(geometry.numel, nbytes, nbytes, 0.0)
            else:
                quantized = quantize(geometry.flatten(tensor), bits, settings.noise)
            if quantized is not None:
                figures.note(geometry.numel, nbytes, quantized.nbytes, quantized.spread)
                packed = Packed(self._recent, quantized)
                self._count(call, "packed", tensor, key, quantized.nbytes, packed)
                return packed
        self._count(call, "kept", tensor, key, nbytes)
        return Kept(tensor, geometry)

    def _is_result(self, call: Call, geometry: Geometry, key: Key) -> bool:
        rule = call.rule
        if rule is None or not rule.saves_result or call.source is None:
            return False
        return geometry.dense and key != call.key

    def _count(
        self,
        call: Call,
        mechanism: str,
        tensor: Tensor,
        key: Key | None,
        now: int,
        lossy: Record | None = None,
    ) -> None:
        """Take note of what a tensor became. What it was counts once for each key."""
        sum = Sum(now=now)
        if key not in self._counted:
            if key is not None:
                self._counted.add(key)
            sum.tensors = 1
            sum.before = sum.float32 = _nbytes(tensor)
            if mechanism == "weight casts":
                sum.float32 = 0  # the copy would not be there
            elif tensor.is_floating_point():
                sum.float32 = sum.before * 4 // tensor.dtype.itemsize
        if self._settings.measure and lossy is not None:
            geometry = geometry_of(tensor)
            assert geometry is not None
            exact = geometry.flatten(tensor).float()
            error = (lossy.value().float() - exact).norm() / exact.norm().clamp_min(1e-30)
            sum.error, sum.measured = float(error), 1
        self.figures.add(call.layer, mechanism, sum)

    # Memory

    def _know(self, tensor: Tensor, what: str) -> None:
        if is_plain(tensor):
            self._known[tensor.untyped_storage()._cdata] = what

    def _geometry(self, tensor: Any) -> Geometry | None:
        """Of a tensor that can be packed; None of others."""
        import torch

        if (
            not is_plain(tensor)
            or tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16)
            or tensor.device.type == "meta"
            or tensor.numel() < SMALLEST
        ):
            return None
        geometry = geometry_of(tensor)
        return geometry if geometry is not None and geometry.numel >= SMALLEST else None

    def _key(self, tensor: Tensor, geometry: Geometry) -> Key:
        """The same for tensors that are the same elements, however they are viewed."""
        place = self._storage(tensor), tensor.storage_offset(), tensor._version, tensor.dtype
        if geometry.dense:
            return *place, geometry.numel
        return *place, geometry.distinct, geometry.stride

    def _storage(self, tensor: Tensor) -> int:
        """What identifies a tensor's storage in this forward, even once that is freed."""
        from torch.multiprocessing.reductions import StorageWeakRef

        storage = tensor.untyped_storage()
        name: int = storage._cdata
        if name not in self._storages:
            # An address is not used again while there is a weak reference to what was there.
            self._storages[name] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        return name


def _nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor's distinct elements; 0 where that is not known."""
    if not is_plain(tensor):
        return 0
    geometry = geometry_of(tensor) if tensor.numel() >= SMALLEST else None
    return (geometry.numel if geometry else tensor.numel()) * tensor.dtype.itemsize


def _by_checkpoint() -> bool:
    """Whether the tensor that is being saved is the input of `torch.utils.checkpoint`.

    A whole block is computed from it again: rounded, it would turn ReLUs inside on and off, which
    costs more than it saves. Only who calls `Function.apply` tells it from other tensors.
    """
    frame = sys._getframe(2)
    for _ in range(2):
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
