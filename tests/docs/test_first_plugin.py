"""The author's guide, run with plugins installed into a folder that is thrown away."""

import os
import re

import pytest
import torch

from tests.installing import environment

from .pages import DOCS, HOME, ROOT, Page, differences
from .test_docs import refresh

PAGES = sorted((DOCS / "author").glob("*.md"))


def told(text):
    """What is printed, with the folders of a reader and without a dot for each check."""
    dots = re.compile(r"^[.s]+ +\[ *\d+%\]\n", re.MULTILINE)
    state = os.environ["DS_STATE_DIR"]
    text = dots.sub("", text).replace(state, f"{HOME}/.local/state/ds-core")
    return text.replace(f"{ROOT}/", "")


def counted(text):
    """`text` without what changes with every check that is added."""
    text = re.sub(r"\d+ (passed|skipped|deselected)", r"# \1", text)
    text = re.sub(r"(?<=  )\d+(?=  )", "#", text)
    return re.sub(r"\.py:\d+:", ".py:#:", text)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="pages show a machine without one")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_a_page_shows_is_what_happens(path, tmp_path, monkeypatch):
    job = tmp_path / "job"
    job.mkdir()
    monkeypatch.chdir(job)
    for name, value in environment(tmp_path / "installed").items():
        monkeypatch.setenv(name, value)
    page = Page(path, job)
    real = [(block, shown, told(printed)) for block, shown, printed in page.run()]
    if os.environ.get("REFRESH_DOCS"):
        refresh(page, real)
        return
    wrong = [
        f"{block.place}: {line}"
        for block, shown, printed in real
        for line in differences(block, counted(shown), counted(printed))
    ]
    assert not wrong, "\n".join(wrong)
