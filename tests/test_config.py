from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds_core.config import SessionConfig, resolve
from ds_core.errors import ConfigError


def write(folder, name, text):
    path = Path(folder, name)
    path.write_text(text)
    return path


def test_defaults(tmp_path):
    resolved = resolve(folder=tmp_path, environ={})
    assert resolved.config == SessionConfig()
    assert resolved.config.backend.name == "auto"
    assert {resolved.origin(key) for key in SessionConfig.model_fields} == {"default"}


PLACES = ["pyproject.toml", "ds.toml", "variable", "option", "config", "argument"]
NAMES = st.sampled_from(["one", "two", "three", "none"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(given=st.dictionaries(st.sampled_from(PLACES), NAMES))
def test_the_later_place_always_wins(tmp_path, given):
    for name, header in (("pyproject.toml", "[tool.ds]\n"), ("ds.toml", "")):
        path = tmp_path / name
        path.unlink(missing_ok=True)
        if name in given:
            path.write_text(f'{header}pruner = "{given[name]}"\n')
    resolved = resolve(
        {"pruner": given.get("argument")},
        {"pruner": given.get("option")},
        mapping={"pruner": given.get("config")},
        folder=tmp_path,
        environ={"DS_PRUNER": given["variable"]} if "variable" in given else {},
    )
    last = max(given, key=PLACES.index, default=None)
    expected = given.get(last)
    pruner = resolved.config.pruner
    assert (pruner.name if pruner else None) == (None if expected == "none" else expected)
    assert (
        resolved.origin("pruner")
        == {
            None: "default",
            "pyproject.toml": f"{tmp_path}/pyproject.toml:2",
            "ds.toml": f"{tmp_path}/ds.toml:1",
            "variable": "DS_PRUNER",
            "option": "option --pruner",
            "config": "config",
            "argument": "argument",
        }[last]
    )


def test_options_of_one_component_add_up_over_places(tmp_path):
    write(tmp_path, "pyproject.toml", '[tool.ds.precision]\nname = "fp16"\na = 1\nb = 1\n')
    write(tmp_path, "ds.toml", 'precision = { name = "fp16", b = 2 }\n')
    resolved = resolve(
        {"precision": {"c": 4}},
        {"precision": "fp16"},
        folder=tmp_path,
        environ={"DS_PRECISION__D": "[3]"},
    )
    assert resolved.config.precision.options == {"a": 1, "b": 2, "c": 4, "d": [3]}
    assert resolved.origin("precision.a") == f"{tmp_path}/pyproject.toml:3"
    assert resolved.origin("precision.b") == f"{tmp_path}/ds.toml:1"
    assert resolved.origin("precision.d") == "DS_PRECISION__D"
    assert resolved.origin("precision.c") == "argument"
    assert resolved.origin("precision") == "option --precision"


def test_another_component_forgets_the_options_of_the_first(tmp_path):
    write(tmp_path, "ds.toml", '[precision]\nname = "fp16"\na = 1\n')
    resolved = resolve({"precision": "bf16"}, folder=tmp_path, environ={})
    assert resolved.config.precision.options == {}
    assert resolved.origin("precision.a") == "argument"
    replaced = resolve({"precision": {"name": "bf16", "z": 1}}, folder=tmp_path, environ={})
    assert replaced.config.precision.options == {"z": 1}


def test_files_are_found_upwards_and_one_can_be_named(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(tmp_path, "ds.toml", "total_steps = 5\n")
    write(below, "pyproject.toml", '[project]\nname = "x"\n')
    write(tmp_path, "pyproject.toml", "[tool.ds]\ntotal_steps = 4\nobservers = ['x', 'y']\n")
    resolved = resolve(folder=below, environ={})
    assert resolved.config.total_steps == 5
    assert [choice.name for choice in resolved.config.observers] == ["x", "y"]
    named = resolve(file=write(tmp_path, "other.toml", "total_steps = 6\n"), environ={})
    assert named.config.total_steps == 6
    assert named.config.observers == ()
    with pytest.raises(ConfigError, match="no such configuration"):
        resolve(file=tmp_path / "missing.toml")


def test_variables_and_their_options_in_any_order(tmp_path):
    environ = {
        "DS_PRUNER__SPARSITY": "0.25",
        "DS_PRUNER": "magnitude",
        "DS_OBSERVERS": "a, b",
        "DS_TOTAL_STEPS": "12",
        "DS_TOPOLOGY": "",
        "DS_CONFIG_DIR": "/x",
        "DS_SOMEBODY_ELSES": "1",
    }
    config = resolve(folder=tmp_path, environ=environ).config
    assert (config.pruner.name, config.pruner.options) == ("magnitude", {"sparsity": 0.25})
    assert [choice.name for choice in config.observers] == ["a", "b"]
    assert config.total_steps == 12
    assert config.topology is None


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("ds.toml", '# first\n\nprecison = "bf16"\n', 3),
        ("ds.toml", '[precison]\nname = "bf16"\n', 1),
        (
            "pyproject.toml",
            '[project]\nname = "x"\n\n[tool.ds]\nbackend = "cpu"\nprecison = 1\n',
            6,
        ),
        ("pyproject.toml", "[tool.ds.precison]\na = 1\n", 1),
    ],
)
def test_an_unknown_key_names_its_place_and_the_nearest(tmp_path, name, text, line):
    path = write(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        resolve(folder=tmp_path, environ={})
    assert caught.value.where == f"{path}:{line}"
    assert caught.value.what == "There is no setting 'precison'."
    assert caught.value.mend == "Did you mean 'precision'?"


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"arguments": {"precison": "x"}}, "argument"),
        ({"options": {"precison": "x"}}, "option --precison"),
        ({"mapping": {"precison": "x"}}, "config"),
        ({"environ": {"DS_PRECISON": "x"}}, "DS_PRECISON"),
    ],
)
def test_an_unknown_key_elsewhere(tmp_path, given, where):
    with pytest.raises(ConfigError) as caught:
        resolve(**{"folder": tmp_path, "environ": {}, **given})
    assert caught.value.where == where
    assert "recision" in caught.value.mend.lower()


def test_a_value_that_cannot_be_names_its_place(tmp_path):
    write(tmp_path, "ds.toml", 'backend = "cpu"\ntotal_steps = 0\n')
    with pytest.raises(ConfigError, match="'total_steps' cannot be 0") as caught:
        resolve(folder=tmp_path, environ={})
    assert caught.value.where == f"{tmp_path}/ds.toml:2"
    with pytest.raises(ConfigError, match="'total_steps'") as caught:
        resolve({"total_steps": "many"}, folder=tmp_path, environ={})
    assert caught.value.where == "argument"


def test_options_need_to_know_whose_they_are(tmp_path):
    write(tmp_path, "ds.toml", "[pruner]\nsparsity = 1\n")
    with pytest.raises(ConfigError, match="has options but no name") as caught:
        resolve(folder=tmp_path, environ={})
    assert caught.value.where == f"{tmp_path}/ds.toml:2"
    with pytest.raises(ConfigError, match="has options but no name") as caught:
        resolve(folder=tmp_path / "x", environ={"DS_PRECISION__OUTPUTS": "keep"})
    assert caught.value.where == "DS_PRECISION__OUTPUTS"


def test_options_may_come_before_the_name_that_they_are_for(tmp_path):
    environ = {"DS_PRUNER__SPARSITY": "0.7"}
    resolved = resolve({"pruner": "magnitude"}, folder=tmp_path, environ=environ)
    assert resolved.config.pruner.name == "magnitude"
    assert resolved.config.pruner.options == {"sparsity": 0.7}
    assert resolved.origin("pruner") == "argument"
    assert resolved.origin("pruner.sparsity") == "DS_PRUNER__SPARSITY"


@pytest.mark.parametrize("text", ["= 3", "[tool.ds]\n= 3"])
def test_files_that_are_no_toml(tmp_path, text):
    path = write(tmp_path, "ds.toml", text)
    with pytest.raises(ConfigError, match="Not valid TOML") as caught:
        resolve(folder=tmp_path, environ={})
    assert caught.value.where == str(path)


def test_a_broken_pyproject_of_somebody_else_is_not_ours_to_judge(tmp_path):
    write(tmp_path, "pyproject.toml", "[tool.other]\n= 3")
    assert resolve(folder=tmp_path, environ={}).config == SessionConfig()


def test_inner_lines_of_a_table(tmp_path):
    path = write(
        tmp_path, "ds.toml", '[pruner]\n# the usual\nname = "magnitude"\n\n  sparsity = 0.5\n'
    )
    resolved = resolve(folder=tmp_path, environ={})
    assert resolved.origin("pruner") == f"{path}:3"
    assert resolved.place("pruner.sparsity") == f"{path}:5"
    # What is not written is where its component is.
    assert resolved.place("pruner.scope") == f"{path}:3"
