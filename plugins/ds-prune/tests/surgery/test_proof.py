"""When outputs count as the same."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from ds_prune.surgery import prove
from hypothesis import given, settings
from hypothesis import strategies as st

X = torch.randn(4, 5)
NAN, INF = float("nan"), float("inf")


@dataclass
class Box:
    logits: Any
    label: str = "x"


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-7, 1), st.sampled_from([1e-30, 1.0, 1e20]))
def test_the_error_is_relative_to_the_size_of_a_tensor(error, size):
    x = X * size
    small = x + x.double().norm().float() * error * torch.ones_like(x) / x.numel() ** 0.5
    proof = prove(small, x)
    assert proof.error == pytest.approx(error, rel=0.2, abs=2e-7)
    assert proof.holds == (proof.error <= 1e-4)
    assert prove(small, x, tolerance=2.0).holds


@pytest.mark.parametrize(
    ("dtype", "passes", "fails"),
    [
        (torch.float64, 1e-9, 1e-6), (torch.float32, 1e-5, 1e-3),
        (torch.float16, 4e-3, 4e-2), (torch.bfloat16, 2e-2, 2e-1),
        (torch.complex64, 1e-5, 1e-3),
    ],
)  # fmt: skip
def test_each_dtype_has_a_tolerance(dtype, passes, fails):
    x = X.to(dtype)
    wide = x.to(torch.complex128 if dtype.is_complex else torch.float64)
    assert prove((wide * (1 + passes)).to(dtype), x).holds
    assert not prove((wide * (1 + fails)).to(dtype), x).holds


def test_a_small_output_beside_a_large_one_counts_as_much():
    assert not prove([X * 1e6, X + 1e-3], [X * 1e6, X]).holds


def test_containers_are_looked_into():
    outputs = {"a": [X, (X + 1,)], "box": Box(X * 2), "none": None}
    other = {"a": [X, (X + 1,)], "box": Box(X * 3), "none": None}
    assert prove(outputs, outputs).holds
    assert prove(other, outputs).against == (
        "output 2 is off by 0.5, relatively, where 0.0001 is allowed"
    )


@pytest.mark.parametrize(
    ("small", "reference", "said"),
    [
        (X[:, :4], X, r"\(4, 4\) of torch.float32 instead of \(4, 5\)"),
        (X.double(), X, "float64"),
        ([X], [X, X], "1 tensors instead of 2"),
        ("a", "a", "no tensor"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "its output is another"),
        (torch.tensor([True]), torch.tensor([False]), "another"),
        (X.new_tensor([NAN, 1.0]), X.new_tensor([1.0, 1.0]), "another"),
        (X.new_tensor([1.0, 1.0]), X.new_tensor([NAN, 1.0]), "another"),
        (X.new_tensor([INF, 1.0]), X.new_tensor([-INF, 1.0]), "another"),
        (X.new_tensor([NAN, NAN]), X.new_tensor([NAN, NAN]), "not finite"),
        (torch.empty(0, 5), torch.empty(0, 5), "not finite"),
        (X * 1e-30, X * 0, "off"),
    ],
)
def test_what_differs_is_named(small, reference, said):
    proof = prove(small, reference, tolerance=1e-40 if said == "off" else None)
    assert not proof.holds
    assert re.search(said, proof.against)


@pytest.mark.parametrize(
    "same",
    [
        torch.tensor([1, 2]), torch.tensor([True]), X.new_tensor([NAN, INF, -INF, 1.0]), X * 0,
        [X, torch.empty(0)],
    ],
)  # fmt: skip
def test_what_is_the_same_holds(same):
    assert prove(same, same).holds
    assert prove(same, same).error == 0
