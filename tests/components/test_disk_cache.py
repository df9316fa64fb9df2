from concurrent.futures import ThreadPoolExecutor

from ds_core.components import disk_cache


def test_what_is_stored_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("DS_CACHE_DIR", str(tmp_path))
    assert disk_cache.load("a.json") is None
    disk_cache.store("a.json", "Ünï")
    assert disk_cache.load("a.json") == "Ünï"


def test_writers_at_once_never_leave_a_mixture(tmp_path, monkeypatch):
    monkeypatch.setenv("DS_CACHE_DIR", str(tmp_path))
    texts = [str(number) * 20000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(disk_cache.store, "a", text) for text in texts * 8]
        while not all(writer.done() for writer in writers):
            assert disk_cache.load("a") in [None, *texts]
    assert disk_cache.load("a") in texts
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_without_a_home_nothing_is_kept(tmp_path, monkeypatch):
    for variable in ("DS_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "no such place")
    monkeypatch.setenv("LOCALAPPDATA", "no such place")
    monkeypatch.chdir(tmp_path)
    if disk_cache.folder() is None:  # Windows and macOS find a home all the same
        disk_cache.store("a", "text")
        assert disk_cache.load("a") is None
        assert list(tmp_path.iterdir()) == []
