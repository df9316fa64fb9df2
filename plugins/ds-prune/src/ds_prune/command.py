"""The command `ds prune`: a model made smaller in one go."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_prune.surgery.source import Source


@click.command("prune")
@click.argument("model")
@click.option("--flops", type=float, help="Share of the multiply-adds to keep at most.")
@click.option("--params", type=float, help="Share of the parameters to keep at most.")
@click.option("--ratio", type=float, help="Share of its channels that every layer loses.")
@click.option("--latency", type=float, help="Share of a forward's time to keep at most.")
@click.option("--weights", type=click.Path(path_type=Path), help="A file of weights to load.")
@click.option("--classes", type=int, help="Classes that the model tells apart.")
@click.option(
    "--input", "shape", help="Shape of one batch, as 1x3x224x224, if MODEL is a function."
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Samples.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Inputs [N, ...] for recovering: .npy, or the first tensor of a .safetensors.",
)
@click.option("--criterion", default="magnitude", show_default=True, help="What says what goes.")
@click.option(
    "--round-to", default="auto", show_default=True, help="Widths' multiple, `auto` or `measured`."
)
@click.option("--keep", multiple=True, help="A module whose channels stay; may be repeated.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Folder for the plan.")
@click.option(
    "--export",
    "exports",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Also write the small model as .onnx or .pt2; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(
    model: str,
    weights: Path | None,
    classes: int | None,
    shape: str | None,
    batch: int,
    data: Path | None,
    output: Path | None,
    exports: tuple[Path, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Remove channels from MODEL and save what is left.

    MODEL is a name that ds_core.load_model knows, such as transformers:resnet50, or
    package.module:function, which returns a model.
    """
    # Imported when it is used, so that completing and help answer at once.
    from ds_core.cli.output import echo_json
    from ds_prune import one_shot
    from ds_prune.analysis.undisturbed import silent
    from ds_prune.exporting import export

    built, source = _build(model, classes, weights)
    inputs = _inputs(model, source, built, shape, batch)
    plan = one_shot.prune(
        built,
        inputs,
        source=source,
        data=_batches(data, inputs) if data is not None else (),
        **options,
    )
    if output is not None:
        plan.save(output)
    for path in exports:
        with nullcontext() if _debugging() else silent():  # exporters warn of what they mend
            export(built, inputs, path)
    result = plan.result
    assert result is not None
    if as_json:
        echo_json(result)
        return
    _print(model, result)
    for path in (*([output] if output else []), *exports):
        click.echo(f"Saved in {path}.")


def _debugging() -> bool:
    return bool(click.get_current_context().find_root().params.get("debug"))


def _build(name: str, classes: int | None, weights: Path | None) -> tuple[Module, Source]:
    from ds_core.weights import load_weights, read_weights
    from ds_prune.surgery.source import Source

    module, _, function = name.partition(":")
    if "." in module and function:
        source = Source("function", name)
    else:
        source = Source("model", name, {} if classes is None else {"num_classes": classes})
    model = source.build(trust=True)
    if weights is not None:
        load_weights(model, read_weights(weights), str(weights))
    return model, source


def _inputs(
    name: str, source: Source, model: Module, shape: str | None, batch: int
) -> tuple[Any, ...]:
    import torch

    from ds_core.errors import ConfigError
    from ds_core.models import example_inputs

    if shape is not None:
        sizes = shape.split("x")
        if not all(size.isdigit() and int(size) for size in sizes):
            raise ConfigError(f"--input {shape!r} is no shape.", mend="Write it as 1x3x224x224.")
        return (torch.randn([int(size) for size in sizes]),)
    if source.kind == "function":
        raise ConfigError(
            f"What {name!r} makes does not say what it takes.",
            mend="Give the shape of a batch, as --input 1x3x224x224.",
        )
    return example_inputs(name, model, batch)


def _batches(path: Path, inputs: tuple[Any, ...]) -> list[Any]:
    """The rows of a file in batches as large as that of the example inputs."""
    import torch

    from ds_core.errors import ConfigError

    try:
        if path.suffix == ".npy":
            import numpy as np

            rows = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            from safetensors.torch import load_file

            rows = next(iter(load_file(path).values()))
    except Exception as error:
        raise ConfigError(f"Cannot read inputs from {path}: {error}.") from None
    first = inputs[0]
    if len(inputs) != 1 or rows.shape[1:] != first.shape[1:]:
        raise ConfigError(
            f"The inputs in {path} have shape {tuple(rows.shape)}, and the model takes "
            f"{[tuple(one.shape) for one in inputs]}."
        )
    size = max(first.shape[0], 32)
    return [part.to(first.device, first.dtype) for part in torch.split(rows, size)]


def _print(name: str, result: Any) -> None:
    from ds_core.cli.output import echo_table

    rows = [
        ("parameters", *(f"{value:,}" for value in result.parameters), _ratio(*result.parameters)),
        (
            "multiply-adds",
            *(f"{value:,}" for value in result.multiply_adds),
            _ratio(*result.multiply_adds),
        ),
    ]
    if result.seconds is not None:
        milliseconds = (f"{value * 1e3:.3g} ms" for value in result.seconds)
        rows.append(("one forward", *milliseconds, _ratio(*result.seconds)))
    echo_table((name, "before", "after", "ratio"), rows)
    click.echo("")
    layers = [
        (one["layer"], one["atom"], str(one["of"]), str(one["kept"])) for one in result.layers
    ]
    echo_table(("layer", "what", "before", "after"), layers)
    click.echo("")
    for layer, why in result.left.items():
        click.echo(f"{layer} stays whole: {why}")
    click.echo(f"The small model's outputs are off by {result.error:.1e}, relatively.")


def _ratio(before: float, after: float) -> str:
    return f"{after / before:.3g}x" if before else ""
