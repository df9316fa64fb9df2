"""The machine's findings, from copied `/sys` trees and backends made for the test."""

import sys

import pytest

from ds_core.compatibility import machine
from ds_core.compatibility.check import check
from ds_core.components.torch_version import TorchBuild
from ds_core.errors import UnknownNameError
from ds_core.registry import Registry
from ds_core.switches import Switches
from tests.distributions import install

from .targets import add


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    backends = {"cpu": "ds_core.builtin.cpu:Cpu", "cuda": "ds_core.builtin.cuda:Cuda"}
    install(folder, "ds-core", {"ds.backends": backends}, requires="")
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "machine"
    folder.mkdir()
    return folder


@pytest.fixture
def run(site, root):
    """The check where nothing is installed but the core and what a test adds to `site`."""

    def check_for(*targets):
        registry = Registry(path=[str(site)], switches=Switches())
        return check(registry, None, targets, root=str(root))

    return check_for


def told(report, rule="machine"):
    return {(f.level, f.what) for f in report.findings if f.rule == rule}


def card(root, bus, vendor, kind="0x030200"):
    folder = root / "sys/bus/pci/devices" / bus
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "class").write_text(f"{kind}\n")
    (folder / "device").write_text("0x1234\n")


DEVICES = "present=True, devices=(Device(index=0, name='Big', arch='{0}'),)"


def test_a_card_without_its_driver_stops_and_comes_first_in_the_plan(root, run):
    card(root, "0000:01:00.0", "0x10de")
    report = run()
    assert report.stops
    assert {level for level, what in told(report) if "no NVIDIA driver" in what} == {"error"}
    assert "driver" in report.upgrades[0].what


def test_devices_of_several_backends_are_told(site, root, run):
    add(site, "one", "return None", DEVICES.format(""))
    add(site, "two", "return None", DEVICES.format(""))
    ((level, what),) = told(run(), "several-vendors")
    assert level == "warning"
    assert "one" in what
    assert "two" in what


def test_a_card_that_no_installed_backend_serves_is_told_with_its_plugin(root, run):
    card(root, "0000:03:00.0", "0x1da3", "0x120000")
    report = run()
    (finding,) = [f for f in report.findings if "Gaudi" in f.what]
    assert (finding.level, "pip install" in finding.mend) == ("note", True)
    assert not report.stops


def test_a_wheel_for_cards_without_a_card_is_told(root, monkeypatch, run):
    monkeypatch.setattr(machine, "torch_build", lambda: TorchBuild("2.13.0+cu130", cuda="13.0"))
    assert any("CUDA 13.0" in what for _, what in told(run()))


def test_a_machine_without_anything_special_has_no_findings(root, run):
    report = run()
    assert report.findings == ()
    assert report.upgrades == ()
    assert [target.name for target in report.targets] == ["cpu"]


def test_a_target_that_is_not_installed_names_its_distribution(root, run):
    with pytest.raises(UnknownNameError, match="pip install ds-"):
        run("gaudi")


def test_all_means_every_installed_backend(site, root, run):
    add(site, "one", "return None")
    assert {target.name for target in run("all").targets} >= {"cpu", "cuda", "one"}


def test_a_backend_that_does_not_say_is_told_and_one_that_fails_stops(site, root, run):
    add(site, "mute", "return None")
    add(site, "bomb", "raise RuntimeError('on fire')")
    assert {level for level, _ in told(run("mute"), "backend")} == {"warning"}
    report = run("bomb")
    assert {level for level, _ in told(report, "backend")} == {"error"}
    assert not report.targets[0].checked
    assert report.stops


def test_a_backend_that_fails_while_probing_stops_only_those_who_ask_for_it(site, root, run):
    add(site, "ill", "return None", "present=1 / 0")
    assert not run().stops
    assert run("ill").stops


def test_dtypes_are_those_of_the_devices_architecture(site, root, run):
    add(site, "elsewhere", "return targets.ELSEWHERE", DEVICES.format("v2a"), "npu")
    (target,) = run("elsewhere").targets
    rows = {row.rule.dtype: row for row in target.dtypes}
    assert rows["fp16"].rule.works
    assert rows["fp16"].loss_scale
    assert rows["fp64"].rule.works is False
    assert rows["bf16"].rule.works is None
    assert not rows["bf16"].loss_scale


def test_without_a_device_what_depends_on_it_is_left_open(site, root, run):
    add(site, "elsewhere", "return targets.ELSEWHERE", device="npu")
    (target,) = run("elsewhere").targets
    rows = {row.rule.dtype: row.rule for row in target.dtypes}
    assert rows["fp16"].works is None
    assert "v2" in rows["fp16"].reason


def test_a_torch_that_imports_is_no_finding_and_one_that_does_not_is(monkeypatch, tmp_path):
    broken = tmp_path / "torch.py"
    broken.write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = machine.import_findings()
    assert "libcudart.so.13" in finding.what
    broken.write_text("")
    assert list(machine.import_findings()) == []
