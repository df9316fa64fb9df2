"""`ds plugins check`, on components that behave and on every way of breaking one."""

import json
import os
import subprocess
import sys

import pytest

from tests.distributions import install

HEAD = '''
"""A test's component."""

from ds_core import hookimpl
from ds_core.components import Observer, Options


class Watch(Observer):
    """Watches."""

    name = "watch"

    class Config(Options):
        """How."""

        every: int = 1
        """Steps between two looks."""
'''

SOUND = (
    HEAD
    + """
    @hookimpl
    def ds_after_step(self, session):
        pass
"""
)

WAYS = {
    "an import error": ("import surely_not_there\n" + SOUND, "surely_not_there", "hooks"),
    "an unknown hook": (
        SOUND.replace("ds_after_step", "ds_aftr_step"),
        "There is no hook 'ds_aftr_step'. Did you mean 'ds_after_step'",
        "hooks",
    ),
    "an unknown argument": (
        SOUND.replace("(self, session)", "(self, sesion)"),
        "has no argument 'sesion'. Did you mean 'session'",
        "hooks",
    ),
    "a result of the wrong kind": (
        SOUND.replace("ds_after_step", "ds_around_forward").replace("pass", "return 7"),
        "returned int from ds_around_forward, which takes a function or None",
        "loop.keywords",
    ),
    "a change that is not undone": (
        SOUND.replace("pass", "session.model.mark = 1"),
        "Make every change through session.changes",
        "detach.restores",
    ),
    "state that is not restored": (
        HEAD
        + """
    seen = 0

    @hookimpl
    def ds_after_step(self, session):
        self.seen += 1

    def state_dict(self):
        return {"seen": self.seen}
""",
        "['seen']: 0 against 7",
        "state.restored",
    ),
    "a gradient that it changes": (
        HEAD
        + """
    @hookimpl
    def ds_parameter_gradient(self, session, name, parameter):
        return lambda gradient: gradient * 2
""",
        "a gradient must not differ because it is watched",
        "observer.gradients",
    ),
}


def run(site, *arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "ds_core", "plugins", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(site), *sys.path[1:]]),
            "DS_STATE_DIR": str(site / "state"),
            "OMP_NUM_THREADS": "1",
            **environ,
        },
    )


def plugin(site, source, **more):
    install(
        site,
        "ds-watch",
        {"ds.passes.observer": {"watch": "watch_module:Watch"}},
        modules={"watch_module": source},
        **more,
    )


def test_a_sound_component_passes_and_its_report_is_kept(tmp_path):
    plugin(tmp_path, SOUND)
    done = run(tmp_path, "check", "watch", "--report", str(tmp_path / "report.json"))
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["distribution"] == "ds-watch"
    assert report["versions"]["torch"]
    assert len(report["checks"]) >= 40
    assert {check["outcome"] for check in report["checks"]} <= {"passed", "skipped"}
    assert all(check["id"] and check["reason"] for check in report["checks"])
    info = run(tmp_path, "info", "watch")
    assert "last check    " in info.stdout


@pytest.mark.parametrize("way", WAYS)
def test_a_broken_component_fails_and_reads_what_to_do(way, tmp_path):
    source, said, only = WAYS[way]
    plugin(tmp_path, source)
    done = run(tmp_path, "check", "watch", "--only", only)
    assert done.returncode == 1
    assert said in done.stdout
    assert ("to do: " if way != "an import error" else "Reinstall it") in done.stdout
    assert "Traceback" not in done.stderr
    # The others go on.
    assert "magnitude" in run(tmp_path, "list").stdout


def test_one_that_needs_another_core(tmp_path):
    plugin(tmp_path, SOUND, requires="ds-core>=99")
    done = run(tmp_path, "check", "watch", "--only", "metadata")
    assert done.returncode == 1
    assert "needs ds-core>=99" in done.stdout


def test_two_that_clash_are_checked_by_their_full_names(tmp_path):
    plugin(tmp_path, SOUND)
    install(
        tmp_path,
        "ds-other",
        {"ds.passes.observer": {"watch": "other_module:Watch"}},
        modules={"other_module": SOUND},
    )
    done = run(tmp_path, "check", "ds-other:watch", "--json", "--only", "metadata")
    report = json.loads(done.stdout)[0]
    failed = [check for check in report["checks"] if check["outcome"] == "failed"]
    assert [check["id"] for check in failed] == ["metadata.usable"]
    assert "2 distributions offer it" in failed[0]["message"]


def test_a_crash_in_native_code_is_told(tmp_path):
    plugin(tmp_path, SOUND.replace("pass", "import os; os.abort()"))
    done = run(tmp_path, "check", "watch", "--only", "train")
    assert done.returncode == 1
    assert "ended by signal 6" in done.stdout
    assert "broken" in done.stdout


def test_usage(tmp_path):
    for arguments, said in (
        ((), "Give NAMES, or --all"),
        (("--all", "cpu"), "Give NAMES, or --all"),
        (("file",), "no suite for file"),
        (("fp32", "bf16", "--report", "x"), "takes one component"),
    ):
        done = run(tmp_path, "check", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
    done = run(tmp_path, "check", "magnitud")
    assert done.returncode == 1
    assert "Did you mean 'magnitude'" in done.stderr
