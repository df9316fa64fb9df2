"""What the probe says of machines as they are: trees of `/sys` and `/dev` in `golden`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ds_gaudi import packages
from ds_gaudi.backend import Gaudi

from ds_core.components import Probe
from ds_core.components.torch_version import TorchBuild

GOLDEN = Path(__file__).parent / "golden"
TORCH = TorchBuild("2.7.1+hpu_1.22.0-740.git")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ("HABANA_VISIBLE_MODULES", "PT_HPU_LAZY_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def probe(monkeypatch):
    """The probe of a golden host, with packages as they should be."""

    def look(host, torch=TORCH, bridge="1.22.0.740", bridge_torch="2.7.1"):
        found = packages.Packages(torch, bridge, bridge_torch)
        monkeypatch.setattr(packages, "installed", lambda: found)
        return Gaudi.probe(str(GOLDEN / host))

    return look


def only(found):
    (problem,) = found.problems
    assert found.present
    assert not found.usable
    return problem


def test_a_complete_host(probe):
    found = probe("hls2")
    assert found.usable, found.problems
    assert [(one.index, one.name, one.arch) for one in found.devices] == [
        (0, "Gaudi 2", "gaudi2"),
        (1, "Gaudi 2", "gaudi2"),
    ]
    assert found.driver == "1.22.0-740"
    assert found.software == {"torch": TORCH.version, "habana-torch-plugin": "1.22.0.740"}


@pytest.mark.parametrize(
    ("host", "bridge", "arch"),
    [("hl338", "1.22.0.740", "gaudi3"), ("old-driver", "1.12.1.10", "gaudi")],
)
def test_cards_of_each_generation(probe, host, bridge, arch):
    found = probe(host, bridge=bridge)
    assert found.usable, found.problems
    assert [one.arch for one in found.devices] == [arch]


def test_cards_of_two_kinds_are_counted_and_not_guessed(probe):
    found = probe("mixed")
    assert found.usable
    assert [one.arch for one in found.devices] == ["", ""]


def test_the_npu_of_a_notebook_is_no_gaudi(probe):
    found = probe("notebook", bridge=None)
    assert not found.present
    assert not found.problems


def test_of_several_vendors_devices_only_gaudis_are_counted(probe):
    found = probe("several-vendors")
    assert found.usable
    assert len(found.devices) == 1


@pytest.mark.parametrize(
    ("host", "what", "mend"),
    [
        ("no-driver", "habanalabs is not loaded", "habanalabs-dkms"),
        ("passed-through", "vfio-pci", "virtual machine|back"),
        ("bare-container", "device files in /dev/accel are missing", "--runtime=habana"),
        ("in-reset", "'in reset'", "hl-smi"),
    ],
)
def test_what_is_missing_is_said(probe, host, what, mend):
    problem = only(probe(host))
    assert what in problem.what
    assert any(word in problem.mend for word in mend.split("|"))


def test_device_files_that_may_not_be_opened(probe, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("accel1"))
    problem = only(probe("hls2"))
    assert "/dev/accel/accel1" in problem.what
    assert "accel0" not in problem.what
    assert "udev" in problem.mend


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"torch": None, "bridge": None}, "PyTorch is not installed"),
        ({"bridge": None}, "habana-torch-plugin, is not installed"),
        ({"bridge_torch": "2.6.0"}, "compiled for PyTorch 2.6.0"),
        ({"bridge": "1.20.0.543"}, "more than one release apart"),
    ],
)
def test_packages_that_do_not_fit(probe, given, what):
    problem = only(probe("hls2", **given))
    assert what in problem.what
    assert problem.mend


def test_the_neighbouring_release_of_the_driver_fits(probe):
    assert probe("hls2", bridge="1.21.0.555").usable


def test_lazy_mode_needs_intels_own_torch(probe, monkeypatch):
    stock = TorchBuild("2.7.1+cpu")
    assert probe("hls2", torch=stock).usable
    monkeypatch.setenv("PT_HPU_LAZY_MODE", "1")
    assert "PT_HPU_LAZY_MODE" in only(probe("hls2", torch=stock)).what
    assert probe("hls2").usable


def test_the_bridge_without_a_card(probe):
    found = probe("notebook")
    (problem,) = found.problems
    assert not found.present
    assert "no Gaudi card" in problem.what
    assert "PT_HPU_AUTOLOAD=0" in problem.mend


def test_a_host_whose_files_make_no_sense(probe):
    found = probe("broken")
    assert found.present
    assert len(found.devices) == 1
    assert found.driver is None
    assert Probe.model_validate_json(found.model_dump_json()) == found


def test_modules_that_are_hidden(probe, monkeypatch):
    monkeypatch.setenv("HABANA_VISIBLE_MODULES", "3")
    assert len(probe("hls2").devices) == 1
    monkeypatch.setenv("HABANA_VISIBLE_MODULES", "")
    assert "hides every card" in only(probe("hls2")).what


def test_probing_imports_neither_torch_nor_the_bridge(tmp_path):
    site = tmp_path / "site"
    (site / "habana_frameworks/torch").mkdir(parents=True)
    (site / "habana_frameworks/torch/__init__.py").write_text("raise OSError('libsynapse.so')")
    (site / "habana_frameworks/torch/required_version.txt").write_text("2.7.1\n")
    (site / "habana_torch_plugin-1.22.0.740.dist-info").mkdir()
    metadata = site / "habana_torch_plugin-1.22.0.740.dist-info/METADATA"
    metadata.write_text("Name: habana-torch-plugin\nVersion: 1.22.0.740\n")
    code = (
        "import sys; from ds_gaudi import packages; from ds_gaudi.backend import Gaudi; "
        f"probe = Gaudi.probe({str(GOLDEN / 'hls2')!r}); "
        "assert not {'torch', 'habana_frameworks'} & set(sys.modules); "
        "print(probe.software['habana-torch-plugin'], packages.installed().bridge_torch)"
    )
    environ = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1.22.0.740", "2.7.1"]
