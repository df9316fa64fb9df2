"""Emulated 16-bit matrix units: what they compute, when, and that nothing else changes."""

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.testing import emulated_16bit

LOW = [torch.float16, torch.bfloat16]
DIGITS = {torch.float16: 10, torch.bfloat16: 7}  # after the leading one
SMALLEST = {torch.float16: -14, torch.bfloat16: -126}  # exponent of the smallest normal number


# Products to compare, as functions of operands


def conv(function):
    return lambda x, w: function(x, w, stride=2, padding=1)


PRODUCTS = {
    "mm": (torch.mm, (5, 7), (7, 3)),
    "bmm": (torch.bmm, (2, 5, 7), (2, 7, 3)),
    "matmul": (torch.matmul, (2, 3, 5, 7), (7, 4)),
    "mv": (torch.mv, (5, 7), (7,)),
    "dot": (torch.dot, (9,), (9,)),
    "linear": (F.linear, (2, 3, 7), (5, 7)),
    "conv1d": (conv(F.conv1d), (2, 3, 9), (4, 3, 3)),
    "conv2d": (conv(F.conv2d), (2, 3, 6, 5), (4, 3, 3, 3)),
    "conv3d": (conv(F.conv3d), (1, 2, 4, 5, 4), (3, 2, 3, 3, 3)),
    "conv_transpose1d": (conv(F.conv_transpose1d), (2, 3, 5), (3, 4, 3)),
    "conv_transpose2d": (conv(F.conv_transpose2d), (2, 3, 4, 5), (3, 4, 3, 3)),
}
WITH_BIAS = {
    "addmm": (lambda x, w, b: torch.addmm(b, x, w, beta=0.5, alpha=2), (5, 7), (7, 3), (3,)),
    "baddbmm": (lambda x, w, b: torch.baddbmm(b, x, w), (2, 5, 7), (2, 7, 3), (3,)),
    "addmv": (lambda x, w, b: torch.addmv(b, x, w), (5, 7), (7,), (5,)),
    "linear": (F.linear, (4, 7), (5, 7), (5,)),
    "conv2d": (F.conv2d, (2, 3, 6, 5), (4, 3, 3, 3), (4,)),
}
CASES = [
    pytest.param(*case, id=name + ("+bias" if len(case) == 4 else ""))
    for cases in (PRODUCTS, WITH_BIAS)
    for name, case in cases.items()
]
# The CPU's transposed convolutions add up what overlaps in 16 bit.
ONE_ROUNDING = [case for case in CASES if "transpose" not in case.id]


def ulp(reference, dtype):
    """The distance of the dtype's numbers around each value of a float64 tensor."""
    exponent = torch.frexp(reference.abs()).exponent - 1
    return torch.exp2(exponent.clamp(min=SMALLEST[dtype]).double() - DIGITS[dtype])


def operands(shapes, dtype, seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(shape, generator=generator) * scale).to(dtype) for shape in shapes]


def rounded(values, dtype):
    """Round float64 to a 16-bit dtype once, which torch does by way of float32."""
    if dtype == torch.float16:
        with np.errstate(over="ignore"):
            return torch.from_numpy(values.numpy().astype(np.float16))
    return values.to(dtype)


# What is computed


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("case", [c.values for c in CASES], ids=[c.id for c in CASES])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.integers(-12, 3))
def test_the_exact_result_rounded_to_the_dtype(case, dtype, seed, exponent):
    function, *shapes = case
    given = operands(shapes, dtype, seed, 2.0**exponent)
    with emulated_16bit():
        found = function(*given)
    exact = function(*(value.double() for value in given))
    # Sums in float32 may be off by some of the 24 digits of their largest part.
    sums = function(*(value.double().abs() for value in given)) * 2.0**-20
    assert found.dtype == dtype
    assert ((found.double() - exact).abs() <= ulp(exact, dtype) + sums).all()


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("case", [c.values for c in CASES], ids=[c.id for c in CASES])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.integers(-24, 4), second=st.integers(-8, 3))
def test_what_float32_sums_exactly_is_rounded_once_to_nearest_even(
    case, dtype, seed, first, second
):
    """From below the smallest subnormal to beyond the largest number."""
    function, *shapes = case
    generator = torch.Generator().manual_seed(seed)
    given = [
        (torch.randint(-100, 101, shape, generator=generator) * 2.0**exponent).to(dtype)
        for shape, exponent in zip(shapes, (first, second, first), strict=False)
    ]
    with emulated_16bit():
        found = function(*given)
    expected = rounded(function(*(value.double() for value in given)), dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("case", [c.values for c in ONE_ROUNDING], ids=[c.id for c in ONE_ROUNDING])
def test_as_the_kernels_of_the_cpu(case, dtype):
    function, *shapes = case
    given = operands(shapes, dtype, seed=3)
    plain = function(*given).double()
    with emulated_16bit():
        found = function(*given).double()
    sums = function(*(value.double().abs() for value in given)) * 2.0**-20
    assert ((found - plain).abs() <= ulp(plain, dtype) + sums).all()


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_real_operands_rounded_once(dtype, causal):
    query, key, value = operands([(2, 2, 5, 8)] * 3, dtype, seed=1)
    mask = None if causal else torch.randn(5, 5).to(dtype)
    with emulated_16bit() as backend:
        found = F.scaled_dot_product_attention(query, key, value, mask, is_causal=causal)
    exact = F.scaled_dot_product_attention(
        query.double(),
        key.double(),
        value.double(),
        None if mask is None else mask.double(),
        is_causal=causal,
    )
    assert backend.products["_scaled_dot_product_flash_attention_for_cpu"] == 1
    assert ((found.double() - exact).abs() <= ulp(exact, dtype) + 1e-6).all()


def test_overflow_is_inf_where_the_sum_rounds_beyond_the_largest_number():
    ones = torch.ones(1, 2, dtype=torch.float16)
    # 65504 is the largest; 65520 lies halfway to the next that float16 would have.
    sums = torch.tensor([[65504, 65504, 65504, -65504], [15, 16, 0, -16]], dtype=torch.float16)
    with emulated_16bit():
        found = ones @ sums
        partial = torch.tensor([[300.0, 300, 1]], dtype=torch.float16) @ torch.tensor(
            [[300.0], [-300], [2]], dtype=torch.float16
        )
    assert found.tolist() == [[65504, float("inf"), 65504, float("-inf")]]
    assert partial.item() == 2  # what passes 65504 on the way is float32


def test_subnormals_are_kept_and_half_of_the_smallest_is_zero():
    column = torch.tensor([[2.0**-12]], dtype=torch.float16)
    row = torch.tensor([[2.0**-12, 2.0**-13, 1.5 * 2.0**-13, 3 * 2.0**-13]], dtype=torch.float16)
    with emulated_16bit():
        found = column @ row
    assert found.tolist() == [[2.0**-24, 0, 2.0**-24, 2 * 2.0**-24]]


def test_a_bias_is_added_before_rounding():
    # Rounded alone, the product would be 1, and its sum with the bias 1 + 2^-10.
    x, w = torch.tensor([[1 + 2.0**-10, 2.0**-6]]), torch.tensor([[1.0, -(2.0**-5)]])
    bias = torch.tensor([2.0**-11 + 2.0**-12])
    with emulated_16bit():
        found = F.linear(*(value.to(torch.float16) for value in (x, w, bias)))
    assert found.item() == 1 + 2.0**-10


def test_results_that_torch_writes_into_a_tensor():
    x, w, b = operands([(5, 7), (7, 3), (5, 3)], torch.float16, seed=4)
    with emulated_16bit() as backend:
        expected = torch.addmm(b, x, w)
        out = torch.empty(0, dtype=torch.float16)
        assert torch.addmm(b, x, w, out=out) is out
        inside = b.clone()
        inside.addmm_(x, w)
    assert backend.products == {"addmm": 3}
    assert torch.equal(out, expected)
    assert torch.equal(inside, expected)


# In training


class Everything(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)
        self.up = nn.ConvTranspose1d(4, 4, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        flat = self.up(F.relu(self.conv1(x.flatten(1)[:, None])))[:, 0].reshape(-1, 2, 4, 8)
        deep = self.conv2(x[:, None]).mean(1) + flat.mean(1)
        mixed, _ = self.attention(deep, deep, deep, need_weights=False)
        return self.last(mixed.mean(1))


EXPECTED = {
    "convolution": 3,
    "convolution_backward": 3,
    "_scaled_dot_product_flash_attention_for_cpu": 1,
    "_scaled_dot_product_flash_attention_for_cpu_backward": 1,
    "addmm": 2,  # attention's last projection and the last layer
    "mm": 7,  # attention's first projections together, and two gradients of each of the three
}


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("inside", [False, True], ids=["backward after", "backward in autocast"])
def test_autocast_computes_forward_and_gradients_with_it(dtype, inside):
    model, x = Everything(), torch.randn(6, 4, 8)
    model(x).square().mean().backward()
    exact = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with emulated_16bit() as backend:
        with torch.autocast("cpu", dtype):
            loss = model(x).float().square().mean()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
    assert backend.products == EXPECTED
    for name, parameter in model.named_parameters():
        error = (parameter.grad - exact[name]).norm() / exact[name].norm().clamp(min=1e-3)
        assert error < 20 * 2.0 ** -DIGITS[dtype], name


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("dtype", LOW)
def test_recurrent_layers_train(layer, dtype):
    model, x = layer(6, 5), torch.randn(7, 3, 6)
    model(x)[0].square().mean().backward()
    exact = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    with emulated_16bit() as backend, torch.autocast("cpu", dtype):
        output = model(x)[0]
        output.float().square().mean().backward()
    assert backend.products
    for parameter, reference in zip(model.parameters(), exact, strict=True):
        assert (parameter.grad - reference).norm() < 0.05 * reference.norm()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "auto"])
def test_a_session_learns(precision):
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    with emulated_16bit() as backend:
        session = ds.attach(model, optimizer, backend=backend, precision=precision, config={})
        losses = []
        for _ in range(80):
            x = torch.randn(64, 8)
            loss = F.cross_entropy(model(x), (x.sum(1) > 0).long())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        session.detach()
    assert backend.products["addmm"] == 2 * 80
    assert losses[-1] < 0.25 < 0.5 < losses[0]


def test_a_static_grad_scaler_sees_overflow():
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    with emulated_16bit():
        with torch.autocast("cpu", torch.float16):
            loss = model(torch.full((4, 2), 100.0)).float().sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert scaler.get_scale() == 2.0**19


# Nothing else


def training():
    torch.manual_seed(1)
    model, x = Everything(), torch.randn(6, 4, 8)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_float32_is_bit_for_bit_as_without():
    plain = training()
    with emulated_16bit() as backend:
        assert torch.equal(training(), plain)
    assert not backend.products


def test_leaving_restores_everything():
    x, w = operands([(64, 700), (700, 16)], torch.bfloat16, seed=5)
    before = x @ w
    with contextlib.suppress(ZeroDivisionError), emulated_16bit() as backend:
        _ = x @ w
        raise ZeroDivisionError
    assert backend.products == {"mm": 1}
    assert torch.equal(x @ w, before)
    assert backend.products == {"mm": 1}
    assert not torch.utils._python_dispatch._get_current_dispatch_mode_stack()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: torch.ones(2, 2).half() @ torch.ones(2, 2),
        lambda: torch.ones(2, 2).half() @ torch.ones(2, 2).bfloat16(),
        lambda: F.linear(torch.ones(2, 2).half(), torch.ones(2, 2).half(), torch.ones(2)),
        lambda: torch.ones(2, 3).half() @ torch.ones(2, 3).half(),
    ],
    ids=["float32", "two 16-bit dtypes", "float32 bias", "shapes"],
)
def test_what_torch_refuses_it_still_refuses(wrong):
    with pytest.raises(RuntimeError) as plain:
        wrong()
    with emulated_16bit(), pytest.raises(RuntimeError) as found:
        wrong()
    assert str(found.value) == str(plain.value)


def test_layouts_stay_as_they_are():
    x = torch.randn(2, 4, 5, 5).half().to(memory_format=torch.channels_last)
    w = torch.randn(6, 4, 3, 3).half().to(memory_format=torch.channels_last)
    with emulated_16bit():
        assert F.conv2d(x, w).is_contiguous(memory_format=torch.channels_last)


# What a session is told


@pytest.mark.parametrize(
    ("dtypes", "best"), [(("bf16", "fp16"), "bf16"), (("fp16",), "fp16"), ((), "fp32")]
)
def test_the_backend_says_what_it_is(dtypes, best):
    with emulated_16bit(dtypes=dtypes) as backend:
        info = backend.info()
    assert backend.name == "emulated-16bit"
    assert info.best == best
    for dtype in ("bf16", "fp16"):
        assert info.dtypes[dtype].works
        assert info.dtypes[dtype].fast == (dtype in dtypes)
        assert "not measured" in info.dtypes[dtype].reason


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ds.errors.ConfigError, match="dtypes"), emulated_16bit(dtypes=("fp8",)):
        pass
