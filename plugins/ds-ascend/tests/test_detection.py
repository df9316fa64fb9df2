"""What the probe says of machines as they are: trees of `/sys`, `/dev` and `/usr` in `golden`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ds_ascend import cann, hardware, packages
from ds_ascend.backend import Ascend
from hypothesis import given
from hypothesis import strategies as st

from ds_core.components import Probe
from ds_core.components.torch_version import TorchBuild

GOLDEN = Path(__file__).parent / "golden"
CPU = TorchBuild("2.9.0+cpu")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in (*cann.VARIABLES, "ASCEND_RT_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def probe(monkeypatch):
    """The probe of a golden host, with packages and CANN's environment as they should be."""

    def look(host, torch=CPU, torch_npu="2.9.0.post6", home="/usr/local/Ascend/cann"):
        monkeypatch.setattr(
            packages, "installed", lambda: packages.Packages(torch, torch_npu, None)
        )
        if home:
            monkeypatch.setenv("ASCEND_HOME_PATH", home)
        return Ascend.probe(str(GOLDEN / host))

    return look


def only(found):
    (problem,) = found.problems
    assert found.present
    assert not found.usable
    return problem


def test_a_complete_host(probe):
    found = probe("atlas-a2")
    assert found.usable, found.problems
    assert [(one.index, one.name, one.arch) for one in found.devices] == [
        (0, "Ascend 910B (Atlas A2)", "ascend910b"),
        (1, "Ascend 910B (Atlas A2)", "ascend910b"),
    ]
    assert found.driver == "25.5.1"
    assert found.software == {"torch": "2.9.0+cpu", "torch-npu": "2.9.0.post6", "cann": "9.1.0"}


def test_the_first_generation_is_not_taken_for_the_910b_that_is_sold(probe):
    found = probe("first-generation", torch_npu="2.4.0", torch=TorchBuild("2.4.0"), home=None)
    assert found.devices[0].arch == "ascend910"
    assert Ascend.porting().dtype("bf16", "ascend910").works is False
    assert Ascend.porting().dtype("bf16", "ascend910b").works is True


def test_cards_of_two_kinds_are_counted_and_not_guessed(probe):
    found = probe("mixed")
    assert found.usable
    assert [one.arch for one in found.devices] == ["", ""]


@pytest.mark.parametrize(
    ("host", "what", "mend"),
    [
        ("no-driver", "driver is not installed", "npu-smi"),
        ("passed-through", "vfio-pci", "virtual machine|back"),
        ("bare-container", "container has no device files", "--device /dev/davinci0"),
        ("half-container", "/dev/devmm_svm, /dev/hisi_hdc", "--device /dev/hisi_hdc"),
    ],
)
def test_what_is_missing_is_said(probe, host, what, mend):
    found = probe(host, torch_npu="2.9.0")
    first = found.problems[0]
    assert what in first.what
    assert any(word in first.mend for word in mend.split("|"))
    assert found.present
    assert not found.usable


def test_device_files_that_may_not_be_opened(probe, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: "davinci1" not in str(path))
    problem = only(probe("atlas-a2"))
    assert "/dev/davinci1" in problem.what
    assert "davinci0" not in problem.what
    assert "HwHiAiUser" in problem.mend


@pytest.mark.parametrize(
    ("torch", "torch_npu", "what", "mend"),
    [
        (None, None, "PyTorch is not installed", "pip install"),
        (CPU, None, "torch-npu is not", "torch-npu==2.9.0"),
        (CPU, "2.8.0.post4", "is for PyTorch 2.8.0", "torch==2.8.0"),
    ],
)
def test_packages_that_do_not_fit(probe, torch, torch_npu, what, mend):
    problem = only(probe("atlas-a2", torch=torch, torch_npu=torch_npu))
    assert what in problem.what
    assert mend in problem.mend


def test_a_torch_for_the_other_vendors_card(probe):
    problem = only(probe("several-vendors", torch=TorchBuild("2.9.0+cu128", cuda="12.8")))
    assert "NVIDIA" in problem.what
    assert "whl/cpu" in problem.mend
    assert probe("several-vendors").usable


def test_a_torch_with_cuda_is_no_trouble_where_no_such_card_is(probe):
    assert probe("atlas-a2", torch=TorchBuild("2.9.0+cu128", cuda="12.8")).usable


def test_the_package_without_a_card(probe):
    found = probe("no-card", home=None)
    assert not found.present
    card, toolkit = found.problems
    assert "no Ascend card" in card.what
    assert "import torch" in toolkit.what
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in toolkit.mend


def test_nothing_at_all_is_no_problem(probe):
    found = probe("no-card", torch_npu=None, home=None)
    assert not found.present
    assert not found.problems


def test_a_card_without_cann_breaks_importing_torch(probe, tmp_path):
    (tmp_path / "dev").mkdir()
    for name in ("davinci0", "davinci_manager", "devmm_svm", "hisi_hdc"):
        (tmp_path / "dev" / name).touch()
    problem = only(probe(tmp_path, home=None))
    assert "CANN is not installed" in problem.what
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in problem.mend


def test_cann_whose_environment_is_not_set(probe):
    problem = only(probe("atlas-a2", home=None))
    assert "environment is not set" in problem.what
    assert "source /usr/local/Ascend/cann/set_env.sh" in problem.mend


def test_cann_that_is_older_than_torch_npu(probe):
    problem = only(
        probe(
            "first-generation",
            torch=TorchBuild("2.4.0"),
            torch_npu="2.4.0.post2",
            home="/usr/local/Ascend/ascend-toolkit/latest",
        )
    )
    assert "CANN 8.0.0" in problem.what
    assert "8.0.RC3" in problem.what


def test_a_host_whose_files_make_no_sense(probe):
    found = probe("broken")
    assert found.present
    assert len(found.devices) == 1
    assert Probe.model_validate_json(found.model_dump_json()) == found


def test_npus_that_are_hidden(probe, monkeypatch):
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "1")
    assert len(probe("atlas-a2").devices) == 1
    monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", "7")
    assert "hides every NPU" in only(probe("atlas-a2")).what


@given(st.integers(0, 9), st.text(alphabet="0123456789,- x", max_size=12))
def test_a_setting_shows_npus_that_there_are_and_each_once(count, setting):
    shown = hardware.visible(count, setting)
    assert set(shown) <= set(range(count))
    assert len(set(shown)) == len(shown)


VERSIONS = ["8.0.RC1", "8.0.RC3", "8.0.0", "8.1.RC1", "8.3.RC1", "8.5.0", "9.0.0", "9.1.0"]


@given(st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_releases_of_cann_are_in_the_order_of_their_dates(one, other):
    assert cann.older(one, other) == (VERSIONS.index(one) < VERSIONS.index(other))
    assert not cann.older(one, "trunk")


def test_probing_imports_neither_torch_nor_torch_npu(tmp_path):
    site = tmp_path / "site"
    (site / "torch_npu").mkdir(parents=True)
    (site / "torch_npu/__init__.py").write_text("raise OSError('libhccl.so')")
    (site / "torch_npu-2.9.0.dist-info").mkdir()
    (site / "torch_npu-2.9.0.dist-info/METADATA").write_text("Name: torch-npu\nVersion: 2.9.0\n")
    code = (
        "import sys; from ds_ascend.backend import Ascend; "
        f"probe = Ascend.probe({str(GOLDEN / 'atlas-a2')!r}); "
        "assert not {'torch', 'torch_npu'} & set(sys.modules); print(probe.software['torch-npu'])"
    )
    environ = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "2.9.0"
