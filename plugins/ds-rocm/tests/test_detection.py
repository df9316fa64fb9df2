"""What the probe says of machines as they are: trees of `/sys` and `/dev` in `golden`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ds_rocm import archs, detect
from ds_rocm.backend import Rocm
from hypothesis import given
from hypothesis import strategies as st

from ds_core.components import Probe
from ds_core.components.torch_version import TorchBuild

GOLDEN = Path(__file__).parent / "golden"
ROCM = TorchBuild("2.9.0+rocm7.0", hip="7.0.51831-a3e329ad8")
VARIABLES = ("ROCR", "HIP", "CUDA")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(f"{name}_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("HSA_OVERRIDE_GFX_VERSION", raising=False)


@pytest.fixture
def probe(monkeypatch):
    """The probe of a golden host, with a torch as it should be."""

    def look(host, torch=ROCM):
        monkeypatch.setattr(detect, "torch_build", lambda: torch)
        return Rocm.probe(str(GOLDEN / host))

    return look


def only(found):
    (problem,) = found.problems
    assert found.present
    assert not found.usable
    return problem


def test_a_complete_host(probe):
    found = probe("mi300x")
    assert found.usable, found.problems
    assert [(one.index, one.name, one.arch, one.memory) for one in found.devices] == [
        (0, "AMD Instinct MI300", "gfx942", 206141652992),
        (1, "AMD Instinct MI300", "gfx942", 206141652992),
    ]
    assert found.driver == "6.16.6"
    assert found.software == {"torch": "2.9.0+rocm7.0", "hip": ROCM.hip}


@pytest.mark.parametrize(
    ("host", "arch", "driver"),
    [
        ("mi250", "gfx90a", "6.10.5"),
        ("mi355x", "gfx950", None),
        ("workstation", "gfx1100", "amdgpu of Linux 6.11.0-17-generic"),
    ],
)
def test_cards_of_each_architecture(probe, host, arch, driver):
    found = probe(host)
    assert found.usable, found.problems
    assert [one.arch for one in found.devices] == [arch]
    assert found.driver == driver


def test_graphics_inside_a_processor_are_no_card_to_compute_on(probe):
    found = probe("several-vendors", torch=TorchBuild("2.9.0+cu128", cuda="12.8"))
    assert not found.present
    assert not found.problems


def test_unless_the_user_says_otherwise(probe, monkeypatch):
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "10.3.0")
    found = probe("several-vendors")
    assert [one.arch for one in found.devices] == ["gfx1030"]
    assert found.usable


@pytest.mark.parametrize(
    ("host", "what", "mend"),
    [
        ("no-driver", "amdgpu is not loaded", "amdgpu-install"),
        ("passed-through", "vfio-pci", "virtual machine|back"),
        ("unlisted", "lists no card", "--device /dev/kfd"),
        ("bare-container", "/dev/kfd, /dev/dri/renderD128 are missing", "--group-add render"),
        ("unsupported", "no kernels for gfx1032", "HSA_OVERRIDE_GFX_VERSION"),
    ],
)
def test_what_is_missing_is_said(probe, host, what, mend):
    problem = only(probe(host))
    assert what in problem.what
    assert any(word in problem.mend for word in mend.split("|"))


def test_a_container_that_is_given_one_of_two_cards(probe):
    assert probe("half-container").usable


def test_device_files_that_may_not_be_opened(probe, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("kfd"))
    problem = only(probe("mi300x"))
    assert "/dev/kfd" in problem.what
    assert "renderD" not in problem.what
    assert "render,video" in problem.mend


@pytest.mark.parametrize(
    ("torch", "what"),
    [
        (None, "PyTorch is not installed"),
        (TorchBuild("2.9.0+cpu"), "built for processors alone"),
        (TorchBuild("2.9.0+cu128", cuda="12.8"), "built for CUDA 12.8"),
        (TorchBuild("2.1.0+rocm5.6", hip="5.6.31061"), "gfx942 needs 6.0 or newer"),
    ],
)
def test_a_torch_that_does_not_fit(probe, torch, what):
    problem = only(probe("mi300x", torch=torch))
    assert what in problem.what
    assert "whl/rocm" in problem.mend


def test_a_card_that_is_newer_than_the_wheel(probe):
    problem = only(probe("mi355x", torch=TorchBuild("2.8.0+rocm6.4", hip="6.4.43482")))
    assert "gfx950 needs 7.0" in problem.what


def test_the_wheel_without_a_card(probe):
    found = probe("no-card")
    (problem,) = found.problems
    assert not found.present
    assert "no AMD card" in problem.what
    assert problem.mend


def test_nothing_at_all_is_no_problem(probe):
    found = probe("no-card", torch=TorchBuild("2.9.0+cpu"))
    assert not found.present
    assert not found.problems


def test_a_host_whose_files_make_no_sense(probe):
    found = probe("broken")
    assert Probe.model_validate_json(found.model_dump_json()) == found
    assert all(problem.what and problem.mend for problem in found.problems)


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"ROCR": "1"}, 1),
        ({"HIP": "0"}, 1),
        ({"CUDA": "0,1"}, 2),
        ({"HIP": "0", "CUDA": "0,1"}, 1),
        ({"ROCR": "1", "HIP": "0"}, 1),
        ({"ROCR": "0,1", "HIP": "1,7"}, 1),
    ],
)
def test_cards_that_are_hidden(probe, monkeypatch, settings, count):
    for name, value in settings.items():
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", value)
    found = probe("mi300x")
    assert found.usable
    assert len(found.devices) == count


def test_cards_by_uuid(monkeypatch):
    from ds_rocm import topology

    first, second = topology.cards(str(GOLDEN / "mi300x"))
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", second.uuid.lower())
    assert topology.visible((first, second)) == (second,)


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [({"ROCR": "9"}, "ROCR"), ({"ROCR": "1", "HIP": "1"}, "HIP"), ({"CUDA": ""}, "CUDA")],
)
def test_the_variable_that_hides_every_card_is_named(probe, monkeypatch, settings, culprit):
    for name, value in settings.items():
        monkeypatch.setenv(f"{name}_VISIBLE_DEVICES", value)
    problem = only(probe("mi300x"))
    assert problem.what.startswith(f"{culprit}_VISIBLE_DEVICES=")
    assert f"{culprit}_VISIBLE_DEVICES=0" in problem.mend


@given(st.integers(7, 12), st.integers(0, 9), st.integers(0, 15))
def test_an_architectures_name_is_its_version_with_hexadecimal_digits(major, minor, stepping):
    name = archs.from_version(major * 10000 + minor * 100 + stepping)
    assert name == f"gfx{major}{minor}{'0123456789abcdef'[stepping]}"
    assert archs.override(f"{major}.{minor}.{stepping}") == name


def test_the_versions_that_are_known():
    known = {90402: "gfx942", 90010: "gfx90a", 90500: "gfx950", 110000: "gfx1100", 90002: "gfx902"}
    assert {number: archs.from_version(number) for number in known} == known
    assert archs.from_version(None) == ""


def test_probing_imports_no_torch(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("raise ImportError('probing must not import it')")
    (tmp_path / "torch/version.py").write_text(
        "__version__ = '2.9.0+rocm7.0'\ncuda: str | None = None\nhip: str | None = '7.0.5'\n"
    )
    code = (
        "import sys; from ds_rocm.backend import Rocm; "
        f"probe = Rocm.probe({str(GOLDEN / 'mi300x')!r}); "
        "assert 'torch' not in sys.modules; print(probe.usable, probe.software['hip'])"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "7.0.5"]
