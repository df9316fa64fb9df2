import json
from pathlib import Path


def test_each_value_with_its_origin(invoke, monkeypatch):
    Path("pyproject.toml").write_text('[tool.ds]\nbackend = "cpu"\npruner = "magnitude"\n')
    Path("ds.toml").write_text('total_steps = 9\npruner = "none"\n')
    monkeypatch.setenv("DS_PRECISION", "fp16")
    monkeypatch.setenv("DS_PRECISION__INIT_SCALE", "4")
    monkeypatch.setenv("DS_DISABLE_PLUGINS", "flat")
    shown = json.loads(
        invoke("config", "show", "--json", "--observer", "finite", "--set", "total_steps=3").stdout
    )
    here = Path.cwd()
    origins = {item["key"]: (item["value"], item["origin"]) for item in shown["settings"]}
    assert origins == {
        "backend": ("cpu", f"{here}/pyproject.toml:2"),
        "precision": ("fp16", "DS_PRECISION"),
        "precision.init_scale": (4, "DS_PRECISION__INIT_SCALE"),
        "pruner": (None, f"{here}/ds.toml:2"),
        "topology": (None, "default"),
        "observers": (["finite"], "option --observer"),
        "transforms": ([], "default"),
        "total_steps": (3, "option --set total_steps"),
    }
    assert shown["disabled"] == {"flat": "DS_DISABLE_PLUGINS"}
    assert shown["user_file"].endswith("config.toml")


def test_the_same_for_people(invoke, monkeypatch):
    monkeypatch.setenv("DS_DISABLE_PLUGINS", "flat")
    text = invoke("config", "show", "--precision", "bf16").output
    assert [line.split() for line in text.splitlines()][1:4] == [
        ["backend", "auto", "default"],
        ["precision", "bf16", "option", "--precision"],
        ["pruner", "none", "default"],
    ]
    assert "plugin flat is switched off in DS_DISABLE_PLUGINS" in text
    assert "(not there)" in text
