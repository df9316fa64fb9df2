"""`load_model` and `transform`: models by name, ready on the hardware, and made faster."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from ds_core.attaching import attach_composed
from ds_core.causes import cause
from ds_core.components.component import Component, config_error
from ds_core.components.model_source import PRETRAINED, RANDOM, ModelSource
from ds_core.components.transform import Transform
from ds_core.compose import compose, make
from ds_core.config import Choice, Resolved, SessionConfig, resolve
from ds_core.errors import (
    ConfigError,
    DsError,
    PluginError,
    RefusedError,
    SessionError,
    UnknownNameError,
    nearest,
)
from ds_core.nested import map_tensors
from ds_core.placement import device_of
from ds_core.registry import Registry, installed
from ds_core.selection import choose
from ds_core.session import Session, session_on
from ds_core.subjects import unwrapped
from ds_core.weights import load_weights, read_weights

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.backend import Backend

log = logging.getLogger(__name__)


class LoadConfig(SessionConfig):
    """What `load_model` takes: the settings of a session, and those of the model."""

    batch_size: int | None = pydantic.Field(default=None, ge=1)
    """Samples in the batches that the model is tuned for."""
    weights: str | Path | None = None
    """`random`, `pretrained`, or a file of weights. Unless given: a file's or folder's own where
    that is what is loaded, random ones for an architecture."""
    architecture: str | None = None
    """What the weights are for, where the name is that of a file of weights."""
    num_classes: int | None = pydantic.Field(default=None, ge=1)
    """Classes to tell apart; as the architecture was published unless given."""
    tune: bool | None = None
    """Whether the backend measures which layout suits the model; by default, where `batch_size` is
    given."""


def load_model(
    name: str | os.PathLike[str],
    config: Mapping[str, Any] | LoadConfig | None = None,
    **settings: Any,
) -> Module:
    """A model by name, built, loaded, placed and tuned, which computes in the precision asked for.

        model = load_model(
            "resnet50", {"precision": "fp16", "batch_size": 64, "backend": BackendSelector.AUTO}
        )

    The name is looked up in the installed sources of `ds.models` in the order of their ranks
    (`torchvision`, `timm`, `transformers`, `file`); `source:name` chooses one. It may be the path
    of a `.pt2` program, of a folder that transformers or timm wrote, or of a file of weights
    together with `architecture`.

    Where a precision or other passes are given, the model is attached to a session without an
    optimizer, so that `model(x)` computes in that precision. There is no loss scale in it: for
    float16, train with `ds_core.mixed_precision.GradScaler`, or call `ds_core.attach(model,
    optimizer)`, which takes the session's passes over and scales by itself.

    Args:
        name: An architecture, `source:name`, or a path.
        config: Settings; see `LoadConfig`. Session settings that it leaves open come from ds.toml,
            pyproject.toml and `DS_*` variables.
        settings: Further settings as keywords; they win over `config`.

    Returns:
        The model on its device, in training mode; in evaluation mode where transforms were applied.
        Parameters are float32. Classifiers return logits as one tensor of shape (batch, classes).

    Raises:
        UnknownNameError: No source knows the name; says near matches and what to install.
        ConfigError: A setting is unknown or has a value that it cannot have.
        RefusedError: The model cannot be built like that, or not in this precision here.
    """
    wanted, resolved = _settings(config, settings)
    registry = installed()
    asked, weights, path = _names(os.fspath(name), wanted)
    source, own_name = _find(registry, asked)
    composition = compose(resolved, registry)
    backend = composition.backend

    state = None if path is None else read_weights(path)
    model = source.build(own_name, weights=weights, num_classes=wanted.num_classes)
    if state is not None:
        load_weights(model, state, str(path))
    _set_mode(model, training=not resolved.config.transforms)
    tune = wanted.tune if wanted.tune is not None else wanted.batch_size is not None
    inputs: tuple[Any, ...] = ()
    if tune or resolved.config.transforms:
        inputs = source.example_inputs(own_name, model, wanted.batch_size or 1)
    for choice in resolved.config.transforms:
        made = make(registry, "transform", choice, resolved, "transforms")
        model = _apply(made, model, backend, inputs)
    device = backend.device()
    model.to(device)
    if tune:
        _tune(model, backend, map_tensors(lambda tensor: tensor.to(device), inputs))
    if composition.passes:
        attach_composed(model, None, composition, resolved.config.total_steps)
    return model


def example_inputs(name: str, model: Module, batch_size: int = 1) -> tuple[Any, ...]:
    """Random inputs of the shapes and dtypes that a model of this name takes.

    Args:
        name: As for `load_model`.
        model: What `load_model` made; the inputs are on its device.
        batch_size: Samples.

    Returns:
        Positional arguments of one forward.

    Raises:
        UnknownNameError: No source knows the name.
        RefusedError: The source cannot tell what the model takes.
    """
    source, own_name = _find(installed(), name)
    inputs = source.example_inputs(own_name, model, batch_size)
    device = device_of(model)
    moved: tuple[Any, ...] = map_tensors(lambda tensor: tensor.to(device), inputs)
    return moved


def transform(
    model: Module,
    wanted: str | Mapping[str, Any] | Transform | Sequence[str | Mapping[str, Any] | Transform],
    example_inputs: tuple[Any, ...],
    **options: Any,
) -> Module:
    """A faster or smaller model that computes the same; the one given stays as it is.

    Args:
        model: Not attached to a session.
        wanted: A transform by name, by a mapping of name and options, or itself; or several of
            these, applied in order. A component object tells by its `report()` what it did.
        example_inputs: Positional arguments of one forward, on the model's device.
        options: Options of the transform, where there is one and it is named.

    Raises:
        SessionError: The model is attached, so that a copy would lose what the session does.
        UnknownNameError: No such transform is installed.
        ConfigError: It has no such option.
        RefusedError: It cannot work on this model; says why.
    """
    model = unwrapped(model)
    if session_on(model) is not None:
        raise SessionError(
            f"This {type(model).__name__} is attached to a session, which its copy would not be.",
            mend="Detach first (ds_core.session_of(model).detach()), transform, attach the result.",
        )
    several = [wanted] if isinstance(wanted, str | Mapping | Transform) else list(wanted)
    if options and (len(several) != 1 or isinstance(several[0], Component)):
        raise ConfigError(
            f"Option {next(iter(options))!r} cannot be given to "
            f"{'a component object' if len(several) == 1 else f'{len(several)} transforms'}.",
            mend='Give each as {"name": ..., option: ...}.',
        )
    registry = installed()
    transforms = [_transform(registry, one, options) for one in several]
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    device = device_of(model)
    backend, _ = choose(registry, device_type=device.type if device else "cpu")
    for one in transforms:
        model = _apply(one, model, backend, inputs)
    return model


def _settings(
    config: Mapping[str, Any] | LoadConfig | None, settings: Mapping[str, Any]
) -> tuple[LoadConfig, Resolved]:
    given = config.model_dump(exclude_unset=True) if isinstance(config, LoadConfig) else config
    if given is not None and not isinstance(given, Mapping):
        raise ConfigError(
            f"load_model: config must be a mapping of settings, not {type(given).__name__}.",
            mend='Give it as {"precision": "bf16"}, or settings as keywords.',
        )
    mapping = dict(given or {})
    try:
        wanted = LoadConfig.model_validate({**mapping, **settings})
    except pydantic.ValidationError as error:
        raise config_error(error, LoadConfig, "load_model") from None
    shared = SessionConfig.model_fields.keys()
    return wanted, resolve(
        {key: value for key, value in settings.items() if key in shared},
        mapping={key: value for key, value in mapping.items() if key in shared},
    )


def _names(name: str, wanted: LoadConfig) -> tuple[str, str | None, str | None]:
    """What to ask the sources for, the weights to have it built with, and a file to load after."""
    weights = None if wanted.weights is None else str(wanted.weights)
    if wanted.architecture is not None:
        if weights is not None:
            raise ConfigError(
                f"load_model: with an architecture, the name {name!r} is that of its weights.",
                mend=f"Leave one out: load_model({wanted.architecture!r}, weights={weights!r}).",
            )
        return wanted.architecture, RANDOM, name
    if weights in (None, RANDOM, PRETRAINED):
        return name, weights, None
    return name, RANDOM, weights


def _find(registry: Registry, name: str) -> tuple[ModelSource, str]:
    """The source that builds `name`, and what it calls it."""
    prefix, colon, rest = name.partition(":")
    if colon and any(record.name == prefix for record in registry.records("model")):
        source = _source(registry, prefix)
        missing = source.missing()
        if missing:
            raise PluginError(
                f"Model source {prefix!r} needs {missing}, which is not installed.",
                mend=f"Install it: pip install {missing}",
            )
        if not _knows(source, rest):
            raise _unknown(rest, [source])
        return source, rest
    sources = _sources(registry)
    working = []
    for source in sources:
        try:
            if source.missing() is None and _knows(source, name):
                return source, name
        except PluginError as error:
            log.warning(str(error))  # others may know the name
        else:
            working.append(source)
    raise _unknown(name, working)


def _knows(source: ModelSource, name: str) -> bool:
    try:
        return source.knows(name)
    except Exception as error:
        raise PluginError(
            f"Model source {source.name!r} does not work here: {cause(error)}.",
            mend="Mend or remove the library that it builds with.",
        ) from error


def _sources(registry: Registry) -> list[ModelSource]:
    """All sources that can be loaded, in the order in which they are asked."""
    found = []
    for record in registry.records("model"):
        if record.status in ("ok", "clash"):
            try:
                found.append(_source(registry, record.full_name))
            except PluginError as error:
                log.warning(str(error))  # the text: a kept error would keep its callers' models
    return sorted(found, key=lambda source: (-source.rank, source.name))


def _source(registry: Registry, name: str) -> ModelSource:
    record, made = registry.load("model", name)
    if not (isinstance(made, type) and issubclass(made, ModelSource)):
        raise PluginError(
            f"{record.value} of {record.distribution} is not a model source.",
            mend="Its author must subclass ds_core.components.model_source.ModelSource.",
        )
    return made()


def _unknown(name: str, sources: Sequence[ModelSource]) -> UnknownNameError:
    ready = [source for source in sources if source.missing() is None]
    missing = sorted({need for source in sources if (need := source.missing())})
    mend = nearest(name, {known for source in ready for known in source.names()})
    if missing:
        mend += f" More models come with pip install {' '.join(missing)}."
    where = f" in {sources[0].name}" if len(sources) == 1 else " here"
    return UnknownNameError(
        f"There is no model {name!r}{where}.",
        mend=mend.strip() or "Check the name, or install a source of models.",
    )


def _transform(
    registry: Registry, wanted: str | Mapping[str, Any] | Component, options: Mapping[str, Any]
) -> Component:
    if isinstance(wanted, Component):
        if wanted.kind != Transform.kind:
            raise ConfigError(f"{wanted!r} is a {wanted.kind}, not a transform.")
        return wanted
    named = {"name": wanted} if isinstance(wanted, str) else dict(wanted)
    try:
        choice = Choice.model_validate({**named, **options})
    except pydantic.ValidationError as error:
        raise config_error(error, Choice, "transform") from None
    return make(registry, "transform", choice)


def _apply(
    component: Component, model: Module, backend: Backend, example_inputs: tuple[Any, ...]
) -> Module:
    # Never attached: it gives the transform its backend, and calls it as any other hook is called.
    session = Session(model, backend=backend, passes=[component])
    made: Module | None = session.manager.hook.ds_transform(
        session=session, model=model, example_inputs=example_inputs
    )
    if made is None:
        raise RefusedError(
            f"transform {component.name!r} returned no model.",
            mend="Tell its authors: a transform implements ds_transform and returns a module.",
        )
    log.debug("transform %s: %s", component.name, component.report())
    return made


def _tune(model: Module, backend: Backend, example_inputs: tuple[Any, ...]) -> None:
    try:
        report = backend.tune(model, example_inputs)
    except DsError:
        raise
    except Exception as error:
        raise RefusedError(
            f"{type(model).__name__} cannot be tuned for {backend.name!r}, as it fails on example "
            f"inputs: {cause(error)}.",
            mend="Load it with tune=False.",
        ) from error
    for change in report.changes:
        log.info("%s", change)


def _set_mode(model: Module, *, training: bool) -> None:
    try:
        model.train(training)
    except NotImplementedError:
        log.info("An exported program keeps the mode in which it was exported.")
