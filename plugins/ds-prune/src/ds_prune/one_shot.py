"""A model pruned in one go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from ds_core.errors import ConfigError, RefusedError
from ds_core.subjects import process_group, unwrapped
from ds_prune.choice import Scope, choose
from ds_prune.importance.installed import make_criterion
from ds_prune.lots import check_normalised, step_of
from ds_prune.report import Result, copied, measure_both
from ds_prune.target import Multiple, Target, multiple

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.components import Backend
    from ds_prune.analysis.analysis import Analysis
    from ds_prune.importance.criterion import Criterion
    from ds_prune.plan import Plan
    from ds_prune.structure import Kept
    from ds_prune.surgery.source import Source

Recovery = Literal["reconstruct", "batchnorm"]
_RECOVER: tuple[Recovery, ...] = ("reconstruct",)

Loss = Callable[[Any, Any], "Tensor"]
"""`loss(outputs, targets)`: a 0-dimensional tensor."""


def prune(
    model: Module,
    example_inputs: Any,
    *,
    flops: float | None = None,
    params: float | None = None,
    ratio: float | None = None,
    latency: float | None = None,
    layers: Mapping[str, float] | None = None,
    min_kept: float = 0.1,
    keep: Collection[str] = (),
    criterion: str | Mapping[str, Any] | None = None,
    data: Iterable[Any] = (),
    loss: Loss | None = None,
    recover: Collection[Recovery] = _RECOVER,
    round_to: Multiple = "auto",
    scope: Scope = "global",
    normalised: bool = False,
    optimizers: Optimizer | tuple[Optimizer, ...] = (),
    tolerance: float | None = None,
    source: Source | None = None,
) -> Plan:
    """Remove the channels and heads of a model that it would miss least, in place.

        plan = prune(model, torch.randn(1, 3, 224, 224), flops=0.37, data=batches)
        plan.save("small")

    Args:
        model: Trained; stays the object that it is. A model under `torch.compile` is cut inside.
        example_inputs: Arguments of one forward: a tensor, a tuple of them by position, or a
            mapping of them by name. What they take is what is counted and timed.
        flops: Share of the multiply-adds that is kept at most.
        params: Share of the parameters that is kept at most.
        ratio: Share of its channels that every layer loses at least.
        latency: Share of the measured time of a forward that is kept at most.
        layers: Share of the channels that single layers lose, by name; 0 keeps them whole.
        min_kept: Share of each layer's channels that stays at least.
        keep: Names of modules whose output channels stay whole.
        criterion: What says how much a channel is missed, by name, or as a mapping of `name` and
            options. By default `taylor` where there is a loss, else `magnitude`.
        data: Batches for learning what is missed and for recovering: inputs in the form of
            `example_inputs`, or pairs of them and targets where there is a loss.
        loss: `loss(outputs, targets)`, for criteria that need gradients.
        recover: What makes up for the loss, given data: `reconstruct` fits layers that read removed
            channels to what they gave out before, `batchnorm` takes statistics of batch
            normalisations anew. The first does without the second.
        round_to: Of what widths of shrunken layers are a multiple. `auto`: of 8, and of less in
            narrow layers; `measured`: of what the device makes use of.
        scope: `global`: channels of all layers compete; `layer`: each loses the same share.
        normalised: Take channels whose statistics a LayerNorm takes together, too.
        optimizers: Those that hold state for the model's parameters.
        tolerance: Largest relative error of the outputs in the proof; by their dtype without.
        source: How the whole model is made, if the plan is to say so.

    Returns:
        What was removed, with the small model's weights; `plan.figures` has what it came to.

    Raises:
        RefusedError: The model cannot be followed, has no channel that could go, or cannot become
            as small. It is unchanged then.
        ConfigError: An argument has a value that it cannot have.
    """
    from ds_prune.analysis.analysis import Analysis
    from ds_prune.recovery.batchnorm import recalibrate

    target = Target.of(
        flops=flops,
        params=params,
        ratio=ratio,
        latency=latency,
        layers=dict(layers or {}),
        min_kept=min_kept,
    )
    try:
        round_to = multiple(round_to)
    except ValueError as error:
        raise ConfigError(f"round_to cannot be {round_to!r}: {error}.") from None
    model = unwrapped(model)
    _check(model)
    args, kwargs = _arguments(example_inputs)
    batches = list(data)
    made = _criterion(criterion, loss)
    analysis = Analysis(model, args, kwargs, keep=keep)
    _learn(made, model, analysis, batches, loss)
    kept = _choose(model, analysis, made, target, (args, kwargs), round_to, scope, normalised)
    inputs = [batch[0] if loss is not None else batch for batch in batches]
    plan = _cut(
        model,
        analysis,
        kept,
        (args, kwargs),
        inputs if "reconstruct" in recover else [],
        optimizers,
        tolerance,
        source,
    )
    if inputs and "batchnorm" in recover:
        recalibrate(model, inputs)
    return plan


def _check(model: Module) -> None:
    from ds_core.session import session_on

    name = type(model).__name__
    if process_group(model) is not None:
        raise RefusedError(
            "DistributedDataParallel keeps copies of its parameters' shapes.",
            mend="Prune the module inside it (model.module), then wrap it anew.",
        )
    if session_on(model) is not None:
        raise RefusedError(
            f"This {name} is attached to a session, which holds its parameters.",
            mend="Detach first, or attach with pruner='channel'.",
        )


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    return (tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)), {}


def _criterion(asked: str | Mapping[str, Any] | None, loss: Loss | None) -> Criterion:
    named = {"name": asked} if isinstance(asked, str) else dict(asked or {})
    name = named.pop("name", "taylor" if loss is not None else "magnitude")
    return make_criterion(name, named)


def _learn(
    criterion: Criterion, model: Module, analysis: Analysis, batches: list[Any], loss: Loss | None
) -> None:
    """Show the criterion the gradients of each batch; the model's own stay as they are."""
    import torch

    if not criterion.learns:
        return
    if loss is None or not batches:
        raise ConfigError(
            f"criterion {criterion.name!r} learns from gradients.",
            mend="Give data and loss, or criterion='magnitude'.",
        )
    from ds_prune.surgery.undisturbed import undisturbed

    tensors = dict(model.named_parameters())
    before = {name: (one.grad, one.requires_grad) for name, one in tensors.items()}
    try:
        for inputs, targets in batches:
            args, kwargs = _arguments(inputs)
            for one in tensors.values():
                one.grad = None
                one.requires_grad_(one.is_floating_point())
            with undisturbed(model), torch.enable_grad():
                torch.autograd.backward(loss(model(*args, **kwargs), targets))
            criterion.observe(tensors, analysis.structure)
    finally:
        for name, one in tensors.items():
            one.grad, needed = before[name]
            one.requires_grad_(needed)


def _choose(
    model: Module,
    analysis: Analysis,
    criterion: Criterion,
    target: Target,
    batch: tuple[tuple[Any, ...], dict[str, Any]],
    round_to: Multiple,
    scope: Scope,
    normalised: bool,
) -> Kept:
    structure = analysis.structure
    if not structure.groups:
        reasons = sorted({one.reason for one in structure.frozen})
        raise RefusedError(
            f"This {type(model).__name__} has no channel that could go: {'; '.join(reasons)}."
        )
    check_normalised(structure, target, normalised)
    args, kwargs = batch
    times = None
    if round_to == "measured":
        from ds_prune.timing.rounding import suggest_round_to

        round_to = suggest_round_to(_backend(model), model, structure, args, kwargs)
    if target.latency is not None:
        from ds_prune.timing.latency import measure_latency

        step = step_of(round_to)
        times = measure_latency(_backend(model), model, structure, args, kwargs, round_to=step)
    return choose(
        structure,
        criterion.scores(dict(model.named_parameters()), structure),
        target,
        round_to=round_to,
        latency=times,
        scope=scope,
        by_saving=criterion.additive,
        normalised=normalised,
    )


def _cut(
    model: Module,
    analysis: Analysis,
    kept: Kept,
    batch: tuple[tuple[Any, ...], dict[str, Any]],
    inputs: list[Any],
    optimizers: Optimizer | tuple[Optimizer, ...],
    tolerance: float | None,
    source: Source | None,
) -> Plan:
    from ds_prune.plan import Plan
    from ds_prune.recovery.reconstruct import reconstruct
    from ds_prune.surgery.removal import apply_record
    from ds_prune.surgery.shrink import shrink

    args, kwargs = batch
    backend = _backend(model)
    whole = copied(model)
    outcome = shrink(model, analysis, kept, args, kwargs, optimizers, tolerance=tolerance)
    if kept and not outcome.kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in outcome.left.items())
        raise RefusedError(f"No removal proved to be right, so nothing was removed. {reasons}.")
    removal = outcome.removal
    if inputs:
        # What is to be fitted is the whole model, and only now is it known what can go.
        removal.undo()
        reconstruct(model, analysis.structure, outcome.kept, inputs)
        removal = apply_record(model, removal.record, optimizers)
    removal.commit()
    seconds = measure_both(backend, whole, model, batch)
    result = Result.of(analysis.structure, outcome, seconds)
    return Plan.of(model, removal.record, source=source, result=result)


def _backend(model: Module) -> Backend:
    from ds_core.placement import device_of
    from ds_core.registry import installed
    from ds_core.selection import choose as choose_backend

    device = device_of(model)
    backend, _ = choose_backend(installed(), device_type=device.type if device else "cpu")
    return backend
