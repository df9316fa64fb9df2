import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds_core import switches
from ds_core.errors import ConfigError, PluginError
from ds_core.registry import Registry
from ds_core.switches import Switches
from tests.distributions import install


def test_nothing_is_off_at_first(tmp_path):
    assert Switches.read({"DS_CONFIG_DIR": str(tmp_path / "none")}).off == {}


def test_both_places_add_up_and_say_which(tmp_path):
    file = tmp_path / "config.toml"
    file.write_text('[plugins]\ndisabled = ["a", "ds-b"]\n')
    here = Switches.read({"DS_CONFIG_DIR": str(tmp_path), "DS_DISABLE_PLUGINS": " c , ,ds-d:e"})
    assert here.switch("a", "ds-x") == ("a", str(file))
    assert here.switch("other", "ds-b") == ("ds-b", str(file))
    assert here.switch("c", "ds-x") == ("c", "DS_DISABLE_PLUGINS")
    assert here.switch("e", "ds-d") == ("ds-d:e", "DS_DISABLE_PLUGINS")
    assert here.switch("e", "ds-x") is None


def test_without_a_folder_of_its_own_it_is_the_platforms(tmp_path):
    here = switches.config_file({})
    assert here.name == "config.toml"
    assert "ds-core" in here.parts


names = st.lists(st.text("abcdefghij-:", min_size=1, max_size=8), max_size=6)


@given(before=names, name=st.text("abcdefghij-:", min_size=1, max_size=8))
def test_enable_undoes_disable(tmp_path_factory, before, name):
    os.environ["DS_CONFIG_DIR"] = str(tmp_path_factory.mktemp("settings"))
    for other in before:
        switches.disable(other)
    off = switches.disabled(switches.config_file())
    assert off == list(dict.fromkeys(before))
    switches.disable(name)
    assert Switches.read().switch(name, "any") is not None
    file = switches.enable(name)
    assert switches.disabled(file) == [other for other in off if other != name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[plugins", "Cannot read"),
        ("plugins = 3", "must be a list"),
        ('[plugins]\ndisabled = "a"', "must be a list of names"),
        ("[plugins]\ndisabled = [1]", "must be a list of names"),
        (b"\xff\xfe", "Cannot read"),
    ],
)
def test_a_file_that_makes_no_sense(text, said):
    file = switches.config_file()
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for action in (Switches.read, lambda: switches.disable("x"), lambda: switches.enable("x")):
        with pytest.raises(ConfigError, match=said) as caught:
            action()
        assert str(file) in str(caught.value)
    assert file.read_bytes() == (text if isinstance(text, bytes) else text.encode())


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path / "file" / "below"))
    assert Switches.read().off == {}
    with pytest.raises(ConfigError, match="DS_CONFIG_DIR"):
        switches.disable("x")


def test_a_table_that_is_there_already_keeps_its_other_keys():
    file = switches.config_file()
    file.write_text("[plugins]\nallow = ['z']  # by the admin\n")
    switches.disable("x")
    assert "allow = ['z']  # by the admin" in file.read_text()
    assert switches.disabled(file) == ["x"]


@pytest.mark.parametrize("where", ["user", "ds.toml", "pyproject.toml"])
def test_what_is_not_on_an_allow_list_is_never_imported(where, tmp_path, monkeypatch):
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code = "raise SystemExit('imported')"
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in ("one", "two"):
        install(
            tmp_path / "site",
            f"ds-{name}",
            {"ds.passes.observer": {name: f"{name}_module:X"}},
            modules={f"{name}_module": code},
        )
    path = tmp_path / {"user": "config.toml"}.get(where, where)
    header = "[tool.ds.plugins]" if where == "pyproject.toml" else "[plugins]"
    path.write_text(f'{header}\nallow = ["ds-one"]\n')
    registry = Registry([str(tmp_path / "site")])
    status = {record.name: record for record in registry.records()}
    assert status["one"].status == "ok"
    assert status["two"].status == "disabled"
    assert str(path) in status["two"].reason
    with pytest.raises(PluginError, match="add it there under plugins"):
        registry.load("observer", "two")
    with pytest.raises(PluginError, match="imported"):
        registry.load("observer", "one")


def test_every_list_must_allow_and_the_core_always_is(tmp_path, monkeypatch):
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path))
    (tmp_path / "config.toml").write_text('[plugins]\nallow = ["a", "b"]\n')
    (tmp_path / "ds.toml").write_text('precision = "bf16"\n[plugins]\nallow = ["b", "c"]\n')
    switches = Switches.read(folder=tmp_path)
    assert switches.unlisted("b", "ds-x") is None
    assert switches.unlisted("a", "ds-x") == str(tmp_path / "ds.toml")
    assert switches.unlisted("c", "ds-x") == str(tmp_path / "config.toml")
    records = Registry(switches=switches).records("precision")
    assert {r.status for r in records if r.distribution == "ds-core"} == {"ok"}
    from ds_core.config import resolve

    assert resolve(folder=tmp_path, environ={}).config.precision.name == "bf16"


def test_an_allow_list_of_another_form_is_refused(tmp_path, monkeypatch):
    (tmp_path / "ds.toml").write_text('[plugins]\nallow = "ds-one"\n')
    with pytest.raises(ConfigError, match="allow must be a list"):
        Switches.read(folder=tmp_path)
