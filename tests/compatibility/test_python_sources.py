"""Python sources: what is found, and how much it matters on a target."""

import pytest

from ds_core.builtin.cpu_porting import porting as cpu
from ds_core.builtin.cuda_porting import porting as cuda
from ds_core.compatibility.python_judge import judge_python
from ds_core.compatibility.python_scan import scan_python
from ds_core.components.porting import CUDA_PACKAGES

from .targets import ELSEWHERE, TRANSLATED

IMPORT = "import torch\nimport torch.distributed as dist\n"


def judged(text, porting=ELSEWHERE, arch=""):
    uses = scan_python(IMPORT + text)
    return {(f.rule, f.level) for f in judge_python(uses, "a.py", "lab", porting, arch)}


@pytest.mark.parametrize(
    ("text", "rule", "level"),
    [
        ("x.cuda()", "cuda-call", "error"),
        ("torch.cuda.synchronize()", "torch-cuda", "error"),
        ("torch.cuda.is_available()", "torch-cuda", "warning"),
        ("torch.cuda.manual_seed_all(0)", "torch-cuda", "note"),
        ("torch.cuda.amp.autocast()", "cuda-amp", "warning"),
        ("x.is_cuda", "cuda-attribute", "warning"),
        ("x.to('cuda:1')", "device-string", "error"),
        ("torch.autocast('cuda')", "device-string", "warning"),
        ("torch.autocast(device_type='cuda')", "device-string", "warning"),
        ("device = 'cuda' if ok else 'cpu'", "device-string", "warning"),
        ("def f(device='cuda'): ...", "device-string", "error"),
        ("def f(*, device: str = 'cuda'): ...", "device-string", "error"),
        ("config = {'device': 'cuda'}", "device-string", "error"),
        ("x.device.type == 'cuda'", "device-string", "warning"),
        ("torch.zeros(3, device=f'cuda:{i}')", "device-string", "error"),
        ("dist.init_process_group('nccl')", "collective-string", "error"),
        ("dist.init_process_group(backend='cpu:gloo,cuda:nccl')", "collective-string", "error"),
        ("torch.load(p, map_location='cuda')", "map-location", "error"),
        ("torch.load(p)", "map-location", "warning"),
        ("DataLoader(d, pin_memory=True)", "pin-memory", "warning"),
        ("x.double()", "dtype", "error"),
        ("torch.ones(3, dtype=torch.complex64)", "dtype", "error"),
        ("torch.amp.GradScaler()", "loss-scaler", "warning"),
        ("x[x > 0]", "dynamic-shape", "warning"),
        ("import flash_attn", "cuda-package", "error"),
        ("import flash_attn.layers.rotary as r", "cuda-package", "error"),
        ("try:\n    import apex\nexcept ImportError:\n    apex = None", "cuda-package", "warning"),
        (
            "from torch.utils.cpp_extension import load\nload('a', ['a.cu'])",
            "cuda-extension",
            "error",
        ),
    ],
)
def test_a_use_is_found_with_its_weight(text, rule, level):
    assert (rule, level) in judged(text)


@pytest.mark.parametrize(
    "text",
    [
        "# x.cuda()\n'torch.cuda.synchronize()'",
        "import mylib\nmylib.cuda()",
        "torch.load(p, map_location='cpu')",
        "torch.load(p, **options)",
        "cuda = {'a': 'cuda'}",
        "print('cuda')",
        "torch.where(x > 0, x, y)",
        "table['a' == b]",
        "x.float()",
        "from .apex import thing\nfrom . import cupy",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import apex",
        "import numba",
        "import apexpredator",
        "DataLoader(d, pin_memory=False)",
        "from torch.utils.cpp_extension import load\nload('a', ['a.cpp'])",
        "self.torch.cuda.synchronize()",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text):
    assert judged(text) == set()


@pytest.mark.parametrize(
    "condition",
    ["torch.cuda.is_available()", "x.device.type == 'cuda'", "a and x.is_cuda", "x.is_cuda"],
)
def test_what_is_only_reached_where_cuda_is_stops_nothing_elsewhere(condition):
    text = f"if {condition}:\n    x.cuda()\nelse:\n    y = 1\n"
    assert {level for _, level in judged(text)} == {"warning"}
    assert ("cuda-call", "error") in judged(text + "x.cuda()")
    assert ("cuda-call", "error") in judged(f"if not ({condition}):\n    x.cuda()")
    text = f"n = torch.cuda.current_device() if {condition} else 0"
    assert {level for _, level in judged(text)} == {"warning"}


def test_where_the_device_is_called_cuda_code_runs_and_is_only_noted():
    text = "x.cuda()\ntorch.cuda.synchronize()\nx.to('cuda')\ndist.init_process_group('nccl')"
    for porting in (cuda(), TRANSLATED):
        assert {level for _, level in judged(text, porting)} == {"note"}
    assert ("cuda-amp", "warning") in judged("torch.cuda.amp.autocast()", cuda())


def test_a_processor_says_what_takes_a_packages_place():
    (finding,) = judge_python(scan_python("import cupy"), "a.py", "cpu", cpu())
    assert "NumPy" in finding.mend
    for package in CUDA_PACKAGES:
        (finding,) = judge_python(scan_python(f"import {package}"), "a.py", "cpu", cpu())
        assert package in finding.what


def test_cuda_runs_every_package():
    text = "\n".join(f"import {package}" for package in CUDA_PACKAGES)
    assert judged(text, cuda()) == {("cuda-package", "note")}


def test_a_dtype_is_judged_by_the_devices_architecture():
    text = "torch.ones(3, dtype=torch.float16)"
    assert judged(text, arch="v1") == {("dtype", "error")}
    assert judged(text, arch="v2-b") == set()
    assert judged(text) == set()  # it depends on the device, which is not known


def test_places_are_those_of_the_source():
    (use,) = scan_python("import torch\n\nif x:\n    y = torch.cuda.synchronize()\n")
    assert (use.line, use.column) == (4, 9)


@pytest.mark.parametrize(
    "text", ["import torch as t\nt", "import torch\ntorch", "from torch import cuda\ncuda"]
)
def test_names_are_followed_through_imports(text):
    head, _, name = text.rpartition("\n")
    path = f"{name}.synchronize()" if name == "cuda" else f"{name}.cuda.synchronize()"
    uses = scan_python(f"{head}\n{path}")
    assert [use.subject for use in uses if use.rule == "torch-cuda"] == ["synchronize"]
