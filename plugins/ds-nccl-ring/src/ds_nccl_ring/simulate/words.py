"""A simulation's outcome in words and tables."""

from __future__ import annotations

from ds_nccl_ring.simulate.outlook import Outlook

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def title(found: Outlook) -> str:
    """What was simulated, in a sentence."""
    from ds_core.cli.output import size

    return (
        f"simulated all-reduce of {size(found.nbytes)} on {found.nodes} nodes of "
        f"{found.gpus_per_node}, uplinks of {found.rate * 8 / 1e9:.4g} Gbit/s a node"
    )


def tables(found: Outlook) -> list[Table]:
    """By algorithm, over sizes, and over nodes."""
    from ds_core.cli.output import size

    names = list(found.seconds)
    flat = found.seconds.get("flat")
    by_name: list[tuple[str, ...]] = [
        (
            name,
            _milliseconds(seconds),
            f"{flat / seconds:.2f}x" if flat else "",
            found.protocol.get(name, ""),
        )
        for name, seconds in found.seconds.items()
    ]
    return [
        (("algorithm", "simulated ms", "against flat", "protocol"), by_name),
        (
            ("simulated ms", *names),
            [
                (size(nbytes), *(_milliseconds(times[name]) for name in names))
                for nbytes, times in found.over_sizes.items()
            ],
        ),
        (
            ("nodes", *names),
            [
                (str(nodes), *(_milliseconds(times[name]) for name in names))
                for nodes, times in found.over_nodes.items()
            ],
        ),
    ]


def remarks(found: Outlook) -> list[str]:
    """What one must know to read the tables."""
    said = [f"Costs: {found.source}."]
    if found.left_out is not None:
        said.append(
            f"Times that the fit had not seen were off by {found.left_out['median']:.1%} in the "
            f"median and {found.left_out['worst']:.1%} at worst (leave one out)."
        )
    seconds, best = found.seconds, found.best
    if best is not None:
        said.append(f"Fastest of the exact ones by this model: {best}.")
    if best is not None and "hierarchical" in seconds and best != "hierarchical":
        said.append(
            f"The hierarchical ring takes {seconds['hierarchical'] / seconds[best]:.1f} times as "
            f"long as {best} here."
        )
    if "tree" not in seconds:
        said.append("No costs of a tree are known, as the benchmark timed none.")
    return said


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"
