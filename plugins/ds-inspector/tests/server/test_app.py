import gzip

import pytest
from ds_inspector.server import assets
from ds_inspector.server.answers import Answers
from ds_inspector.server.app import application
from ds_inspector.server.broadcast import Broadcast
from made_up import example
from starlette.testclient import TestClient

pytestmark = pytest.mark.skipif(
    not (assets.FOLDER / "index.html").is_file(), reason="the page is not built; npm builds it"
)

HOST = "http://127.0.0.1:8123"


@pytest.fixture(scope="module")
def client():
    return TestClient(application(Answers([example()]), "secret", 8123), base_url=HOST)


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/api/summary", "/wrong/", "/secre/", "/secret1/"]
)
def test_without_the_token_there_is_nothing(client, path):
    reply = client.get(path)
    assert reply.status_code == 404
    assert reply.text == "There is nothing here."


@pytest.mark.parametrize(
    "host", ["evil.example:8123", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:8123.evil.example", ""]
)
def test_another_name_of_this_machine_is_refused(client, host):
    assert client.get("/secret/", headers={"host": host}).status_code == 421


def test_localhost_is_this_machine(client):
    assert client.get("/secret/", headers={"host": "localhost:8123"}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_can_only_be_read(client, method):
    reply = client.request(method, "/secret/api/summary")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "path",
    ["/secret/", "/secret/app.js", "/secret/api/summary", "/secret/no", "/no", "/secret/api/x"],
)
def test_every_answer_forbids_what_the_page_does_not_need(client, path):
    headers = client.get(path).headers
    policy = dict(
        one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    for name in ("frame-ancestors", "base-uri", "form-action"):
        assert policy[name] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert not any(name.startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "path",
    [
        "../pyproject.toml",
        "%2e%2e/pyproject.toml",
        "..%2f..%2fetc%2fpasswd",
        "made_from.txt",
        "api/",
    ],
)
def test_nothing_but_the_page_is_read(client, path):
    assert client.get(f"/secret/{path}").status_code == 404


def test_the_page_has_no_inline_script_or_style_and_loads_from_itself(client):
    page = client.get("/secret/").text
    assert "<style" not in page
    assert "style=" not in page
    assert "http" not in page
    for name in ("app.js", "app.css"):
        assert f"./{name}" in page
        assert client.get(f"/secret/{name}").status_code == 200
    assert client.get("/secret/layout.js").headers["content-type"].startswith("text/javascript")


def test_large_answers_are_packed_for_those_who_can_unpack(client):
    plain = client.get("/secret/layout.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with client.stream("GET", "/secret/layout.js", headers={"accept-encoding": "gzip"}) as reply:
        packed = b"".join(reply.iter_raw())
    assert reply.headers["content-encoding"] == "gzip"
    assert len(packed) < len(plain.content)
    assert gzip.decompress(packed) == plain.content


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("api/flame?by=colour", 400, "by is 'colour'"),
        ("api/graph?group=nothing", 404, "nothing"),
        ("api/what", 404, "what"),
        ("api/live", 404, "No running session"),
    ],
)
def test_what_cannot_be_answered_is_said_in_one_sentence(client, path, status, says):
    reply = client.get(f"/secret/{path}")
    assert reply.status_code == status
    assert says in reply.json()["error"]


def test_a_running_session_is_streamed_from_its_beginning_to_its_end():
    steps = [{"step": step, "seconds": 0.1, "bytes": 10, "peak_bytes": 20} for step in range(3)]
    broadcast = Broadcast(lambda: iter(steps))
    app = application(Answers([], title="train.py", live=True), "secret", 8123, broadcast)
    broadcast.start()
    client = TestClient(app, base_url=HOST)
    for _ in range(2):  # one who comes late is told all the same
        reply = client.get("/secret/api/live")
        assert reply.headers["content-type"].startswith("text/event-stream")
        events = [one for one in reply.text.split("\n\n") if one.startswith("event: ")]
        assert [one.splitlines()[0] for one in events] == ["event: step"] * 3 + ["event: end"]
        assert '"step":2' in events[2]
