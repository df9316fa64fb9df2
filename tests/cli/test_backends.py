import json

from tests.distributions import install

BACKEND = """
from ds_core.components import Backend, Device, Probe, Problem

class {name}(Backend):
    name = "{name}"
    device_type = "{name}"
    rank = 100

    @classmethod
    def probe(cls, root="/"):
        {body}
"""


def add(site, name, body):
    install(
        site,
        f"ds-{name}",
        {"ds.backends": {name: f"{name}:{name}"}},
        modules={name: BACKEND.format(name=name, body=body)},
    )


def zoo(site):
    add(site, "bomb", "raise RuntimeError('the driver is on fire')")
    add(
        site,
        "ill",
        "return Probe(present=True, problems=(Problem(what='No firmware.', mend='Load it.'),))",
    )
    add(
        site,
        "big",
        "return Probe(present=True, devices=tuple("
        "Device(index=i, name='Big', memory=2**33) for i in range(2)), driver='5.6')",
    )
    install(
        site,
        "ds-gone",
        {"ds.backends": {"gone": "gone:X"}},
        modules={"gone": "import no_such_thing"},
    )


def test_backends_in_order_of_rank_with_reasons_and_mends(invoke, site):
    zoo(site)
    result = invoke("backends")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[1].split()[:5] == ["*", "big", "ds-big", "1.2.3", "yes"]
    assert "2 x Big" in lines[1]
    assert "16 GiB" in lines[1]
    assert "5.6" in lines[1]
    assert lines[2].split()[0] == "cpu"
    assert "ill: No firmware. Load it." in lines
    assert "RuntimeError: the driver is on fire" in result.output
    assert "no_such_thing" in result.output


def test_backends_as_json(invoke, site):
    zoo(site)
    rows = {row["name"]: row for row in json.loads(invoke("backends", "--json").output)}
    assert [name for name, row in rows.items() if row["chosen"]] == ["big"]
    assert rows["big"]["memory"] == 2**34
    assert rows["ill"]["problems"] == [{"what": "No firmware.", "mend": "Load it."}]
    assert not rows["bomb"]["usable"]
    assert rows["cpu"]["software"]["torch"]


def test_the_machine_may_be_a_copied_tree(invoke, tmp_path):
    root = tmp_path / "machine"
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text("processor : 0\nmodel name : Museum Piece\n")
    (root / "proc" / "meminfo").write_text("MemTotal:       1048576 kB\n")
    (cpu,) = [
        row
        for row in json.loads(invoke("backends", "--json", "--root", str(root)).output)
        if row["name"] == "cpu"
    ]
    assert cpu["memory"] == 2**30
    assert "Museum Piece" in cpu["devices"][0]["name"]
