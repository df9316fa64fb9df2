import pytest

from .labelled_sources import labelled

SOURCES = {one.path.name: one for one in labelled()}


@pytest.mark.parametrize("name", SOURCES)
def test_a_labelled_source_gives_what_is_labelled(name):
    assert SOURCES[name].found == SOURCES[name].expected


def test_there_are_sources_of_all_kinds_with_and_without_findings():
    for suffix in (".py", ".cu", ".cpp"):
        assert any(SOURCES[name].expected for name in SOURCES if name.endswith(suffix))
        assert any(not SOURCES[n].expected for n in SOURCES if n.endswith(suffix))
