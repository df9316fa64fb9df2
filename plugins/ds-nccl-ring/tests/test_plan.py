"""Plans: what is used for which size, and that all ranks have the same one."""

from concurrent.futures import ThreadPoolExecutor

import pydantic
import pytest
from ds_nccl_ring.placement import Host, Placement
from ds_nccl_ring.plan import FLAT_BELOW, TopologyPlan
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import HashStore

from ds_core.errors import RefusedError

ALGORITHMS = ("flat", "hierarchical", "hierarchical-bfloat16", "hierarchical-int8")


def placement(*sizes):
    """Hosts with so many ranks each, in order."""
    hosts, first = [], 0
    for number, size in enumerate(sizes):
        ranks = tuple(range(first, first + size))
        hosts.append(Host(f"host{number}", ranks, f"10.0.0.{number + 1}"))
        first += size
    return Placement(tuple(hosts), "DS_NODE")


tables = st.dictionaries(st.integers(1, 1 << 30), st.sampled_from(ALGORITHMS)).map(
    lambda found: tuple(sorted({0: "flat", **found}.items()))
)


@given(tables, st.integers(0, 1 << 31))
def test_the_last_start_below_a_size_counts(table, nbytes):
    plan = TopologyPlan.of(placement(2, 2)).model_copy(update={"algorithms": table})
    assert plan.algorithm(nbytes) == [name for start, name in table if start <= nbytes][-1]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), tables)
def test_a_plan_survives_json(sizes, table):
    plan = TopologyPlan.of(placement(*sizes)).model_copy(update={"algorithms": table})
    assert TopologyPlan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.rails == min(sizes)


def test_before_anything_is_measured_small_tensors_are_flat():
    plan = TopologyPlan.of(placement(2, 2), wire="int8")
    assert plan.algorithm(FLAT_BELOW - 1) == "flat"
    assert plan.algorithm(FLAT_BELOW) == "hierarchical-int8"


def test_one_host_has_no_wire():
    assert TopologyPlan.of(placement(4), wire="int8").hierarchical == "hierarchical"


@pytest.mark.parametrize("table", [(), ((1, "flat"),), ((0, "flat"), (9, "flat"), (9, "flat"))])
def test_tables_that_leave_sizes_out_are_refused(table):
    said = {**TopologyPlan.of(placement(2)).model_dump(), "algorithms": table}
    with pytest.raises(pydantic.ValidationError, match="begin at 0"):
        TopologyPlan.model_validate(said)


def alike(plans):
    store = HashStore()
    with ThreadPoolExecutor(len(plans)) as threads:
        futures = [
            threads.submit(plan.check_alike, store, rank, len(plans), 20.0)
            for rank, plan in enumerate(plans)
        ]
        return [future.exception() for future in futures]


def test_equal_plans_pass():
    assert alike([TopologyPlan.of(placement(2, 1))] * 3) == [None] * 3


def test_every_rank_hears_who_planned_what_else():
    plan = TopologyPlan.of(placement(2, 2))
    other = TopologyPlan.of(placement(2, 2), wire="bfloat16", chunk_bytes=1 << 20)
    errors = alike([plan, plan, other, other])
    assert len({str(error) for error in errors}) == 1
    assert isinstance(errors[0], RefusedError)
    said = str(errors[0])
    assert "Ranks 2 and 3 planned another" in said
    assert "wire" in said
    assert "chunk_bytes" in said
    assert "rails" not in said
