import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from ds_core.cli.main import ds as cli
from ds_core.commands import COMMANDS
from tests.distributions import install

COMMAND = """
import sys
import click
from ds_core.errors import RefusedError

@click.command()
@click.argument("what", default="greet")
def {name}(what):
    '''Do as told.'''
    if what == "refuse":
        raise RefusedError("It will not do.", mend="Ask for less.")
    if what == "stop":
        raise KeyboardInterrupt
    if what == "fail":
        raise ZeroDivisionError("by nought")
    if what == "exit":
        sys.exit(7)
    click.echo("hello from {name}")
"""


@pytest.fixture
def commands(site):
    def add(distribution, name, module, source=COMMAND, **more):
        install(
            site,
            distribution,
            {"ds.commands": {name: f"{module}:{module}"}},
            modules={module: source.format(name=module)},
            summary=f"What {distribution} is for",
            **more,
        )

    add("ds-hello", "hello", "hello")
    add("ds-crash", "crash", "crash", source="import no_such_module_here")
    add("ds-odd", "odd", "odd", source="odd = 3")
    add("ds-thief", "version", "thief")
    add("ds-later", "later", "later", requires="ds-core>=99")
    return site


def test_help_lists_own_and_plugin_commands_without_importing_those(invoke, commands):
    text = invoke("--help").output
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "What ds-hello is for" in text
    assert "What ds-crash is for" in text
    assert "later" not in text
    assert "ds-thief" not in text
    assert not {"hello", "crash", "odd", "thief"} & set(sys.modules)


def test_a_plugins_command_runs(invoke, commands):
    assert invoke("hello").output == "hello from hello\n"
    assert "Do as told." in invoke("hello", "--help").output


def test_a_broken_command_gives_one_sentence_and_hurts_no_other(ds, commands):
    broken = ds("crash")
    assert broken.returncode == 1
    assert broken.stderr.startswith("Error: command 'crash' of ds-crash 1.2.3 cannot be imported")
    assert len(broken.stderr.splitlines()) == 1
    assert ds("hello").stdout == "hello from hello\n"
    odd = ds("odd")
    assert odd.returncode == 1
    assert "is no command, but a int" in odd.stderr
    later = ds("later")
    assert later.returncode == 1
    assert "needs ds-core>=99" in later.stderr


def test_own_commands_are_not_shadowed(invoke, commands):
    assert "ds-core" in invoke("version").output
    listed = invoke("plugins", "list", "--kind", "command").output
    assert "run this one as `ds ds-thief:version`" in listed
    assert invoke("ds-thief:version").output == "hello from thief\n"


def test_a_command_of_two_distributions_needs_its_full_name(invoke, commands):
    install(
        commands,
        "ds-rival",
        {"ds.commands": {"hello": "rival:rival"}},
        modules={"rival": COMMAND.format(name="rival")},
    )
    result = invoke("hello")
    assert result.exit_code == 1
    assert "'ds-hello:hello' or 'ds-rival:hello'" in result.stderr
    assert invoke("ds-rival:hello").output == "hello from rival\n"


def test_errors_of_ds_are_one_message_and_exit_code_1(ds, commands):
    result = ds("hello", "refuse")
    assert result.returncode == 1
    assert result.stderr == "Error: It will not do. Ask for less.\n"


@pytest.mark.parametrize(("args", "environ"), [(["--debug"], {}), ([], {"DS_DEBUG": "1"})])
@pytest.mark.parametrize("what", ["refuse", "fail"])
def test_debug_adds_the_traceback(ds, commands, args, environ, what):
    result = ds(*args, "hello", what, **environ)
    assert result.returncode == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert "hello.py" in result.stderr


def test_what_nobody_expected_says_that_it_is_a_bug(ds, commands):
    result = ds("hello", "fail")
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert "bug" in result.stderr
    assert "ZeroDivisionError: by nought" in result.stderr
    assert "--debug" in result.stderr


def test_ctrl_c_stops_cleanly(ds, commands):
    result = ds("hello", "stop")
    assert (result.returncode, result.stderr.strip()) == (130, "Stopped.")


def test_a_commands_own_exit_code_is_kept(ds, commands):
    assert ds("hello", "exit").returncode == 7


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["plugin"], "Did you mean 'plugins'"),
        (["plugins", "list", "--kind", "prunner"], "pruner"),
        (["explain", "--set", "nonsense"], "KEY=VALUE"),
        (["explain", "--set", "a..b=1"], "KEY=VALUE"),
        (["demo", "--epochs", "0"], "epochs"),
        (["backends", "--root", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_usage_errors_exit_with_2(invoke, args, said):
    result = invoke(*args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_the_module_is_the_script():
    both = [
        subprocess.run([*command, "version"], capture_output=True, text=True, check=True).stdout
        for command in (
            [sys.executable, "-m", "ds_core"],
            [sys.executable, "-c", "from ds_core.cli.main import main; main()"],
        )
    ]
    assert both[0] == both[1] != ""


def complete(ds, *words):
    line = " ".join(words)
    result = ds(_DS_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert result.stderr == ""
    return [entry.partition(",")[2] for entry in result.stdout.split()]


def test_shells_complete_commands_and_names(ds, commands):
    (commands / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "atexit.register(lambda: sys.exit('torch') if 'torch' in sys.modules else None)\n"
    )
    assert "plugins" in complete(ds, "ds", "pl")
    assert "hello" in complete(ds, "ds", "he")
    assert complete(ds, "ds", "explain", "--precision", "f") == ["fp16", "fp32"]
    assert "magnitude" in complete(ds, "ds", "plugins", "info", "magn")
    assert complete(ds, "ds", "crash", "x") == []


def test_completion_is_silent_about_a_broken_users_file(ds, tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "config.toml").write_text("[")
    assert "plugins" in complete(ds, "ds", "pl")
    assert complete(ds, "ds", "explain", "--precision", "fp1") == []


def test_every_own_command_has_the_summary_that_help_shows():
    for name, own in COMMANDS.items():
        context = click.Context(cli)
        shown = cli.get_command(context, name)
        assert shown is not None
        assert shown.get_short_help_str(200) == own.summary
        assert (
            "Usage: ds " + name in CliRunner().invoke(cli, [name, "--help"], prog_name="ds").output
        )
