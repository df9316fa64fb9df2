import os

import pytest

from ds_core.compatibility import sources
from ds_core.compatibility.check import read
from ds_core.compatibility.sources import Tree


def walk(root):
    tree = Tree(root)
    return [source.path.removeprefix(f"{root}/") for source in tree.sources()], tree


def rules(root):
    return {finding.rule for finding in read(root).findings}


def put(root, **files):
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_sources_come_in_order_and_other_files_not_at_all(tmp_path):
    put(tmp_path, b__a_py="", a_cu="", c_cpp="", d_txt="", e_h="")
    assert walk(tmp_path)[0] == ["a.cu", "c.cpp", "e.h", "b/a.py"]


def test_one_file_may_be_named(tmp_path):
    put(tmp_path, a_py="", b_py="")
    assert [source.path for source in Tree(tmp_path / "a.py").sources()] == [str(tmp_path / "a.py")]


def test_what_others_wrote_or_tools_built_is_left_out_and_said_so(tmp_path):
    names = [".git", "node_modules", "build", "x.egg-info", "__pycache__"]
    for name in names:
        put(tmp_path / name, a_py="")
    put(tmp_path / "myenv", a_py="")
    (tmp_path / "myenv" / "pyvenv.cfg").write_text("")
    put(tmp_path / "src" / "buildings", a_py="")
    found, tree = walk(tmp_path)
    assert found == ["src/buildings/a.py"]
    assert len(tree.skipped) == len(names) + 1


def test_links_in_a_circle_end(tmp_path):
    put(tmp_path, a__a_py="")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.py").symlink_to(tmp_path / "self.py")
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nowhere.py")
    assert walk(tmp_path)[0] == ["a/a.py"]


def test_a_file_that_is_too_large_is_left_out_and_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 10)
    put(tmp_path, small_py="x = 1", large_py="x = 1" * 10)
    found, tree = walk(tmp_path)
    assert found == ["small.py"]
    assert [f.rule for f in tree.findings] == ["too-large"]


def test_a_tree_that_is_too_large_is_cut_and_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    put(tmp_path, a_py="", b_py="", c_py="")
    found, tree = walk(tmp_path)
    assert len(found) == 2
    assert [f.rule for f in tree.findings] == ["too-large"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_what_may_not_be_read_is_a_finding(tmp_path):
    put(tmp_path, a_py="", b__c_py="")
    (tmp_path / "a.py").chmod(0)
    (tmp_path / "b").chmod(0)
    assert {f.rule for f in walk(tmp_path)[1].findings} == {"unreadable"}
    (tmp_path / "b").chmod(0o755)


def test_a_file_that_vanishes_is_a_finding(tmp_path, monkeypatch):
    put(tmp_path, a_py="")

    def gone(path):
        raise OSError(2, "No such file or directory")

    monkeypatch.setattr(sources.Path, "read_bytes", gone)
    assert [f.rule for f in walk(tmp_path)[1].findings] == ["unreadable"]


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (b"def f(:", "python-syntax"),
        (b"print 'x'", "python-syntax"),
        (b"x = '\0'", "python-syntax"),
        (b"(" * 5000, "python-syntax"),
        (b"x = " + b"-" * 200_000 + b"1", "python-syntax"),
        (b"# -*- coding: latin-1 -*-\nx = '\xe9'", None),
        (b"x = '\xe9'", "encoding"),
        (b"# coding: no-such-thing\nx = 1", "encoding"),
        (b"\xef\xbb\xbfx = 1", None),
        (b"", None),
    ],
)
def test_python_that_cannot_be_parsed_is_a_finding(tmp_path, source, rule):
    put(tmp_path, a_py=source)
    assert rules(tmp_path) == ({rule} if rule else set())


def test_python_2_is_called_so(tmp_path):
    put(tmp_path, a_py="x = 1\nprint 'x'")
    (finding,) = read(tmp_path).findings
    assert "Python 2" in finding.what
    assert finding.line == 2


def test_python_in_another_encoding_is_scanned_all_the_same(tmp_path):
    put(tmp_path, a_py=b"import torch\nx.cuda()  # \xe9")
    (uses,) = read(tmp_path).python.values()
    assert [use.rule for use in uses] == ["cuda-call"]


def test_native_code_in_another_encoding_is_scanned_all_the_same(tmp_path):
    put(tmp_path, a_cu=b"// \xe9\nvoid f() { cudaNew(); }")
    project = read(tmp_path)
    assert {f.rule for f in project.findings} == {"encoding"}
    assert [site.name for site in next(iter(project.native.values())).names] == ["cudaNew"]


def test_a_module_of_the_project_is_not_the_package_of_that_name(tmp_path):
    (tmp_path / "src" / "apex").mkdir(parents=True)
    (tmp_path / "src" / "apex" / "a.py").write_text("import apex\nimport cupy")
    (uses,) = read(tmp_path).python.values()
    assert [use.subject for use in uses] == ["cupy"]


def test_names_that_are_no_text_are_shown_as_far_as_they_are(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.py")).write_bytes(b"x.cuda()")
    (found,) = read(tmp_path).python
    found.encode()
