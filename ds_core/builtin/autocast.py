"""One dtype for the whole forward, through torch's autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from ds_core.components import Backend, Options, PrecisionPolicy
from ds_core.errors import ConfigError, RefusedError
from ds_core.hookspecs import hookimpl
from ds_core.nested import map_tensors
from ds_core.notices import warn
from ds_core.scaling import LossScale

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ds_core.hookspecs import Around
    from ds_core.session import Session

TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class Autocast(PrecisionPolicy):
    """Runs the attached model's forward, and so its backward, under `torch.autocast`."""

    dtype: str

    class Config(Options):
        """How outputs leave the autocast region."""

        outputs: Literal["float32", "keep"] = "float32"
        """`float32` returns 16-bit outputs as float32, so that the loss is computed in it."""

    @property
    def requires(self) -> frozenset[str]:
        return frozenset({f"dtype:{self.dtype}"})

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Refuse dtypes that autocast does not handle; warn once about a dtype that is slow."""
        _check_parameters(self, session.model)
        support = session.backend.info().dtypes[self.dtype]
        if not support.fast and support.speedup is not None:
            warn(
                f"{self.dtype} works on {session.backend.info().name} but is slow: "
                f"{support.speedup:.2g}x the speed of fp32 in a matrix multiply. "
                f"The fastest here is {session.backend.info().best}."
            )

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """Enter autocast, call, and hand outputs over in float32."""
        return self.region(session.backend)

    def region(self, backend: Backend) -> Around:
        """The function that surrounds a forward on `backend`."""
        import torch

        dtype: torch.dtype = getattr(torch, TORCH_NAMES[self.dtype])
        to_float32 = self.config.outputs == "float32"
        autocast = backend.autocast

        def cast(tensor: Tensor) -> Tensor:
            return tensor.float() if tensor.dtype == dtype else tensor

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            with autocast(dtype):
                output = call(*args, **kwargs)
            return map_tensors(cast, output) if to_float32 else output

        return around

    def explain(self, backend: Backend) -> list[str]:
        support = backend.info().dtypes[self.dtype]
        return [f"every forward runs under autocast in {self.dtype}: {support.reason}"]

    def report(self) -> dict[str, Any]:
        return {"dtype": self.dtype}


class Bf16(Autocast):
    """bfloat16: float32's range with fewer digits; needs no loss scale."""

    name = "bf16"
    rank = 10
    dtype = "bf16"


class Fp16(Autocast):
    """float16 with a dynamic loss scale, which the training loop does not see.

    Micikevicius et al., Mixed Precision Training, ICLR 2018.
    """

    name = "fp16"
    rank = 5
    dtype = "fp16"

    class Config(Autocast.Config):
        """The loss scale; see `ds_core.scaling.LossScale`."""

        init_scale: float = 2.0**16
        """First scale; a power of two, so that scaling is exact."""
        growth_factor: float = 2.0
        """Multiplies the scale after `growth_interval` good steps."""
        backoff_factor: float = 0.5
        """Multiplies it after a step that overflowed."""
        growth_interval: int = 2000
        """Good steps in a row before the scale grows."""
        min_scale: float = 1.0
        """The scale is never smaller."""
        max_scale: float = 2.0**24
        """The scale is never larger."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        try:
            self._scale()
        except ConfigError as error:
            raise ConfigError(
                f"precision {self.name!r}: {error.what[0].lower()}{error.what[1:]}"
            ) from None

    def _scale(self) -> LossScale:
        return LossScale(**self.config.model_dump(exclude={"outputs"}))

    @hookimpl
    def ds_loss_scale(self, session: Session) -> LossScale | None:
        """A dynamic loss scale, as configured."""
        if self.config.outputs == "keep":
            raise RefusedError(
                "precision 'fp16' trains with a loss scale, which needs outputs in float32.",
                mend="Leave out outputs='keep'.",
            )
        return self._scale()


class Auto(Fp16):
    """The best dtype that the backend measured as fast: bf16, fp16, or else fp32."""

    name = "auto"
    rank = 20
    dtype = "fp32"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset()

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self.reason = ""

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Nothing to refuse: a model that autocast cannot handle keeps its own dtype."""

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Choose, alike on all ranks."""
        import torch

        try:
            _check_parameters(self, model)
        except RefusedError as error:
            best, self.reason = "fp32", error.what
        else:
            info = session.backend.info()
            best = info.best
            self.reason = info.dtypes[best].reason
        order = list(TORCH_NAMES)
        wish = torch.tensor(order.index(best), device=session.device)
        low = int(session.all_reduce(wish.clone(), "min").item())
        high = int(session.all_reduce(wish, "max").item())
        self.dtype = best if low == high else "fp32"
        if low != high:
            self.reason = f"ranks differ: {order[low]} is best on one, {order[high]} on another"

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """Autocast, unless fp32 is best."""
        return None if self.dtype == "fp32" else self.region(session.backend)

    @hookimpl
    def ds_loss_scale(self, session: Session) -> LossScale | None:
        """A loss scale where fp16 was chosen."""
        return super().ds_loss_scale(session) if self.dtype == "fp16" else None

    def explain(self, backend: Backend) -> list[str]:
        info = backend.info()
        return [f"would choose {info.best}: {info.dtypes[info.best].reason}"]

    def report(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "why": self.reason}


def _check_parameters(policy: PrecisionPolicy, model: Module) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float64 or parameter.is_complex():
            raise RefusedError(
                f"precision {policy.name!r}: parameter {name!r} is {parameter.dtype}, which "
                "autocast leaves alone, so layers would meet mixed dtypes.",
                mend="Convert the model with model.float(), or use precision 'fp32'.",
            )
        if policy.name != "bf16" and parameter.dtype == torch.float16:
            raise RefusedError(
                f"precision {policy.name!r}: parameter {name!r} is float16 already, and updates "
                "to it would be lost in rounding.",
                mend="Keep parameters in float32 (model.float()); computing is in 16 bit anyway.",
            )
