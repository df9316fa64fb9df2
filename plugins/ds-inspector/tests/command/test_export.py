"""The command `ds inspect export`."""

import json

import pytest
from click.testing import CliRunner
from ds_inspector.command.export import FORMATS, export
from ds_inspector.exporting import KINDS
from onnx import TensorProto, helper

from ds_core.errors import DsError


@pytest.fixture
def model(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"], name="/net/act/Relu")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def run(*arguments):
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_formats_are_those_of_the_package():
    assert list(FORMATS) == list(KINDS)


def test_writes_a_model(model, tmp_path):
    result = run(model, "--to", "model-explorer", "-o", tmp_path / "graph.json")
    assert result.exit_code == 0, result.output
    assert f"Written to {tmp_path / 'graph.json'}." in result.output
    (graph,) = json.loads((tmp_path / "graph.json").read_text())
    assert graph["nodes"][0]["namespace"] == "net/act"


def test_refusals_are_errors_of_the_project(model, tmp_path):
    out = tmp_path / "out.json"
    result = run(model, "--to", "chrome", "-o", out)
    assert isinstance(result.exception, DsError)
    assert not out.exists()
    out.write_text("mine")
    result = run(model, "--to", "model-explorer", "-o", out)
    assert "--force" in str(result.exception)
    assert run(model, "--to", "model-explorer", "-o", out, "--force").exit_code == 0
    assert isinstance(run(tmp_path / "none", "--to", "csv", "-o", out).exception, DsError)


def test_help_does_not_import_torch():
    import subprocess
    import sys

    code = (
        "import sys; from ds_inspector.command.export import export; "
        "export.main(['--help'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--force" in done.stdout
