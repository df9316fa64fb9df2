"""The walk over a graph, operation by operation."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ds_prune.analysis.aliasing import asserts, bases, written_into
from ds_prune.analysis.call import Call, sizes, unlabelled
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.rules import RULES, Rule
from ds_prune.analysis.rules.elementwise import pointwise
from ds_prune.analysis.value import Value, free

if TYPE_CHECKING:
    from torch.fx import Node

    from ds_prune.analysis.graph import Capture
    from ds_prune.analysis.labels import Labels

OUTPUT = "it makes the model's output"
CONDITION = "the forward branches on it"
INPUT = "the model's input"


def walk(
    capture: Capture, labels: Mapping[str, tuple[Labels | None, ...]], flow: Flow
) -> Mapping[Node, Any]:
    """Follow labels from parameters and buffers to the outputs.

    Args:
        capture: The graph.
        labels: For each parameter and buffer those of its dimensions.
        flow: What is found out is kept here.

    Returns:
        For each node its value.
    """
    values = flow.values
    for node in capture.graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            values[node] = _given(capture, node, labels)
        elif node.op == "call_function":
            values[node] = _called(capture, node, flow)
    return values


def finish(capture: Capture, flow: Flow, kept: Collection[str]) -> None:
    """Freeze what has to stay.

    Args:
        capture: The graph that was walked.
        flow: What was found out.
        kept: Names of modules that give others the same channels as before.
    """
    values = flow.values
    for name in kept:
        _keep(capture, flow, name)
    for reason, nodes in ((OUTPUT, capture.outputs), (CONDITION, capture.conditions)):
        for node in nodes:
            if isinstance(value := values.get(node), Value):
                flow.freeze_all([value], reason)


def resolve(flow: Flow) -> None:
    """Decide what was left open."""
    for number in sorted(flow.unread):
        for channels in flow.statistics[number].over.values():
            flow.classes.freeze(channels, "statistics are taken over it, for something else")
    flow.factors.resolve()


def _given(
    capture: Capture, node: Node, labels: Mapping[str, tuple[Labels | None, ...]]
) -> Value | None:
    made = node.meta.get("val")
    if node in capture.states:
        name = capture.states[node]
        shape = sizes(made)
        origins = tuple(frozenset([(name, dim)]) for dim in range(len(shape)))
        return Value(shape, labels[name], origins)
    if not hasattr(made, "shape"):
        return None
    return free(sizes(made), "" if node in capture.constants else INPUT)


def _called(capture: Capture, node: Node, flow: Flow) -> Any:
    if node.target is operator.getitem:
        whole = flow.values.get(node.args[0])  # type: ignore[arg-type]
        return whole[node.args[1]] if isinstance(whole, tuple) else None  # type: ignore[index]
    call = _call(capture, node, flow)
    if asserts(node):
        return None
    rule = _rule(call)
    result = None if rule is None else _ruled(flow, call, rule)
    if result is None:
        flow.freeze_all(call.values, f"`{_full_name(node)}` is not understood")
        return unlabelled(call)
    return result


def _ruled(flow: Flow, call: Call, rule: Rule) -> Any:
    """What a rule says; None if it does not know an operation in this form."""
    written = written_into(call.node)
    try:
        result = rule(flow, call) if written is None else _in_place(flow, call, rule, written)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # RuntimeError: what torch raises of sizes that depend on the data
    made = call.node.meta.get("val")
    if isinstance(result, Value) and isinstance(made, (list, tuple)):
        return (result, *unlabelled(call)[1:])
    if isinstance(result, Value) and result.shape != sizes(made):
        return None
    return result


def _call(capture: Capture, node: Node, flow: Flow) -> Call:
    def value(argument: Any) -> Any:
        import torch

        if isinstance(argument, torch.fx.Node):
            return flow.values.get(argument)
        if isinstance(argument, (list, tuple)):
            return [value(item) for item in argument]
        return argument

    schema = getattr(node.target, "_schema", None)
    if schema is None:
        given = dict(enumerate(node.args)) | dict(node.kwargs)
        named = {str(name): value(argument) for name, argument in given.items()}
        return Call(node, _full_name(node), named, capture.layers.get(node, ""))
    arguments: dict[str, Any] = {}
    for place, known in enumerate(schema.arguments):
        if place < len(node.args):
            arguments[known.name] = value(node.args[place])
        elif known.name in node.kwargs:
            arguments[known.name] = value(node.kwargs[known.name])
        else:
            arguments[known.name] = known.default_value
    name = schema.name.removeprefix("aten::")
    return Call(node, name, arguments, capture.layers.get(node, ""))


def _full_name(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return str(getattr(node.target, "__name__", node.target))
    return str(schema.name).replace("::", ".")


def _rule(call: Call) -> Rule | None:
    import torch

    found = RULES.get(call.name) or RULES.get(call.name.removesuffix("_"))
    if found is None and torch.Tag.pointwise in getattr(call.node.target, "tags", ()):
        return pointwise
    return found


def _in_place(flow: Flow, call: Call, rule: Rule, written: Node) -> Any:
    """An operation that writes into a tensor, which may be a part of another.

    The whole of which it is a part is no longer uniform, and has no labels for what is written.
    """
    whole = bases(written)
    if whole and isinstance(flow.values.get(written), Value):
        part = replace(flow.values[written], uniform=())
        flow.values[written] = part
        call = replace(call, arguments={**call.arguments, next(iter(call.arguments)): part})
    result = rule(flow, call)
    for node in whole:
        value = flow.values.get(node)
        if isinstance(value, Value):
            flow.values[node] = replace(value, uniform=())
    if isinstance(result, Value):
        flow.values[written] = result
    return result


def _keep(capture: Capture, flow: Flow, name: str) -> None:
    inside = {
        node
        for node, layer in capture.layers.items()
        if not name or layer == name or layer.startswith(f"{name}.")
    }
    for node in inside:
        value = flow.values.get(node)
        if isinstance(value, Value) and any(user not in inside for user in node.users):
            flow.freeze_all([value], f"`{name}` is to be kept")
