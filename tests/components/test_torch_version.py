import sys

import pytest
import torch

from ds_core.components.torch_version import torch_build


def test_reads_the_torch_that_is_installed():
    build = torch_build()
    assert build == (torch.__version__, torch.version.cuda, torch.version.hip)


@pytest.mark.parametrize("broken", ["", "__version__ = 3\n", "\0", "version = '1'\n"])
def test_a_torch_that_cannot_be_read_is_none(tmp_path, monkeypatch, broken):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    (tmp_path / "torch" / "version.py").write_text(broken)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert torch_build() is None


def test_a_folder_that_only_bears_the_name_is_none(tmp_path, monkeypatch):
    (tmp_path / "torch").mkdir()
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.path_importer_cache.clear()
    assert torch_build() is None
