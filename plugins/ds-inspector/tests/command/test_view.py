import pytest
from click.testing import CliRunner
from ds_inspector.command.view import view
from ds_inspector.server import assets
from made_up import example

from ds_core.errors import RefusedError


def run(*arguments):
    return CliRunner().invoke(view, [str(one) for one in arguments])


@pytest.fixture
def file(tmp_path):
    return example().save(tmp_path / "run.dsrec")


@pytest.mark.skipif(
    not (assets.FOLDER / "index.html").is_file(), reason="the page is not built; npm builds it"
)
def test_a_page_is_written_and_what_it_leaves_out_is_said(file, tmp_path):
    page = tmp_path / "page.html"
    result = run(file, file, "--html", page)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"Saved in {page}.",
        "Flame graphs of single steps are left out.",
    ]
    assert page.read_text().startswith("<!doctype html>")


def test_a_file_that_is_not_there_is_named(tmp_path):
    result = run(tmp_path / "nothing.dsrec", "--no-browser")
    assert isinstance(result.exception, RefusedError)
    assert "nothing.dsrec" in str(result.exception)


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_a_port_that_there_cannot_be_is_refused(file, port):
    result = run(file, "--port", port)
    assert result.exit_code == 2
    assert "--port" in result.output
