"""The arithmetic of ``docs/scale.md``: the page shows what the script prints, and the sums hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale import Month, Prices, Rates, tables

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
MONTH = Month(Rates(), Prices())


def test_the_page_shows_what_the_script_prints() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for table in tables(MONTH):
        assert table in text, table


def test_ten_times_the_tiles_are_ten_times_the_work() -> None:
    larger = Month(replace(MONTH.rates, tiles=244_900, asset_reads=3.08e7), MONTH.prices)
    for gpu in (False, True):
        once, more = MONTH.cost(gpu=gpu), larger.cost(gpu=gpu)
        assert more == pytest.approx({part: 10 * cost for part, cost in once.items()})


def test_a_price_shows_in_its_part_alone() -> None:
    dear = Month(MONTH.rates, replace(MONTH.prices, gpu_hour=30.0))
    assert dear.cost(gpu=False) == MONTH.cost(gpu=False)
    changed = {k for k, v in dear.cost(gpu=True).items() if v != MONTH.cost(gpu=True)[k]}
    assert changed == {"maps"}


def test_amounts_by_hand() -> None:
    """A thousand tiles of a thousand pixels, rates that make round numbers."""
    rates = replace(
        MONTH.rates, tiles=1000, tile_px=1000, asset_reads=1e6, cog_ratio=0.5, packed=1.0,
        states_bytes=1.0, compose_core_s_per_mpx=3.6, urban_halo=2.0, urban_core_s_per_mpx=1.8,
    )  # fmt: skip
    month = Month(rates, MONTH.prices)
    assert month.mpx == 1000
    assert month.terabytes_read == pytest.approx(1.0)
    assert month.compose_core_hours == pytest.approx(1.0)
    assert month.map_core_hours["urban"] == pytest.approx(1.0)
    assert month.terabytes_kept == pytest.approx({"cube": 0.035, "urban": 0.002, "change": 0.008})
