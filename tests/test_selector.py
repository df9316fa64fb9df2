import copy
import json
import os
import pickle
import subprocess
import sys

import pytest

from ds_core import BackendSelector, DsError
from ds_core.errors import UnknownNameError
from ds_core.registry import Registry, installed
from ds_core.selection import AUTO
from tests.distributions import install


def run(code, *path, **environ):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_members_are_auto_and_what_is_installed():
    assert [str(member) for member in BackendSelector] == [AUTO, *installed().names("backend")]
    assert len(BackendSelector) == len(list(BackendSelector))
    assert {"AUTO", "CPU", "CUDA"} <= set(dir(BackendSelector))


@pytest.mark.parametrize("member", list(BackendSelector), ids=str)
def test_a_member_is_its_name_and_one_object(member):
    assert isinstance(member, str)
    assert isinstance(member, BackendSelector)
    assert member == member.value
    assert hash(member) == hash(member.value)
    assert f"{member}" == member.value
    assert json.loads(json.dumps({"backend": member})) == {"backend": member.value}
    for same in (
        BackendSelector(member.value),
        BackendSelector[member.name],
        getattr(BackendSelector, member.name),
        copy.deepcopy(member),
        pickle.loads(pickle.dumps(member)),
    ):
        assert same is member
    assert repr(member) == f"<BackendSelector.{member.name}: {member.value!r}>"


def test_contains_names_values_and_members():
    assert "CPU" in BackendSelector
    assert "cpu" in BackendSelector
    assert BackendSelector.CPU in BackendSelector
    assert "SURELY_NO_BACKEND" not in BackendSelector
    assert 3 not in BackendSelector


def test_unknown_names_say_which_plugin_brings_them(tmp_path, monkeypatch):
    install(tmp_path, "ds-core", {"ds.backends": {"cpu": "ds_core.builtin.cpu:Cpu"}}, requires="")
    monkeypatch.setattr("ds_core.selector.installed", lambda: Registry(path=[str(tmp_path)]))
    with pytest.raises(AttributeError, match=r"pip install ds-rocm"):
        _ = BackendSelector.ROCM
    with pytest.raises(UnknownNameError, match=r"pip install ds-gaudi"):
        BackendSelector("gaudi")
    with pytest.raises(KeyError):
        BackendSelector["ROCM"]
    assert not hasattr(BackendSelector, "ROCM")


@pytest.mark.parametrize("slip", ["CPV", "CUAD", "cpu"])
def test_slips_name_what_was_meant(slip):
    with pytest.raises(AttributeError, match=r"(?i)did you mean '(cpu|cuda)'"):
        getattr(BackendSelector, slip)


def test_it_cannot_be_subclassed():
    with pytest.raises(TypeError, match="install a plugin"):

        class Mine(BackendSelector):
            pass


def test_a_plugin_adds_a_member_without_being_imported(tmp_path):
    install(tmp_path, "ds-hier", {"ds.backends": {"hier-npu": "ds_hier:Npu"}})
    done = run(
        "import sys; from ds_core import BackendSelector as B\n"
        "assert B.HIER_NPU == 'hier-npu' and B.HIER_NPU in list(B), list(B)\n"
        "assert B('ds-hier:hier-npu') == 'ds-hier:hier-npu'\n"
        "print('torch' in sys.modules, 'ds_hier' in sys.modules)",
        tmp_path,
    )
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_a_backend_that_is_switched_off_says_how_to_have_it(tmp_path):
    done = run(
        "from ds_core import BackendSelector as B\n"
        "print('CUDA' in B)\n"
        "try: B.CUDA\n"
        "except AttributeError as error: print(error)",
        tmp_path,
        DS_DISABLE_PLUGINS="cuda",
    )
    contained, message = done.stdout.splitlines()
    assert contained == "False"
    assert "unset DS_DISABLE_PLUGINS" in message


def test_errors_of_the_constructor_are_of_the_family():
    with pytest.raises(DsError):
        BackendSelector("no-such-thing")
