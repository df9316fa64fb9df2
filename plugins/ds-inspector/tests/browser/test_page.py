"""What one does in the page, and what it shows then."""

from __future__ import annotations

import re
from concurrent.futures import Future

import pytest
from conftest import served
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About
from ds_inspector.server import write_html
from made_up import HOSTILE, SOURCE, example

GRAPH, FLAME, BARS = "canvas.graph-canvas", "canvas.flame-canvas", "canvas.bars-canvas"


def painted(page, canvas, least=1):
    """Wait until something is drawn."""
    page.wait_for_function(
        "([canvas, least]) => Number(document.querySelector(canvas)?.dataset.painted) >= least",
        arg=[canvas, least],
    )


def chosen(page, canvas, count):
    """Wait until so many of what is drawn are selected."""
    page.wait_for_function(
        "([canvas, count]) => document.querySelector(canvas)?.dataset.chosen === count",
        arg=[canvas, str(count)],
    )


def drawn_at(page):
    """Where the graph's node is that keys move from, once it stands still."""
    before, now = None, ""
    while before != now or not now:
        page.wait_for_timeout(200)
        before, now = now, page.locator(GRAPH).get_attribute("data-cursor")
    x, y = map(float, now.split())
    return {"x": x, "y": y}


def fact(page, name):
    return page.locator(f"aside button[data-key={name}]").inner_text()


def search(page, text):
    page.locator("#search").wait_for()
    page.keyboard.press("/")
    page.keyboard.type(text)
    page.locator(".hits li[role=option]").first.wait_for()
    page.keyboard.press("Enter")


def test_one_selection_leads_from_a_node_to_its_frame_tensors_and_source_line(page, address):
    page.goto(address)
    painted(page, GRAPH)
    search(page, "gelu_14")
    page.locator("aside h2", has_text="gelu_14").wait_for()
    assert fact(page, "module") == "encoder.layer.1.feed"
    assert fact(page, "source") == f"{SOURCE}:32"

    page.get_by_role("button", name="show in flame").click()
    painted(page, FLAME)
    chosen(page, FLAME, 1)
    # The frame's own click selects the same.
    page.keyboard.press("ArrowUp")
    page.locator("aside h2", has_text=re.compile(r"^encoder\.layer\.1\.feed$")).wait_for()
    page.keyboard.press("ArrowDown")
    assert fact(page, "module").startswith("encoder.layer.1.feed")

    page.goto(f"{address}#view=flame&module=encoder.layer.1.feed&op=aten::gelu&node=14")
    page.get_by_role("button", name="show in memory").click()
    painted(page, BARS)
    chosen(page, BARS, 3)  # one for each step
    page.locator("aside .tensor").first.click()
    page.wait_for_function("() => location.hash.includes('tensor=')")
    chosen(page, BARS, 1)
    assert fact(page, "operator") == "aten::gelu"

    page.locator("aside button[data-key=source]").click()
    page.wait_for_function("() => !location.hash.includes('tensor=')")
    chosen(page, BARS, 9)  # that line, in three layers and three steps
    page.get_by_role("button", name="show in operators").click()
    rows = page.locator("tr[aria-selected=true]")
    rows.first.wait_for()
    assert {one.split("\t")[0] for one in rows.all_inner_texts()} == {"aten::gelu"}


def test_a_click_on_a_drawn_node_selects_it_and_a_click_beside_it_clears(page, address):
    page.goto(address)
    painted(page, GRAPH)
    search(page, "embedding_0")
    page.locator("aside h2", has_text="embedding_0").wait_for()
    page.keyboard.press("Escape")
    page.locator("aside h2", has_text="train.py").wait_for()
    page.locator(GRAPH).click(position=drawn_at(page))
    page.locator("aside h2", has_text="embedding_0").wait_for()
    height = page.locator(GRAPH).bounding_box()["height"]
    page.locator(GRAPH).click(position={"x": 8, "y": height - 8})
    page.locator("aside h2", has_text="train.py").wait_for()


def test_groups_open_and_close_and_are_looked_at_alone(page, address):
    page.goto(f"{address}#view=graph&group=encoder&module=encoder.layer")
    painted(page, GRAPH)
    page.get_by_role("button", name="show in graph").click()
    page.locator(GRAPH).focus()
    before = int(page.locator(GRAPH).get_attribute("data-painted"))
    page.keyboard.press("Enter")
    page.wait_for_function("() => location.hash.includes('open=encoder.layer')")
    painted(page, GRAPH, before + 3)
    page.keyboard.press("Enter")
    page.wait_for_function("() => !location.hash.includes('open=')")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function("() => location.hash.includes('group=encoder.layer')")
    page.locator(".crumbs button", has_text="layer").wait_for()
    page.keyboard.press("Backspace")
    page.wait_for_function("() => location.hash.includes('group=encoder&')")


def test_a_differential_flame_graph_shows_what_became_slower(page, address):
    page.goto(f"{address}#view=flame&by=operator")
    painted(page, FLAME)
    page.get_by_role("button", name="difference", exact=True).click()
    note = page.locator(".note.change")
    note.wait_for()
    assert re.search(r"\+\d", note.inner_text())
    painted(page, FLAME)
    # gelu took four times as long, all else as long as before: only it is red.
    assert reddish(page) > 0
    page.keyboard.press("/")
    page.keyboard.type("gelu")
    found = page.locator(".note.found")
    found.wait_for()
    assert re.search(r"gelu.* ms = [\d.]+ %", found.inner_text())
    page.keyboard.press("Escape")
    page.get_by_role("button", name="before").click()
    page.locator(".note.change", has_text=re.compile("\N{MINUS SIGN}[0-9]")).wait_for()
    page.get_by_role("tab", name="Difference").click()
    page.locator(".changes tr", has_text="aten::gelu").wait_for()


def reddish(page):
    """How many pixels of the flame graph are clearly red."""
    return page.evaluate(
        """() => new Promise(done => setTimeout(() => {
            const canvas = document.querySelector("canvas.flame-canvas");
            const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            let count = 0;
            for (let at = 0; at < data.length; at += 4)
                if (data[at] > data[at + 1] + 60 && data[at] > data[at + 2] + 60) count += 1;
            done(count);
        }, 300))"""
    )


def test_keys_lead_through_all_views(page, address):
    page.goto(address)
    painted(page, GRAPH)
    for key, name in enumerate(
        ("Graph", "Flame", "Memory", "Operators", "Advice", "Difference"), start=1
    ):
        page.keyboard.press(str(key))
        page.locator(f"[role=tab][aria-selected=true]:has-text('{name}')").wait_for()
    page.keyboard.press("7")  # there is no running session
    page.locator("[role=tab][aria-selected=true]:has-text('Difference')").wait_for()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.keyboard.press("2")
    painted(page, FLAME)
    page.keyboard.press("ArrowDown")
    page.locator("aside h2", has_text="encoder").wait_for()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")  # shows the whole again
    page.keyboard.press("Escape")  # clears the selection
    page.locator("aside h2", has_text="train.py").wait_for()
    page.keyboard.press("4")
    page.locator("tbody tr:not(.room)").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.locator("tr[aria-selected=true]").first.wait_for()


def test_state_is_in_the_address(page, address):
    page.goto(f"{address}#view=memory&span=0.05~0.15&module=encoder.layer.0")
    painted(page, BARS)
    page.get_by_text("50.0 ms to 150 ms").wait_for()
    page.reload()
    page.get_by_text("50.0 ms to 150 ms").wait_for()
    chosen(page, BARS, 18)  # weights, their state, and one step
    page.get_by_role("button", name="show all").click()
    page.wait_for_function("() => !location.hash.includes('span')")


def test_a_window_is_chosen_by_dragging(page, address):
    page.goto(f"{address}#view=memory")
    canvas = page.locator("canvas.timeline-canvas")
    painted(page, "canvas.timeline-canvas")
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 200, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 400, y, steps=3)
    page.mouse.up()
    page.wait_for_function("() => location.hash.includes('span=')")
    page.get_by_role("button", name="show all").wait_for()


def test_the_table_is_sorted_and_filtered(page, address):
    page.goto(f"{address}#view=operators")
    rows = page.locator("tbody tr:not(.room)")
    rows.first.wait_for()
    page.locator("th button", has_text="operator").click()
    assert rows.first.inner_text().startswith("aten::_foreach_add_")
    page.locator("th button", has_text="operator").click()
    assert rows.first.inner_text().startswith("aten::scaled_dot")
    page.keyboard.press("/")
    page.keyboard.type("gelu")
    page.get_by_text(re.compile(r"^6 of \d+ rows$")).wait_for()


def test_names_are_text_and_no_markup(page, address):
    dialogs = []
    page.on("dialog", lambda one: (dialogs.append(one.message), one.dismiss()))
    page.goto(f"{address}#view=operators")
    page.locator("tbody tr:not(.room)").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("img src")
    page.locator("td", has_text=HOSTILE).first.click()
    page.locator("aside button[data-key=module]", has_text=HOSTILE).wait_for()
    for view in ("1", "2", "3"):
        page.keyboard.press(view)
    page.wait_for_timeout(200)
    assert page.locator("img").count() == 0
    assert dialogs == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_single_file_works_without_any_request(chromium, tmp_path, scheme):
    path = tmp_path / "page.html"
    write_html([example(), example(slow=0.25)], path)
    context = chromium.new_context(color_scheme=scheme, offline=True)
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda one: wrong.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(path.as_uri())
    painted(page, GRAPH)
    page.locator(".left-out", has_text="single steps").wait_for()
    search(page, "gelu_6")
    page.locator("aside h2", has_text="gelu_6").wait_for()
    page.keyboard.press("2")
    chosen(page, FLAME, 1)
    page.keyboard.press("d")
    page.locator(".note.change").wait_for()
    page.keyboard.press("3")
    chosen(page, BARS, 3)
    for view in ("4", "5", "6"):
        page.keyboard.press(view)
    page.locator(".changes tr", has_text="aten::gelu").wait_for()
    context.close()
    assert wrong == []
    assert [one for one in asked if not one.startswith(("file:", "blob:", "data:"))] == []


def test_a_running_session_is_watched(page):
    steps = [
        {"step": step, "seconds": 0.1 + step / 1000, "bytes": 2**20, "peak_bytes": 2**21}
        for step in range(50)
    ]
    with served([], live=lambda: iter(steps)) as address:
        page.goto(address)
        page.locator(".live[data-steps='50']").wait_for()
        page.locator(".verdict", has_text="ended").wait_for()
        assert "2.00 MiB" in page.locator(".verdict").inner_text()
        page.goto("about:blank")


def test_a_graph_without_modules_is_shown_in_parts(page):
    count = 5000
    nodes = {"name": [f"n{row}" for row in range(count)], "op": ["Add"] * count}
    skips = [max(0, row - 2 - row % 29) for row in range(1, count)]
    edges = {
        "source": [*range(count - 1), *skips],
        "target": [*range(1, count)] * 2,
    }
    tables = {"nodes": Table("nodes", nodes), "edges": Table("edges", edges)}
    with served([Recording(About(title="flat", origin="onnx"), tables)]) as address:
        page.goto(address)
        painted(page, GRAPH)
        search(page, "n4321")
        page.locator("aside h2", has_text="n4321").wait_for()
        painted(page, GRAPH, 400)
        page.keyboard.press("ArrowDown")
        page.wait_for_function("() => /node=43[2-5]/.test(location.hash)")
        page.goto("about:blank")


def test_without_a_graph_the_page_begins_with_the_flame(page):
    whole = example()
    events = whole.events.replaced(node=[-1] * whole.events.rows)
    with served([Recording(whole.about, {"events": events, "steps": whole.steps})]) as address:
        page.goto(address)
        page.locator(FLAME).wait_for()
        page.goto("about:blank")
        page.goto(f"{address}#view=graph")
        page.get_by_text("There is no graph").wait_for()
        page.goto("about:blank")


def test_what_is_not_there_is_said(page):
    about = About(title="empty", origin="onnx", problems=["It could not be exported, because."])
    with served([Recording(about)]) as address:
        page.goto(address)
        page.get_by_text("There is no graph").wait_for()
        page.get_by_text("It could not be exported, because.").wait_for()
        for key, says in (("2", "No time"), ("3", "No tensors"), ("4", "No operators")):
            page.keyboard.press(key)
            page.get_by_text(says).wait_for()
        page.goto("about:blank")


def test_what_is_clicked_while_a_file_is_opened_stays(page):
    opened = Future()
    with served(opened) as address:
        page.goto(address)
        page.get_by_text("Opening…").wait_for()
        page.get_by_role("tab", name="Memory").click()
        opened.set_result([example()])
        painted(page, BARS)
        assert page.get_by_role("tab", name="Memory").get_attribute("aria-selected") == "true"
