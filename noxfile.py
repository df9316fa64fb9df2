"""Everything that one runs on a clone. `nox -l` lists it; nox is all that must be installed."""

import platform
import shutil
import sys
import tempfile
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2024.3.2"
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
# The release that is tested. Pinned, as another one may bring gigabytes of GPU libraries.
TORCH = "torch==2.13.0"
TORCH_NPU = "torch_npu==2.13.0"


def install(session, *requirements, editable=True):
    """Install torch first, then the core with all plugins, and whatever else is wanted."""
    session.install(TORCH)
    flag = ["-e"] if editable else []
    plugins = [item for path in PLUGINS for item in (*flag, str(path))]
    session.install(*flag, ".[demo]", *plugins, *requirements)


@nox.session
def demo(session):
    """The main job: train a real model on real data, plain and then with the passes installed."""
    install(session)
    session.run("ds", "demo", *session.posargs)


@nox.session
def tests(session):
    """All tests of the core and of the plugins."""
    install(session, "-r", "tests/requirements.txt")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    # Tensors are small here: threads of one process would only wait for each other.
    side_by_side = ("--numprocesses", "auto", "--maxprocesses", "4")
    # Apart for each distribution: none meets another's modules or simulated device.
    for path in (ROOT, *PLUGINS):
        tests = str((path / "tests").relative_to(ROOT))
        session.run("pytest", *side_by_side, tests, env={"OMP_NUM_THREADS": "1"})


@nox.session
def lint(session):
    """Style, by ruff."""
    session.install("ruff==0.17.6")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session):
    """Strict types of everything that is installed."""
    install(session, "mypy==2.4.1", "-r", "tests/requirements.txt")  # whose types it reads
    session.run("mypy", *session.posargs)


@nox.session
def docs(session):
    """The documentation as a web site in `site/`; warnings are errors."""
    # Plugins are read, not imported.
    session.install(TORCH)
    session.install("-e", ".", "mkdocs-material==9.8.1", "mkdocstrings[python]==1.0.8")
    session.run("mkdocs", "build", "--strict", *session.posargs)


@nox.session(reuse_venv=False)
def build(session):
    """Wheels of the core and the plugins, installed into an empty environment and tried."""
    session.install("build")
    wheels = ROOT / "dist"
    shutil.rmtree(wheels, ignore_errors=True)
    for path in (ROOT, *PLUGINS):
        session.run("python", "-m", "build", "--wheel", "--outdir", str(wheels), str(path))
    with tempfile.TemporaryDirectory() as folder:
        session.run(sys.executable, "-m", "venv", folder, external=True)
        python = str(Path(folder) / "bin" / "python")
        session.run(python, "-m", "pip", "install", "-q", TORCH, external=True)
        session.run(
            python, "-m", "pip", "install", "-q", *map(str, wheels.glob("*.whl")), external=True
        )
        for command in (
            ["version"],
            ["plugins", "list"],
            ["backends"],
            ["explain", "--precision", "auto"],
        ):
            session.run(python, "-m", "ds_core", *command, external=True)


@nox.session
def matrix(session):
    """Try every combination of the installed components; writes docs/matrix.md."""
    install(session, "-r", "tests/requirements.txt")
    session.run("python", "-m", "tests.matrix.run", "docs/matrix.md")


@nox.session
def cluster(session):
    """Tests on emulated clusters, and a short benchmark of all-reduces; needs root, ip and tc."""
    install(session, "-r", "tests/requirements.txt")
    probe = (
        "from ds_nccl_ring.emulated_cluster import EmulatedCluster; "
        "print(EmulatedCluster.missing() or '')"
    )
    missing = session.run("python", "-c", probe, silent=True)
    if missing and missing.strip():
        session.skip(missing.strip())
    ring = "plugins/ds-nccl-ring"
    session.run("pytest", "-m", "cluster", f"{ring}/tests", env={"OMP_NUM_THREADS": "1"})
    session.run("python", f"{ring}/benchmarks/all_reduce.py", "--short", *session.posargs)


@nox.session
def ascend_stub(session):
    """Tests of ds-ascend with the vendor's torch_npu, on a stub in place of CANN; needs gcc."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        session.skip("torch_npu is built for Linux on x86_64 and aarch64.")
    absent = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if absent:
        session.skip(f"The stub is built with {', '.join(absent)}.")
    ascend = ROOT / "plugins/ds-ascend"
    # In an environment of its own: without the stub, `import torch` fails beside torch_npu.
    session.install(TORCH, "numpy", "pyyaml", "pytest-xdist")
    session.install("-e", ".[testing]", "-e", f"{ascend}[test]")
    try:
        session.install("--no-deps", TORCH_NPU)
    except CommandFailed:
        session.skip(f"{TORCH_NPU} cannot be had for this Python.")
    side_by_side = ("--numprocesses", "auto", "--maxprocesses", "4")
    session.run(
        *("python", "-m", "cann_stub", "pytest", *side_by_side, str(ascend / "tests_on_stub")),
        *session.posargs,
        env={"PYTHONPATH": str(ascend / "tests"), "OMP_NUM_THREADS": "1"},
    )


@nox.session
def bench(session):
    """The benchmarks: `nox -s bench` runs all, `nox -s bench -- attach` one of them."""
    install(session)
    names = session.posargs[:1] or sorted(
        path.stem for path in (ROOT / "tests/benchmarks").glob("[!_]*.py")
    )
    for name in names:
        session.run("python", f"tests/benchmarks/{name}.py", *session.posargs[1:])
