"""torch_npu is installed and CANN is not: `import torch` breaks, what ds says does not."""

import os
import subprocess
import sys

import pytest

CANN = ("LD_LIBRARY_PATH", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH")


@pytest.fixture
def python(tmp_path):
    """Runs Python as on a machine without CANN."""
    environment = {name: value for name, value in os.environ.items() if name not in CANN}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment | {"DS_CACHE_DIR": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    return run


def test_importing_torch_fails(python):
    done = python("-c", "import torch")
    assert done.returncode
    assert "libhccl.so" in done.stderr
    assert "Failed to load the backend extension: torch_npu" in done.stderr


def test_torch_works_without_its_extensions(python):
    code = "import os; os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0'; import torch"
    assert python("-c", code).returncode == 0


def test_ds_backends_names_the_cause_and_the_mend(python):
    done = python("-m", "ds_core", "backends")
    assert done.returncode == 0, done.stderr
    assert "CANN is not installed, so that `import torch` fails" in done.stdout
    assert "set_env.sh" in done.stdout
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stdout


def test_ds_check_compatibility_names_them_too(python, tmp_path):
    (tmp_path / "train.py").write_text("import torch\nx = torch.zeros(2).cuda()\n")
    done = python(
        *("-m", "ds_core", "check-compatibility", "train.py", "--target", "ascend"),
        "--import-torch",
    )
    assert done.returncode == 1, done.stderr
    assert "CANN is not installed" in done.stdout
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD=0" in done.stdout
    assert "train.py:2" in done.stdout


def test_activating_says_so(python):
    code = (
        "import os; os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'] = '0'\n"
        "from ds_ascend.backend import Ascend\n"
        "from ds_core.errors import BackendError\n"
        "try: Ascend().activate()\n"
        "except BackendError as error: print(error)"
    )
    done = python("-c", code)
    assert "libhccl.so" in done.stdout, done.stderr
    assert "torch-npu 2" in done.stdout
