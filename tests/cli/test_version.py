import json
import platform

import torch

import ds_core
from tests.distributions import install


def test_versions_of_all(invoke, site):
    install(site, "ds-good", {"ds.models": {"good": "good:X"}}, version="4.5")
    found = json.loads(invoke("version", "--json").stdout)
    assert found["ds_core"] == ds_core.__version__
    assert found["python"] == platform.python_version()
    assert found["torch"] == torch.__version__
    assert found["plugins"]["ds-good"] == "4.5"
    text = invoke("version").output
    assert f"torch {torch.__version__}" in text
    assert "ds-good 4.5" in text
    assert ds_core.__version__ in invoke("--version").output
