"""Figures: what follows from times, as JSON and as a table."""

import pytest
from ds_nccl_ring.bench import table
from ds_nccl_ring.bench.figures import Figures, Row
from ds_nccl_ring.bench.options import VARIANTS, variants_named

from ds_core.errors import ConfigError, DsError

MIB = 1 << 20


def row(algorithm="flat", seconds=0.1, nbytes=MIB):
    return Row(
        algorithm=algorithm,
        nbytes=nbytes,
        elements=nbytes // 4,
        seconds=seconds,
        low=seconds * 0.9,
        high=seconds * 1.1,
        rounds=5,
        error=1e-7,
    )


def figures(*rows, **options):
    told = {"hosts": (2, 2, 2, 2), "emulated": True, "rate": 25e6, **options}
    return Figures(rows=rows, **told)


def test_bandwidths_are_those_of_nccl_tests():
    found = figures(row(seconds=0.5))
    assert found.rows[0].bandwidth == 2 * MIB
    assert found.bus_bandwidth(found.rows[0]) == 2 * MIB * 2 * 7 / 8


def test_each_format_has_its_own_bound():
    rows = [row(name) for name in VARIANTS]
    bounds = {one.algorithm: figures(*rows).bound(one) for one in rows}
    exact = 1.5 * MIB / 25e6
    assert bounds["flat"] == bounds["hierarchical"] == bounds["parameter-server"]
    assert bounds["flat"] == pytest.approx(exact)
    assert bounds["hierarchical-bfloat16"] == pytest.approx(exact / 2)
    assert exact / 4 < bounds["hierarchical-int8"] < exact / 3.9
    assert figures(row(), hosts=(4,), rate=None).bound(row()) is None


def test_json_goes_both_ways(tmp_path):
    found = figures(row(), row("hierarchical-int8", 0.05))
    path = tmp_path / "bench.json"
    path.write_text(found.model_dump_json())
    assert Figures.read(path) == found
    with pytest.raises(ConfigError, match="Cannot read"):
        Figures.read(tmp_path / "none.json")
    path.write_text("{}")
    with pytest.raises(ConfigError, match="does not hold"):
        Figures.read(path)


def test_the_table_compares_with_flat_and_with_the_bound():
    found = figures(row(seconds=0.1), row("hierarchical", 0.08), row("flat", 1.0, 16 * MIB))
    cells = [dict(zip(table.HEAD, line, strict=True)) for line in table.lines(found)]
    assert [line["x flat"] for line in cells] == ["1.00", "1.25", "1.00"]
    assert cells[1]["time ms"] == "80.000"
    assert cells[1]["x bound"] == f"{0.08 / (1.5 * MIB / 25e6):.2f}"
    assert cells[2]["size"] == "16 MiB"
    assert "emulated" in table.title(found)
    assert "emulated" not in table.title(figures(emulated=False))


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_figures_are_drawn(tmp_path, suffix):
    path = tmp_path / f"bench{suffix}"
    table.draw(figures(row(), row("flat", 1.0, 16 * MIB), row("hierarchical", 0.08)), path)
    assert path.stat().st_size > 1000
    if suffix == ".svg":
        text = path.read_text()
        assert "lower bound" in text
        assert "emulated" in text


def test_a_picture_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        table.draw(figures(row()), tmp_path / "bench.pdf")
    with pytest.raises(DsError, match="Cannot write"):
        table.draw(figures(row()), tmp_path / "absent" / "bench.svg")


def test_variants_are_named_once_and_known():
    assert variants_named("flat, hierarchical,flat") == ("flat", "hierarchical")
    with pytest.raises(ConfigError, match="Did you mean 'hierarchical'"):
        variants_named("hierachical")
