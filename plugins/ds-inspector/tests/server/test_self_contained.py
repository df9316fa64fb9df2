import base64
import gzip
import hashlib
import re

import orjson
import pytest
from ds_inspector.server import assets, write_html
from made_up import HOSTILE, example

from ds_core.errors import RefusedError

pytestmark = pytest.mark.skipif(
    not (assets.FOLDER / "index.html").is_file(), reason="the page is not built; npm builds it"
)


def data(page):
    packed = re.search(r'id="data">([^<]*)<', page)[1]
    return orjson.loads(gzip.decompress(base64.b64decode(packed)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    left_out = write_html([example(), example(slow=2)], path)
    return path.read_text(), left_out


def test_it_allows_only_the_scripts_and_styles_that_it_has(pair):
    page, _ = pair
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect" not in policy
    for element in ("script", "style"):
        (text,) = re.findall(rf"<{element}(?: type=\"module\")?>(.*?)</{element}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{element}-src 'sha256-{digest}'" in policy


def test_it_names_nothing_to_load(pair):
    page, _ = pair
    outside = re.sub(r"<(script|style).*?</\1>|<!--.*?-->", "", page, flags=re.S)
    assert re.findall(r"(?:src|href)=\"([^\"]*)\"", outside) == ["data:,"]


def test_names_from_a_recording_do_not_stand_in_it_as_they_are(pair):
    page, _ = pair
    assert HOSTILE not in page
    assert any(HOSTILE in str(answer) for answer in data(page)["answers"].values())


def test_the_title_is_text(tmp_path):
    recording = example()
    recording.about.title = "</title><script>alert(1)</script>"
    write_html([recording], tmp_path / "page.html")
    assert "<script>alert" not in (tmp_path / "page.html").read_text()


def test_it_holds_what_the_views_ask_and_says_what_it_does_not(pair):
    page, left_out = pair
    found = data(page)
    assert found["left_out"] == left_out == ["Flame graphs of single steps are left out."]
    answers = found["answers"]
    for name in ("summary?r=0", "memory?r=1", "operators?r=0", "advice?r=0", "difference?"):
        assert name in answers
    assert "graph?group=encoder.layer.1&r=0" in answers
    for by in ("module", "operator", "source"):
        key = f"flame?against=1&by={by}&inverted=0&phase=backward&r=0&step=all"
        assert answers[key]["frames"]["change"]


def test_without_room_the_innermost_groups_and_further_flame_graphs_are_left_out(tmp_path):
    left_out = write_html([example()], tmp_path / "page.html", budget=9_000)
    text = " ".join(left_out)
    assert "groups of the graph are left out" in text
    assert "Some flame graphs are left out" in text
    answers = data((tmp_path / "page.html").read_text())["answers"]
    assert "graph?r=0" in answers
    assert "graph?group=encoder.layer.1.feed.up&r=0" not in answers


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "nowhere" / "page.html"
    with pytest.raises(RefusedError, match="nowhere"):
        write_html([example()], path)
