"""The schedule between hosts, all of which are driven here by turns, over socket pairs."""

import itertools
import socket

import pytest
import torch
from ds_nccl_ring.reduction import Reduction
from ds_nccl_ring.wire.exchange import Exchange
from ds_nccl_ring.wire.flow import BrokenLinkError, Flow, Gate, Receive, Send
from ds_nccl_ring.wire.formats import BFloat16, Int8
from hypothesis import given, settings
from hypothesis import strategies as st

FORMATS = {"exact": None, "bfloat16": BFloat16(), "int8": Int8()}


class Hosts:
    """Flows that are linked each to each."""

    def __init__(self, count):
        links = [{} for _ in range(count)]
        for a, b in itertools.combinations(range(count), 2):
            links[a][b], links[b][a] = socket.socketpair()
        self.flows = [Flow(one) for one in links]

    def __enter__(self):
        return self.flows

    def __exit__(self, *_):
        for flow in self.flows:
            flow.close()

    def settle(self):
        while sum(flow.move() for flow in self.flows):
            pass


def parts_of(tensor, sizes):
    return list(tensor.split(sizes))


def exchanged(inputs, sizes, *, op="sum", gather=True, format=None, residuals=None):
    """What each host has afterwards, and the bytes that each has sent."""
    hosts = Hosts(len(inputs))
    done = [0] * len(inputs)
    outputs = [tensor.clone() for tensor in inputs]
    with hosts as flows:
        for me, flow in enumerate(flows):

            def finish(me=me):
                done[me] += 1

            exchange = Exchange(
                parts_of(outputs[me], sizes),
                me,
                reduction=op and Reduction(op, inputs[me].dtype, 1),
                gather=gather,
                format=format,
                residuals=residuals and parts_of(residuals[me], sizes),
                done=finish,
            )
            flow.submit(*exchange.scatter)
            flow.submit(*exchange.gather)
        hosts.settle()
        assert done == [1] * len(inputs)
        return outputs, [sum(flow.bytes_sent.values()) for flow in flows]


def some(hosts, count, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(count, generator=generator) * 8).to(dtype) for _ in range(hosts)]


part_sizes = st.integers(2, 5).flatmap(
    lambda hosts: st.lists(st.integers(0, 700), min_size=hosts, max_size=hosts)
)


@settings(deadline=None)
@given(
    part_sizes,
    st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32]),
    st.sampled_from(["sum", "min", "max"]),
)
def test_an_all_reduce_is_exact_alike_everywhere_and_sends_the_least(sizes, dtype, op):
    hosts, count = len(sizes), sum(sizes)
    inputs = some(hosts, count, dtype)
    outputs, sent = exchanged(inputs, sizes, op=op)
    stacked = torch.stack(inputs).double()
    expected = {"sum": stacked.sum(0), "min": stacked.amin(0), "max": stacked.amax(0)}[op]
    if dtype.is_floating_point:
        # Rounded once, however many hosts there are.
        unit = torch.finfo(dtype).eps
        slack = unit * (stacked.abs().sum(0) if dtype.itemsize > 2 else expected.abs())
        assert torch.all((outputs[0].double() - expected).abs() <= slack + 1e-5)
    else:
        assert torch.equal(outputs[0].double(), expected)
    for output in outputs[1:]:
        assert torch.equal(output.view(torch.uint8), outputs[0].view(torch.uint8))
    for me, bytes_sent in enumerate(sent):
        contributed = count - sizes[me]
        assert bytes_sent == (contributed + (hosts - 1) * sizes[me]) * dtype.itemsize
    assert sum(sent) == 2 * (hosts - 1) * count * dtype.itemsize


@settings(deadline=None)
@given(part_sizes, st.sampled_from(["bfloat16", "int8"]))
def test_compressed_sums_are_alike_everywhere_and_near(sizes, name):
    inputs = some(len(sizes), sum(sizes))
    outputs, sent = exchanged(inputs, sizes, format=FORMATS[name])
    for output in outputs[1:]:
        assert torch.equal(output, outputs[0])
    expected = torch.stack(inputs).double().sum(0)
    scale = torch.stack(inputs).abs().sum() if expected.numel() else 1
    worst = max(tensor.abs().max() for tensor in inputs) if expected.numel() else 0
    steps = {"bfloat16": 2**-8, "int8": 1 / 254}[name] * (len(sizes) + 1) * worst * len(sizes)
    assert torch.all((outputs[0].double() - expected).abs() <= steps + 1e-6 * scale)
    wire = sum(FORMATS[name].size(size) for size in sizes)
    assert sum(sent) == 2 * (len(sizes) - 1) * wire


def test_a_reduce_scatter_leaves_each_host_its_part_and_sends_half():
    inputs = some(3, 90)
    outputs, sent = exchanged(inputs, [30, 30, 30], gather=False)
    for me in range(3):
        part = slice(30 * me, 30 * me + 30)
        torch.testing.assert_close(outputs[me][part], sum(one[part] for one in inputs))
    assert sent == [60 * 4] * 3


def test_an_all_gather_brings_everybody_each_part():
    inputs = some(3, 90)
    outputs, sent = exchanged(inputs, [30, 30, 30], op=None)
    expected = torch.cat([inputs[me][30 * me : 30 * me + 30] for me in range(3)])
    for output in outputs:
        assert torch.equal(output, expected)
    assert sent == [60 * 4] * 3


@pytest.mark.parametrize("name", ["bfloat16", "int8"])
def test_residuals_take_the_bias_out_of_repeated_sums(name):
    inputs = [tensor * torch.linspace(1e-3, 1, 600) for tensor in some(3, 600)]
    expected = torch.stack(inputs).sum(0)
    residuals = [torch.zeros(600) for _ in inputs]
    total = torch.zeros(600)
    for _ in range(40):
        outputs, _ = exchanged(inputs, [200] * 3, format=FORMATS[name], residuals=residuals)
        total += outputs[0]
    once, _ = exchanged(inputs, [200] * 3, format=FORMATS[name])
    assert (total / 40 - expected).norm() < (once[0] - expected).norm() / 5


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_is_not_finite_on_one_host_is_so_on_all(name):
    inputs = some(3, 90)
    inputs[1][[0, 40, 80]] = float("nan")
    outputs, _ = exchanged(inputs, [30, 30, 30], format=FORMATS[name])
    for output in outputs:
        assert not output[[0, 40, 80]].isfinite().any()


@given(st.integers(2, 9))
def test_each_step_has_one_sender_for_each_receiver(count):
    empty = [torch.zeros(1) for _ in range(count)]
    sends, sources = [], []
    for me in range(count):
        exchange = Exchange(
            empty, me, reduction=None, gather=True, format=None, residuals=None, done=lambda: None
        )
        sends.append([send.to for send in exchange.gather[0]])
        sources.append([receive.of for receive in exchange.gather[1]])
    for step in range(count - 1):
        assert sorted(targets[step] for targets in sends) == list(range(count))
        for me in range(count):
            assert sources[sends[me][step]][step] == me


def test_chunks_follow_each_other_though_the_second_waits_for_nothing():
    inputs = some(2, 200_000)
    outputs = [tensor.clone() for tensor in inputs]
    hosts = Hosts(2)
    finished = []
    with hosts as flows:
        for me, flow in enumerate(flows):
            chunks = [
                Exchange(
                    list(chunk.chunk(2)),
                    me,
                    reduction=Reduction("sum", torch.float32, 1),
                    gather=True,
                    format=None,
                    residuals=None,
                    done=lambda me=me, number=number: finished.append((me, number)),
                )
                for number, chunk in enumerate(outputs[me].chunk(3))
            ]
            for chunk in chunks:
                flow.submit(*chunk.scatter)
            for chunk in chunks:
                flow.submit(*chunk.gather)
        hosts.settle()
    for output in outputs:
        torch.testing.assert_close(output, inputs[0] + inputs[1])
    assert [number for me, number in finished if me == 0] == [0, 1, 2]


def test_nothing_is_sent_through_a_closed_gate():
    with Hosts(2) as (one, other):
        gate, heard = Gate(), []
        one.submit([Send(1, memoryview(b"abc"), gate), Send(1, memoryview(b"def"))], [])
        other.submit([], [Receive(0, 6, None, lambda data: heard.append(bytes(data)))])
        assert not one.move()
        assert not other.move()
        gate.is_open = True
        assert one.move()
        assert other.move()
        assert heard == [b"abcdef"]


def test_the_end_of_a_link_names_the_host_once_something_is_under_way():
    with Hosts(3) as (one, other, third):
        other.close()
        assert not one.move()
        assert one.closed_by_peer() == [1]
        one.submit([], [Receive(1, 6, None, lambda data: None)])
        with pytest.raises(BrokenLinkError) as caught:
            one.move()
        assert caught.value.host == 1
        third.submit([Send(1, memoryview(b"abc"))], [])
        with pytest.raises(BrokenLinkError):
            third.move()
