import json
from pathlib import Path

from tests.distributions import install

from .test_backends import zoo


def explain(invoke, *args):
    result = invoke("explain", "--json", *args)
    return json.loads(result.stdout), result


def test_the_decisions_with_the_origin_of_each_setting(invoke):
    Path("ds.toml").write_text('[precision]\nname = "fp16"\ngrowth_interval = 7\n')
    found, result = explain(invoke, "--set", "precision.init_scale=8", "--observer", "finite")
    assert result.exit_code == 0
    assert found["backend"] == "cpu"
    assert found["backend_origin"] == "default"
    assert found["dtypes"]["fp32"]["works"]
    precision, observer = found["passes"]
    assert (precision["kind"], precision["name"]) == ("precision", "fp16")
    settings = {setting["key"]: setting for setting in precision["settings"]}
    assert settings["growth_interval"]["value"] == 7
    assert settings["growth_interval"]["origin"] == f"{Path('ds.toml').resolve()}:3"
    assert settings["init_scale"] == {
        "key": "init_scale",
        "value": 8.0,
        "origin": "option --set precision.init_scale",
    }
    assert settings["max_scale"]["origin"] == "default"
    assert observer["origin"] == "option --observer"
    assert found["needs"] == [
        {"component": "precision fp16", "capability": "dtype:fp16", "provider": "backend cpu"}
    ]


def test_the_same_for_people(invoke):
    result = invoke("explain", "--precision", "bf16", "--backend", "cpu")
    assert result.exit_code == 0
    for part in (
        "backend cpu (option --backend)",
        "* cpu of ds-core",
        "asked for by name",
        "precision bf16 of ds-core",
        'outputs = "float32" (default)',
        "precision bf16 needs dtype:bf16: backend cpu has it",
        "measured",
    ):
        assert part in result.output


def test_a_refusal_is_one_sentence_after_what_led_to_it(invoke, site):
    zoo(site)
    found, result = explain(invoke, "--backend", "ill")
    assert result.exit_code == 1
    assert result.stderr == "Error: Backend 'ill' cannot be used: No firmware. Load it.\n"
    assert found["refusal"] in result.stderr
    assert found["backend"] is None
    assert [row["name"] for row in found["backends"]][:2] == ["big", "cpu"]


def test_losers_tell_why_they_lost(invoke, site):
    zoo(site)  # `big` says that it is there, but torch knows no such device
    result = invoke("explain")
    assert result.exit_code == 0
    lines = {line.strip("* ").split(" of ")[0]: line for line in result.output.splitlines()[1:]}
    assert "could not be activated" in lines["big"]
    assert "the driver is on fire" in lines["bomb"]
    assert "No firmware." in lines["ill"]
    assert lines["cpu"].strip().startswith("*")


def test_a_capability_that_nothing_provides_is_refused(invoke, site):
    source = """
from ds_core.components import Pruner

class needy(Pruner):
    name = "needy"
    requires = frozenset({"moonlight"})
"""
    install(
        site,
        "ds-needy",
        {"ds.passes.pruner": {"needy": "needy:needy"}},
        modules={"needy": source},
    )
    found, result = explain(invoke, "--pruner", "needy")
    assert result.exit_code == 1
    assert "pruner 'needy' needs moonlight" in found["refusal"]


def test_names_and_options_that_are_not_there(invoke, monkeypatch):
    unknown = invoke("explain", "--precision", "bf17")
    assert unknown.exit_code == 1
    assert "Did you mean 'bf16'" in unknown.stderr
    assert unknown.stdout == ""
    # An index of plugins that none of those installed here stands in.
    Path("index.toml").write_text('[topology]\nnowhere = "ds-nowhere"\n')
    monkeypatch.setattr("ds_core.registry.__file__", str(Path("registry.py").resolve()))
    missing = invoke("explain", "--topology", "nowhere")
    assert "pip install ds-nowhere" in missing.stderr
    Path("ds.toml").write_text('[precision]\nname = "bf16"\noutptus = "keep"\n')
    wrong = invoke("explain")
    assert wrong.exit_code == 1
    assert wrong.stderr.strip() == (
        f"Error: {Path('ds.toml').resolve()}:3: precision 'bf16' has no option 'outptus'. "
        "Did you mean 'outputs'?"
    )
