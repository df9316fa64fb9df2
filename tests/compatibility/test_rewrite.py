"""Rewriting: equal on CUDA, stable, and nothing else touched."""

import ast
import difflib

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from ds_core.compatibility.rewrite import rewrite

PAIRS = [
    ("torch.cuda.is_available()", "torch.accelerator.is_available()"),
    ("torch.cuda.set_device(rank)", "torch.accelerator.set_device_index(rank)"),
    ("n = torch.cuda.current_device()", "n = torch.accelerator.current_device_index()"),
    ("x = y.cuda()", "x = y.to(torch.accelerator.current_accelerator())"),
    (
        "x = y.cuda(non_blocking=True)",
        "x = y.to(torch.accelerator.current_accelerator(), non_blocking=True)",
    ),
    ("x = y.to('cuda', f)", "x = y.to(torch.accelerator.current_accelerator(), f)"),
    (
        "torch.zeros(3, device='cuda')",
        "torch.zeros(3, device=torch.accelerator.current_accelerator())",
    ),
    (
        "d = 'cuda' if torch.cuda.is_available() else 'cpu'",
        "d = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() "
        "else 'cpu'",
    ),
    (
        "with torch.cuda.amp.autocast(True, torch.float16): pass",
        'with torch.amp.autocast("cuda", enabled=True, dtype=torch.float16): pass',
    ),
    ("s = torch.cuda.amp.GradScaler(2.0)", 's = torch.amp.GradScaler("cuda", 2.0)'),
    (
        "dist.init_process_group('nccl', rank=0)",
        "dist.init_process_group(None, rank=0)",
    ),
    (
        "from torch.cuda.amp import autocast as cast\nwith cast(): pass",
        'from torch.amp import autocast as cast\nwith cast("cuda"): pass',
    ),
]

LEFT_ALONE = [
    "x.cuda(rank)",
    "torch.cuda.set_device(device=rank)",
    "torch.cuda.empty_cache()",
    "f = torch.cuda.synchronize",
    "d = torch.device('cuda')",
    "x = y.to('cuda:0')",
    "d = 'cuda' if torch.cuda.is_available() else None",
    "mylib.cuda()",
    "super().cuda()",
    "mine(device='cuda')",
    "dist.init_process_group('gloo')",
    "# torch.cuda.is_available()",
    "'torch.cuda.is_available()'",
    "from torch.cuda.amp import autocast\n@partial(autocast)\ndef f(): ...",
    "from torch.cuda.amp import autocast, custom_fwd\nwith autocast(): pass",
    "try:\n    from torch.amp import autocast\nexcept ImportError:\n"
    "    from torch.cuda.amp import autocast\nautocast('cuda')",
]

HEAD = "import torch\nimport torch.distributed as dist\nimport mylib\n"

SPARED = [
    "x.cuda()",  # torch has no name
    "import torch\ntorch = stub()\ntorch.cuda.is_available()",
    "import torch\ndef f(torch): torch.cuda.is_available()",
    "import torch\ntorch.cuda.is_available = fake\ntorch.cuda.is_available()",
    "import torch\n@torch.jit.script\ndef f(x): return torch.cuda.is_available()",
    "import torch\nfrom mine import torch\ntorch.cuda.is_available()",
    "def f():\n    import torch\n    torch.cuda.is_available()",
    "import torch\ntorch.cuda.is_available(",
    "print 'torch.cuda.is_available()'",
]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_what_has_an_equal_is_rewritten(before, after):
    assert rewrite((HEAD + before).encode()).decode() == HEAD + after


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_has_no_equal_is_left_alone(text):
    assert rewrite((HEAD + text).encode()) == (HEAD + text).encode()


@pytest.mark.parametrize("text", SPARED)
def test_a_file_in_which_names_may_mean_something_else_is_spared(text):
    assert rewrite(text.encode()) == text.encode()


def test_a_class_with_a_cuda_method_of_its_own_keeps_it():
    text = HEAD + "class Batch:\n    def cuda(self): ...\nbatch.cuda()\n"
    assert rewrite(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "rest", ["x = x.cuda(rank)", "torch.cuda.empty_cache()", "device = 'cuda'", "ok = x.is_cuda"]
)
def test_a_condition_stays_where_something_that_needs_cuda_does(rest):
    text = HEAD + f"if torch.cuda.is_available():\n    {rest}\n"
    assert rewrite(text.encode()) == text.encode()


def test_settings_of_torch_do_not_spare_a_file():
    text = HEAD + "torch.backends.cudnn.benchmark = True\nx.cuda()\n"
    assert b".cuda()" not in rewrite(text.encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xef\xbb\xbf", b""),
        (b"# coding: latin-1\r\n# \xe9\r\n", b""),
        (b"", b"  # no line end"),
        (b"", b";y = [1,2]\n\n\n#"),
    ],
)
def test_encodings_and_layout_are_kept(before, after):
    source = before + b"import torch\nx.cuda()" + after
    new = b"x.to(torch.accelerator.current_accelerator())"
    assert rewrite(source) == before + b"import torch\n" + new + after


def test_what_cannot_be_printed_back_as_it_was_is_left_alone():
    source = b"import torch\rx.cuda()\r"  # libcst would lose the last line end
    assert rewrite(source) == source


LINES = st.sampled_from(
    [before for before, _ in PAIRS]
    + LEFT_ALONE
    + [
        "x = [1,2 ,3]",
        "s = '''\n  cuda\n'''",
        "if x :\n\ty=1",
        "",
        "# ünïcode",
        "z = (x\n  .cuda())",
    ]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(LINES, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_the_result_parses_and_a_second_run_changes_nothing(lines, newline, ends):
    text = newline.join([*HEAD.split("\n"), *lines]).replace("\n", newline).replace("\r\r", "\r")
    source = (text + newline * ends).encode()
    changed = rewrite(source)
    ast.parse(changed)
    assert rewrite(changed) == changed


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=6), st.booleans())
def test_code_without_anything_to_rewrite_is_left_byte_for_byte(texts, bom):
    comments = "".join("# " + " ".join(text.split()) + "  \n\n" for text in texts)
    source = (b"\xef\xbb\xbf" * bom) + (HEAD + comments + "x = torch.ones( 3 )\n").encode()
    assert rewrite(source) == source


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60))
def test_bytes_that_are_no_python_come_back_as_they_are(data):
    assert rewrite(b"import torch\n)" + data) == b"import torch\n)" + data


@settings(deadline=None, max_examples=40)
@given(st.lists(LINES, min_size=1, max_size=6))
def test_only_lines_with_something_to_rewrite_change(lines):
    source = HEAD + "\n".join(lines) + "\n"
    changed = rewrite(source.encode()).decode()
    removed = [
        line[2:]
        for line in difflib.ndiff(source.split("\n"), changed.split("\n"))
        if line[0] == "-"
    ]
    assert all("cuda" in line or "nccl" in line or "cast" in line for line in removed)
