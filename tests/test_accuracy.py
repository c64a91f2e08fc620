"""Area-adjusted accuracy: the published example, samples that are drawn, and files."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdscale.accuracy import (
    Choice,
    Design,
    allocate,
    areas,
    draw,
    estimate,
    needed,
    read_sample,
    write_sample,
)
from cdscale.accuracy.sample import Point, design_path
from cdscale.errors import SpecError
from cdscale.months import Month
from cdscale.store import Store, open_dataset, read_spec
from tests.commands import OK, Cli, refused
from tests.regions import SmallRun

CLASSES = ("deforestation", "gain", "forest", "other")
HA = 900 / 1e6  # km2 of a Landsat pixel
PIXELS = dict(zip(CLASSES, (200_000, 150_000, 3_200_000, 6_450_000), strict=True))
MATRIX = ((66, 0, 5, 4), (0, 55, 8, 12), (1, 0, 153, 11), (2, 1, 9, 313))
"""Olofsson et al. 2014, tables 8 and 9: map classes in rows."""


def counts(matrix: tuple[tuple[int, ...], ...]) -> dict[tuple[str, str], int]:
    return {
        (i, j): n
        for i, row in zip(CLASSES, matrix, strict=True)
        for j, n in zip(CLASSES, row, strict=True)
    }


def test_the_example_of_olofsson_et_al_2014() -> None:
    mapped = {k: n * HA for k, n in PIXELS.items()}
    found = estimate(counts(MATRIX), mapped)
    for share, own in zip(
        found.area_km2, areas(counts(MATRIX), mapped, CLASSES).values(), strict=True
    ):
        assert (own.value, own.error) == pytest.approx((share.value, share.error))
    assert found.overall.value == pytest.approx(0.95, abs=0.005)
    assert found.overall.interval == pytest.approx(0.02, abs=0.005)
    users = [(round(u.value, 2), round(u.interval, 2)) for u in found.users]
    assert users == [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    assert [round(p.value, 2) for p in found.producers] == [0.75, 0.85, 0.93, 0.96]
    hectares = [(a.value * 100, a.interval * 100) for a in found.area_km2]
    assert hectares[0] == pytest.approx((21_158, 6_158), abs=1)
    assert hectares[1] == pytest.approx((11_686, 3_756), abs=1)
    assert hectares[2] == pytest.approx((285_770, 15_510), abs=2)
    assert hectares[3] == pytest.approx((581_386, 16_282), abs=2)


def test_producers_accuracies_are_ratio_estimates() -> None:
    """The same by S. V. Stehman's ratio of indicators (IJRS 35, 2014, equations 27 and 28)."""
    found = estimate(counts(MATRIX), {k: float(n) for k, n in PIXELS.items()})
    for j, producer in enumerate(found.producers):
        total = variance = 0.0
        for i, row in enumerate(MATRIX):
            reference = np.repeat(range(4), row) == j
            total += PIXELS[CLASSES[i]] * reference.mean()
        for i, row in enumerate(MATRIX):
            reference = (np.repeat(range(4), row) == j).astype(float)
            right = reference * (i == j)
            rest = right - producer.value * reference
            variance += PIXELS[CLASSES[i]] ** 2 * rest.var(ddof=1) / len(rest)
        assert producer.error == pytest.approx(math.sqrt(variance) / total)


def test_the_size_of_their_sample() -> None:
    """Section 5.1.1: user's accuracies of 0.70, 0.60, 0.90 and 0.95, error 0.01: 641 points."""
    whole = sum(PIXELS.values())
    weights = {k: n / whole for k, n in PIXELS.items()}
    expected = dict(zip(CLASSES, (0.7, 0.6, 0.9, 0.95), strict=True))
    assert needed(weights, expected, 0.01) == 641
    with pytest.raises(SpecError, match="expected user's accuracy of gain"):
        needed(weights, expected | {"gain": 1.0}, 0.01)
    with pytest.raises(SpecError, match="standard error; expected between 0 and 1"):
        needed(weights, expected, 0.0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=3, max_size=3),
    st.lists(st.integers(1, 10_000), min_size=3, max_size=3),
)
def test_areas_add_up_and_a_right_map_has_no_interval(
    rows: list[list[int]], km2: list[int]
) -> None:
    names = ("a", "b", "c")
    for i, row in enumerate(rows):
        row[i] += 2
    cells = {(names[i], names[j]): n for i, row in enumerate(rows) for j, n in enumerate(row)}
    mapped = {name: float(area) for name, area in zip(names, km2, strict=True)}
    found = estimate(cells, mapped)
    assert sum(a.value for a in found.area_km2) == pytest.approx(sum(km2))
    assert all(0 <= u.value <= 1 for u in (*found.users, *found.producers, found.overall))
    right = estimate({(name, name): 5 for name in names}, mapped)
    assert [a.value for a in right.area_km2] == pytest.approx(list(mapped.values()))
    assert [s.error for s in (*right.area_km2, right.overall)] == [0.0] * 4


def test_intervals_hold_what_they_promise() -> None:
    """Of two hundred samples of one made-up truth, about 95 % of the intervals hold it."""
    rng = np.random.default_rng(0)
    mapped = rng.random(40_000) < 0.1
    truth = np.where(rng.random(mapped.size) < 0.1, ~mapped, mapped)
    held = 0
    for _ in range(200):
        cells: dict[tuple[str, str], int] = {}
        for code, name in ((True, "change"), (False, "none")):
            at = rng.choice(np.flatnonzero(mapped == code), 100, replace=False)
            changed = int(truth[at].sum())
            cells |= {(name, "change"): changed, (name, "none"): 100 - changed}
        km2 = {"change": float(mapped.sum()), "none": float((~mapped).sum())}
        area = estimate(cells, km2).area_km2[0]
        held += abs(area.value - truth.sum()) <= area.interval
    assert 180 <= held <= 198


def test_a_zone_is_estimated_by_its_own_points_and_not_by_those_of_the_map() -> None:
    """The map is wrong in a zone more than elsewhere: only the zone's own points know."""
    rng = np.random.default_rng(0)
    mapped, zone = rng.random(40_000) < 0.2, np.arange(40_000) < 10_000
    truth = np.where(rng.random(mapped.size) < np.where(zone, 0.3, 0.05), ~mapped, mapped)
    names = {True: "change", False: "none"}
    in_zone = {name: float((zone & (mapped == code)).sum()) for code, name in names.items()}
    own = every = 0
    for _ in range(200):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(mapped == code), 150, replace=False) for code in names]
        )
        for points, rate in ((drawn[zone[drawn]], True), (drawn, False)):
            cells = Counter((names[bool(mapped[i])], names[bool(truth[i])]) for i in points)
            area = areas(cells, in_zone, ("change", "none"))["change"]
            holds = abs(area.value - (truth & zone).sum()) <= area.interval
            own, every = own + (rate and holds), every + (not rate and holds)
    assert 180 <= own <= 198
    assert every < 20


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="classes that the map does not have; .*got snow"):
        estimate({("a", "a"): 3, ("a", "snow"): 1}, {"a": 1.0})
    with pytest.raises(SpecError, match="stratum b; expected two interpreted samples or more"):
        estimate({("a", "a"): 3, ("b", "b"): 1}, {"a": 1.0, "b": 1.0})
    with pytest.raises(SpecError, match="stratum a; expected an area above 0"):
        estimate({("a", "a"): 3}, {"a": math.nan})
    with pytest.raises(SpecError, match="expected a, snow; got ice"):
        estimate({("a", "a"): 3, ("a", "ice"): 1}, {"a": 1.0}, ("a", "snow"))
    none = estimate({("a", "a"): 3, ("b", "a"): 2}, {"a": 1.0, "b": 1.0})
    assert math.isnan(none.producers[1].value)


def test_a_class_that_the_map_has_nowhere_may_be_found_on_the_ground() -> None:
    cells = {("none", "none"): 95, ("none", "change"): 5}
    found = estimate(cells, {"none": 200.0}, ("none", "change", "other"))
    assert found.classes == ("none", "change")
    assert found.mapped_km2 == (200.0, 0.0)
    none, change = found.area_km2
    assert (none.value, change.value) == pytest.approx((190, 10))
    # Of a simple random sample: the error of a share.
    assert change.error == pytest.approx(200 * math.sqrt(0.05 * 0.95 / 99))
    assert found.overall.value == pytest.approx(0.95)
    assert math.isnan(found.users[1].value)
    assert found.producers[1].value == 0


def test_points_go_to_rare_classes_first() -> None:
    pixels = {"none": 98_000, "change": 1_970, "new": 30, "gone": 0}
    found = allocate(pixels, Choice(size=400, least=50))
    assert found == {"none": 270, "change": 50, "new": 30} | {"none": found["none"]}
    assert 318 <= found["none"] <= 320
    with pytest.raises(SpecError, match="at least 2 of each class, and 130 in all; got 50 of each"):
        allocate(pixels, Choice(size=120, least=50))
    with pytest.raises(SpecError, match="no pixel with a class"):
        allocate({"none": 0}, Choice())


@pytest.fixture(scope="module")
def change(small_run: SmallRun) -> Store:
    path = small_run.output / "change.zarr"
    return Store(path, read_spec(path))


def test_points_are_pixels_of_their_class(change: Store) -> None:
    month = change.published()[-1]
    found = draw(change, "quality", month, Choice(size=60, least=5, seed=3))
    assert found == draw(change, "quality", month, Choice(size=60, least=5, seed=3))
    other = draw(change, "quality", month, Choice(size=60, least=5, seed=4))
    assert {(p.x, p.y) for p in other.points} != {(p.x, p.y) for p in found.points}
    assert [p.id for p in found.points] == list(range(1, len(found.points) + 1))
    assert len({(p.x, p.y) for p in found.points}) == len(found.points)
    meaning = change.spec.variable("quality").attrs["flag_meanings"].split()
    grid, box = change.spec.grid, change.spec.window.geobox(change.spec.grid).boundingbox
    with open_dataset(change.path) as dataset:
        whole = dataset["quality"].sel(month=month.to_numpy()).values
    for p in found.points:
        column, row = (p.x - box.left) / grid.resolution, (box.top - p.y) / grid.resolution
        assert (column % 1, row % 1) == pytest.approx((0.5, 0.5))
        assert meaning[whole[int(row), int(column)]] == p.mapped
    km2 = (grid.resolution / 1000) ** 2
    codes, numbers = np.unique(whole, return_counts=True)
    expected = {meaning[c]: n * km2 for c, n in zip(codes, numbers, strict=True)}
    assert found.mapped_km2 == pytest.approx(expected)


def test_what_is_no_map_is_refused(change: Store) -> None:
    month = change.published()[-1]
    with pytest.raises(SpecError, match="no strata in 'probability'; expected a variable of class"):
        draw(change, "probability", month, Choice())
    with pytest.raises(SpecError, match="1999-01 is not published"):
        draw(change, "change", Month.parse("1999-01"), Choice())


def a_design() -> Design:
    points = tuple(
        Point(id=i, lon=i / 10, lat=50.0, x=10.0 * i, y=5.0, mapped="built" if i % 2 else "none")
        for i in range(1, 7)
    )
    areas = {"none": 90.0, "built": 10.0}
    return Design(
        map="m", variable="change", month="2020-01", crs="EPSG:3035", seed=0, mapped_km2=areas,
        points=points,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sample.csv", "sample.gpkg"])
def test_interpreters_do_not_see_the_map(tmp_path: Path, name: str) -> None:
    made, path = a_design(), tmp_path / name
    write_sample(made, path)
    assert b"built" not in path.read_bytes()
    assert read_sample(path) == (made, {})
    with pytest.raises(SpecError, match="there is a sample at"):
        write_sample(made, path)


def test_what_was_interpreted_comes_back(tmp_path: Path) -> None:
    made, path = a_design(), tmp_path / "sample.csv"
    write_sample(made, path)
    lines = path.read_text().splitlines()
    filled = [
        lines[0],
        *(f"{line[:-2]},none,sure" if i < 4 else line for i, line in enumerate(lines[1:])),
    ]
    path.write_text("\n".join(filled))
    design, seen = read_sample(path)
    assert seen == dict.fromkeys(range(1, 5), "none")
    assert design.counts(seen) == {("built", "none"): 2, ("none", "none"): 2}


def test_files_that_do_not_read_are_named(tmp_path: Path) -> None:
    made, path = a_design(), tmp_path / "sample.csv"
    with pytest.raises(SpecError, match=r"expected a \.csv or \.gpkg file"):
        write_sample(made, tmp_path / "sample.xlsx")
    with pytest.raises(SpecError, match=r"sample\.design\.json does not read; expected the design"):
        read_sample(path)
    write_sample(made, path)
    head = "id,reference\n"
    for text, why in (
        ("a;b\n", "expected the sample with its columns id and reference"),
        (head + "9,none\n", "point 9 is not of the design"),
        (head + "1,none\n1,built\n", "point 1 is there twice"),
        (head + "one,none\n", "does not read"),
    ):
        path.write_text(text)
        with pytest.raises(SpecError, match=why):
            read_sample(path)
    package = tmp_path / "other.gpkg"
    package.write_bytes(b"no package")
    design_path(package).write_text(made.model_dump_json())
    with pytest.raises(SpecError, match=r"other\.gpkg does not read; expected a GeoPackage"):
        read_sample(package)


def test_the_commands(small_run: SmallRun, tmp_path: Path, cdscale: Cli) -> None:
    store, sample = small_run.output / "change.zarr", tmp_path / "sample.csv"
    asked = ("--variable", "quality", "--size", "40", "--least", "6", "--out", str(sample))
    said = cdscale("accuracy", "design", str(store), *asked, "--json")
    assert said.code == OK, said
    told = json.loads(said.out)
    assert sum(told["points"].values()) == len(sample.read_text().splitlines()) - 1
    made, _ = read_sample(sample)
    mapped = {p.id: p.mapped for p in made.points}
    lines = sample.read_text().splitlines()
    filled = [f"{line[:-2]},{mapped[int(line.split(',')[0])]}," for line in lines[1:]]
    sample.write_text("\n".join([lines[0], *filled[:-1], lines[-1]]))
    found = json.loads(cdscale("accuracy", "estimate", str(sample), "--json").out)
    assert found["overall"] == {"value": 1.0, "error": 0.0, "interval_95": 0.0}
    assert found["points_without_reference"] == 1
    assert "Overall accuracy 1.000 ± 0.000" in cdscale("accuracy", "estimate", str(sample)).out
    refused(cdscale("accuracy", "design", str(store), *asked), "there is a sample at")
