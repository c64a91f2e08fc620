from __future__ import annotations

import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy import ndimage

from cdscale import drift, kernels, query
from cdscale.accuracy import Choice, draw, write_sample
from cdscale.export import pictures, reading
from cdscale.export.chips import outlines
from cdscale.export.heat import draw_heat, grouped, heat_of
from cdscale.export.largest import largest
from cdscale.export.reading import Product, Tally, clusters, days_since_1970, views
from cdscale.export.report import MOST_LISTED, write_report
from cdscale.export.timeline import draw_timeline, spans
from cdscale.grid import Area, Bounds, Tile, covered
from cdscale.months import Month
from cdscale.progress import Progress
from cdscale.run import renew_overviews
from cdscale.spec.card import ModelCard
from cdscale.spec.cube import ChangeQuality, ChangeState, CubeSpec, SensorQuality, UrbanQuality
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import SceneTable
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store import Ledger, Store, create, open_dataset, open_source
from tests.regions import blank

HOSTILE = "<script>alert('x')</script> $\\frac{ & \"quoted\""
ROME = Bounds(12.45, 41.88, 12.4585, 41.887)
"""Some 700 by 780 m: four tiles of 64 px, none of them wholly inside."""


@pytest.fixture(autouse=True)
def _coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few pixels are drawn fast."""
    monkeypatch.setattr(pictures, "DPI", 40)


# -------------------------------------------------------------------------------- made-up runs


def card(task: Any, *, simulated: bool = False, **more: Any) -> ModelCard:
    classes = {0: "no change", 1: "urban change"} if task == "change" else {0: "open", 1: "built"}
    values: dict[str, Any] = {
        "name": f"{task}-made-up", "version": "0.1", "title": "a hand-made card", "task": task,
        "family": "two-branch", "network": {}, "weights": "w.safetensors",
        "weights_sha256": "ab" * 32, "s2_bands": ("B02", "B03", "B04"), "s1_bands": ("vv",),
        "normalisation": {}, "halo": 0, "stride": 1, "threshold": 0.5, "classes": classes,
        "training": {"data": "made up", "split": "none", "recipe": "none", "steps": 0,
                     "licence": "CC0-1.0", "simulated": simulated},
        "accuracy": {"F1": {"test": 0.5}}, "limits": ("not for use",),
    }  # fmt: skip
    return ModelCard.model_validate(values | more)


def a_job(folder: Path, cards: tuple[str, ...] = (), **more: Any) -> Job:
    """A run without scenes; its stores are then filled by hand."""
    found = more.pop("made", {role: card(role) for role in cards})
    choices = {role: {"card": value.name} for role, value in found.items()}
    values: dict[str, Any] = {
        "name": "made-up", "catalogue": "https://me:secret@example.org/stac?key=secret",
        "collections": {"sentinel-2-l1c": "oscd-sentinel-2-l1c"},
        "area": Area.from_bounds(ROME).geojson, "period": "2017-01..2017-03",
        "grid": {"preset": "europe", "tile": 64, "chunk": 32},
        "cube": {"s2_bands": ("B02", "B03", "B04"), "s1_bands": ("vv",)},
        "models": choices, "output": str(folder),
    }  # fmt: skip
    scenes = more.pop("scenes", SceneTable(search="", scenes=()))
    return Job(spec=RunSpec.check(values | more, where="test"), scenes=scenes, cards=found)


def smooth(seed: int, tile: Tile, px: int) -> np.ndarray:
    """Values from 0 to 1 with shapes of some pixels."""
    noise = np.random.default_rng([seed, tile.ix, tile.iy]).random((px, px))
    blurred = ndimage.gaussian_filter(noise, px / 24, mode="wrap")
    return np.asarray((blurred - blurred.min()) / np.ptp(blurred), np.float32)


def blocks(job: Job, task: Task) -> dict[str, np.ndarray]:
    """Pixels of a task: the second month has no optical image, a corner of the first is cloud."""
    px = job.spec.grid.tile
    ground = smooth(1, task.tile, px)
    cloudy = np.zeros((px, px), bool)
    if len(job.spec.period) > 2 and task.month == job.spec.period.members[1]:
        cloudy[:] = True
    elif task.month == job.spec.period.first:
        cloudy[: px // 4, : px // 4] = True
    sensor = np.where(cloudy, SensorQuality.cloud, SensorQuality.valid).astype(np.uint8)
    if task.stage is Stage.COMPOSE:
        shades = np.stack([0.04 + 0.1 * f * ground for f in (0.6, 0.8, 1.0)])
        stored = np.where(cloudy, -32768, (shades * 10000)).astype(np.int16)
        one = np.ones((px, px), np.uint8)
        return {
            "s2": stored, "s2_quality": sensor, "s2_scenes": one, "s2_clear": one - cloudy,
            "s1": ground[None], "s1_quality": np.full_like(one, SensorQuality.valid),
            "s1_scenes": one, "s2_date": np.where(cloudy, 65535, 17_166).astype(np.uint16),
        }  # fmt: skip
    quality: dict[bool, int]
    if task.stage is Stage.MAP:
        quality = {
            True: UrbanQuality.optical_reconstructed, False: UrbanQuality.both_sensors
        }  # fmt: skip
        codes = np.where(cloudy, quality[True], quality[False]).astype(np.uint8)
        return {"probability": kernels.pack_probability(ground), "quality": codes}
    return changed_blocks(job, task, cloudy)


def changed_blocks(job: Job, task: Task, cloudy: np.ndarray) -> dict[str, np.ndarray]:
    """What a pair network and a series say: of the series, confirmed a month after it was seen."""
    px = job.spec.grid.tile
    made: dict[str, np.ndarray] = blank(job.layouts[Stage.CHANGE])
    first = np.zeros((px, px), bool)
    first[: px // 4, : px // 4] = True
    seen = ~(first | cloudy)
    changed = smooth(2, task.tile, px) > 0.7
    if task.month in job.pairs:
        probability = np.where(seen, smooth(2, task.tile, px), np.float32(np.nan))
        codes = np.where(seen, ChangeQuality.both_sensors, ChangeQuality.no_optical_before)
        made |= {
            "probability": kernels.pack_probability(probability),
            "change": np.where(seen, changed, 255).astype(np.uint8),
            "quality": codes.astype(np.uint8),
        }
    if "urban" in job.cards:
        began = began_days(job, task.tile)
        now = days_since_1970(task.month)
        states = (ChangeState.none, ChangeState.provisional, ChangeState.confirmed)
        made["state"] = np.select(
            [~changed | (began > now), began == now], states[:2], states[2]
        ).astype(np.uint8)
        known = changed & (began <= now)
        made["first_month"] = np.where(known, began, -1).astype(np.int32)
        made["confirmed_month"] = np.where(known & (began < now), now, -1).astype(np.int32)
        made["confidence"] = np.where(known, 200, 255).astype(np.uint8)
    return made


def began_days(job: Job, tile: Tile) -> np.ndarray:
    """First day of the month in which each pixel of a tile changes, if it does."""
    days = np.array([days_since_1970(month) for month in job.spec.period][1:])
    which = (smooth(3, tile, job.spec.grid.tile) * 0.999 * len(days)).astype(int)
    return np.asarray(days[which])


def pixel_counts(layout: CubeSpec, made: dict[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """What a stage's receipt says of its pixels."""
    counts = {}
    for variable in layout.variables:
        if codes := variable.meanings:
            values = made[variable.name].ravel().tolist()
            counts[variable.name] = dict(Counter(codes.get(v, "no_data") for v in values))
    return counts


_FILLED: dict[str, Path] = {}
"""What runs whose stores are filled alike left, each made once."""


@pytest.fixture(scope="module", autouse=True)
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _FILLED[""] = tmp_path_factory.mktemp("filled")
    yield
    _FILLED.clear()


def fill(job: Job, failed: dict[str, str] | None = None) -> Job:
    """Write stores and receipts as the stages would."""
    spec = job.spec.model_copy(update={"output": ""})
    cards = [one.model_dump_json() for one in job.cards.values()]
    key = json.dumps([spec.model_dump_json(), cards, failed, job.scenes.model_dump_json()])
    if key not in _FILLED:
        _write(job, failed=failed)
        _FILLED[key] = _FILLED[""] / str(len(_FILLED))
        shutil.copytree(job.spec.folder, _FILLED[key])
    shutil.copytree(_FILLED[key], job.spec.folder, dirs_exist_ok=True)
    return job


def fill_but(job: Job, lost: Task) -> Job:
    """All but one task."""
    return _write(job, lost=lost)


def _write(job: Job, failed: dict[str, str] | None = None, lost: Task | None = None) -> Job:
    ledger = Ledger(job.ledger_folder)
    for stage in job.stages:
        store = create(job.store_path(stage), job.layouts[stage])
        progress = Progress(job, ledger)
        for task in job.tasks(stage):
            mark = progress.fingerprint(task)
            if mark is None or task == lost:
                continue
            made = blocks(job, task)
            sums = store.write(task.tile, task.month, made)
            receipt = Receipt(
                task=str(task), fingerprint=mark, checksums=sums,
                failed=failed or {}, pixels=pixel_counts(store.spec, made), seconds=2.0,
                bytes_written=store.spec.shard_bytes,
            )  # fmt: skip
            ledger.write(receipt)
        left = Progress.of(job).left(stage)
        store.publish(month for month in left if not left[month])
    return job


class Page(HTMLParser):
    """Tags, addresses and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.ids |= {value or "" for name, value in attrs if name == "id"}

    def handle_data(self, data: str) -> None:
        self.text += data


def facts_of(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.spec.folder / "report.json").read_text("utf-8"))
    return found


def sizes(job: Job) -> dict[str, tuple[int, ...]]:
    return {
        path.stem: matplotlib.image.imread(BytesIO(path.read_bytes())).shape[:2]
        for path in (job.spec.folder / "report").glob("*.png")
    }


# ----------------------------------------------------------------------------------- the report


def test_a_whole_run_is_told_as_its_pixels_are(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("urban", "change")))

    page = Page(write_report(Progress.of(job), 12.5))
    facts = facts_of(job)

    made = {task.tile: blocks(job, task) for task in job.tasks(Stage.CHANGE)}
    grid = job.spec.lattice
    inside = {tile: covered(job.spec.aoi, grid.geobox(tile)) for tile in job.tiles}
    pixels = sum(int(mask.sum()) for mask in inside.values())
    (change,) = facts["changes"]
    changed = sum(int((made[t]["change"][mask] == 1).sum()) for t, mask in inside.items())
    unseen = sum(int((made[t]["change"][mask] == 255).sum()) for t, mask in inside.items())
    series = np.concatenate([made[t]["state"][mask] for t, mask in inside.items()])
    began = np.concatenate([made[t]["first_month"][mask] for t, mask in inside.items()])
    counted = int((series == ChangeState.confirmed).sum())
    february = int((began == days_since_1970(Month(2017, 2))).sum())
    assert facts["inside_px"] == pixels > 0
    assert change["classes_km2"] == {"urban change": pytest.approx(changed * 1e-4, abs=1e-6)}
    assert change["no_data"] == pytest.approx(unseen / pixels, abs=1e-6)
    assert change["not_processed"] == 0
    outcome = facts["outcome"]
    assert (outcome["kind"], outcome["since"], outcome["until"]) == (
        "series", "2017-01", "2017-03",
    )  # fmt: skip
    assert outcome["km2"] == pytest.approx(counted * 1e-4, abs=1e-6)
    assert counted == february > 0  # confirmed a month after they were first seen
    assert outcome["by_month"]["2017-02"] == outcome["km2"]
    assert outcome["by_month"]["2017-03"] == 0
    provisional = int((series == ChangeState.provisional).sum())
    assert outcome["standing"]["2017-03"] == {
        "counted": outcome["km2"], "provisional": pytest.approx(provisional * 1e-4, abs=1e-6),
        "reverted": 0.0,
    }  # fmt: skip
    assert outcome["gaps"] == 0
    assert facts["completeness"]["2017-02"] == {
        "optical": {"cloud": 1.0}, "radar": {"valid": 1.0}, "urban": {"optical_reconstructed": 1.0},
    }  # fmt: skip
    assert facts["reconstructed"] == ["2017-02"]
    assert facts["timings"]["compose"]["seconds"] == 2.0 * 3 * len(job.tiles)
    assert facts["timings"]["map"]["km2_per_hour"] == pytest.approx(0.64**2 * 1800, abs=0.1)
    assert {"cdscale", "python", "zarr", "torch"} <= set(facts["versions"])
    assert facts["pictures"] == [
        f"report/{name}.png"
        for name in ("change-month", *(f"patch-{i + 1}" for i in range(6)), "composite-2017-01",
                     "composite-2017-03", "state", "probability", "change", "completeness",
                     "tiles", "area", "standing")
    ]  # fmt: skip
    assert sorted(facts["pictures"]) == sorted(f"report/{name}.png" for name in sizes(job))
    assert [check["verdict"] for check in facts["checks"]] == ["pass", "pass", "none"]
    assert "not an area estimate" in page.text
    assert "in 1 of 3 months: 2017-02" in page.text


def test_the_page_needs_nothing_from_outside_and_keeps_no_secret(tmp_path: Path) -> None:
    path = write_report(Progress.of(fill(a_job(tmp_path))), 1.0)

    page = Page(path)

    assert page.links
    inner = [link for link in page.links if link.startswith("#")]
    assert {link[1:] for link in inner} <= page.ids
    outer = [link for link in page.links if link not in inner]
    assert all(link.startswith("data:image/png;base64,") for link in outer)
    assert not {"script", "link", "iframe"} & set(page.tags)
    text = path.read_text("utf-8") + (tmp_path / "report.json").read_text("utf-8")
    assert "https://example.org/stac" in text
    assert "secret" not in text
    assert not [p for p in tmp_path.rglob(".*") if p.is_file() and "report" in str(p)]


def test_the_command_that_it_names_gets_an_answer_where_change_is_most_likely(
    tmp_path: Path,
) -> None:
    job = fill(a_job(tmp_path / "a folder", ("urban", "change")))
    write_report(Progress.of(job), 1.0)

    for command, name in zip(facts_of(job)["next"], ("change", "urban", "cube"), strict=True):
        words = shlex.split(command)
        assert words[:3] == ["cdscale", "query", "point"]
        assert Path(words[3]).name == f"{name}.zarr"
        spot = query.Spot.checked(float(words[5]), float(words[7]))
        answer = query.point(open_source(Path(words[3])), spot)
        if name == "change":
            assert answer["months"][-1]["probability"] == pytest.approx(1.0, abs=0.005)


def test_what_failed_or_is_missing_is_said_and_escaped(tmp_path: Path) -> None:
    named = card("change", name=HOSTILE, classes={0: "no", 1: HOSTILE}, limits=(HOSTILE,))
    job = a_job(tmp_path, made={"change": named})
    lost = Task(Stage.COMPOSE, Month.parse("2017-03"), job.tiles[0])
    fill_but(job, lost)
    Ledger(job.ledger_folder).fail(lost, HOSTILE)

    page = Page(write_report(Progress.of(job), 1.0))
    facts = facts_of(job)

    assert facts["complete"] is False
    assert facts["problems"] == [
        {"task": str(lost), "kind": "failed", "what": "", "reason": HOSTILE}
    ]
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 3
    assert "The run is not complete" in page.text
    assert [check["verdict"] for check in facts["checks"]][:2] == ["warn", "warn"]
    share = facts["completeness"]["2017-03"]["optical"]
    assert share["not_processed"] + share["valid"] == pytest.approx(1.0, abs=1e-5)
    (change,) = facts["changes"]
    assert change["not_processed"] > 0
    assert facts["not_done"]["change"] > 0
    assert facts["unpublished"] == {"compose": "2017-03", "change": "2017-03"}
    assert "Not published, compose: 2017-03." in page.text


def test_scenes_that_could_not_be_read_are_listed_and_then_counted(tmp_path: Path) -> None:
    failed = {f"scene-{i:02d}": "file not found" for i in range(5)}
    job = fill(a_job(tmp_path), failed=failed)

    page = Page(write_report(Progress.of(job), 1.0))

    everything = 5 * 3 * len(job.tiles)
    assert len(facts_of(job)["problems"]) == everything > MOST_LISTED
    assert page.text.count("file not found") == MOST_LISTED
    assert f"And {everything - MOST_LISTED} more" in page.text
    assert facts_of(job)["timings"]["compose"]["partly"] == 3 * len(job.tiles)


@pytest.mark.parametrize("cards", [(), ("urban",), ("change",)])
def test_a_run_without_any_pixel_has_a_report(tmp_path: Path, cards: tuple[str, ...]) -> None:
    job = a_job(tmp_path, cards)

    page = Page(write_report(Progress.of(job), 0.0))

    assert "nothing to draw" in page.text
    assert "No store holds data yet" in page.text
    assert facts_of(job)["pictures"][0] == "report/completeness.png"


def test_one_month_of_composites_is_drawn_once_and_an_older_picture_goes(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "old.png").write_bytes(b"")
    job = fill(a_job(tmp_path, period="2017-01"))

    write_report(Progress.of(job), 1.0)

    assert set(sizes(job)) == {"composite-2017-01", "completeness", "tiles"}


def test_without_a_change_network_the_urban_maps_are_drawn(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("urban",)))

    write_report(Progress.of(job), 1.0)

    assert {"urban-2017-01", "urban-2017-03", "change-month", "state"} <= set(sizes(job))
    assert facts_of(job)["changes"] == []
    assert facts_of(job)["outcome"]["kind"] == "series"


def test_simulated_weights_are_said_before_anything_else(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, made={"change": card("change", simulated=True)}))

    page = Page(write_report(Progress.of(job), 1.0))

    assert page.text.index("SIMULATED") < page.text.index("Where")
    assert len(facts_of(job)["warnings"]) == 1


def test_a_shard_that_is_damaged_does_not_stop_the_report(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("change",)))
    shard = max(p for p in (tmp_path / "change.zarr" / "change").rglob("c/*/*/*") if p.is_file())
    content = bytearray(shard.read_bytes())
    content[10] ^= 255
    shard.write_bytes(bytes(content))

    page = Page(write_report(Progress.of(job), 1.0))

    facts = facts_of(job)
    assert facts["complete"] is False
    assert [problem["kind"] for problem in facts["problems"]] == ["does not read back"]
    assert "does not read back" in page.text


def test_the_report_is_the_same_when_it_is_written_again(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("change",)))

    page, facts = write_report(Progress.of(job), 1.0), tmp_path / "report.json"
    first = page.read_bytes(), facts.read_bytes()
    write_report(Progress.of(job), 1.0)
    again = page.read_bytes(), facts.read_bytes()

    assert first == again


def log_line(event: str, second: float, **more: Any) -> str:
    when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)
    entry = {"time": when.isoformat(), "event": event, "task": "map/2018-03/x0001y0001"}
    return json.dumps(entry | {"attempt": 0, "seconds": 2.0, "worker": "a:1"} | more) + "\n"


def test_the_timeline_has_the_tasks_of_the_last_call_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert spans(log, 10.0) == ()
    log.write_text(
        log_line("done", 5.0)
        + log_line("done", 102.0)
        + log_line("again", 103.0)
        + log_line("incomplete", 106.0, worker="b:2", seconds=5.0)
        + '{"time": "2026-01',
        encoding="utf-8",
    )
    first, second = spans(log, 7.0)
    assert (first.stage, first.worker, first.start, first.end) == ("map", "a:1", 0.0, 2.0)
    assert (second.worker, second.start, second.end, second.whole) == ("b:2", 1.0, 6.0, False)
    image = matplotlib.image.imread(BytesIO(draw_timeline((first, second))))
    purple = np.abs(image[..., :3] - to_rgb(pictures.PURPLE)).max(axis=-1) < 0.02
    # Of the two lanes the first is at work for two seconds of six, the second for five.
    count = purple.sum(axis=1)
    bars = count[count > 0.2 * purple.shape[1]]
    assert bars[1] / bars[-2] == pytest.approx(2 / 5, abs=0.05)


def test_the_page_shows_the_timeline_where_there_is_a_log(tmp_path: Path) -> None:
    job = a_job(tmp_path)
    fill(job)
    (job.spec.folder / "run").mkdir(exist_ok=True)
    (job.spec.folder / "run" / "log.jsonl").write_text(log_line("done", 1.0), encoding="utf-8")
    page = write_report(Progress.of(job), 3.0).read_text(encoding="utf-8")
    assert "a lane for each worker" in page
    assert (job.spec.folder / "report" / "timeline.png").is_file()
    quiet = write_report(Progress.of(job), 0.0).read_text(encoding="utf-8")
    assert "a lane for each worker" not in quiet


def test_only_tiles_on_the_edge_of_the_area_are_read_to_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    around = Area.from_bounds(Bounds(12.45, 41.88, 12.474, 41.898)).geojson
    job = fill(a_job(tmp_path, area=around, period="2017-01"))
    inside = {t: covered(job.spec.aoi, job.spec.lattice.geobox(t)) for t in job.tiles}
    edge = {tile for tile, mask in inside.items() if not mask.all()}
    cloudy = sum(int(mask[:16, :16].sum()) for mask in inside.values())
    seen: list[Tile] = []

    def spy(self: Product, name: str, task: Task, at: dict[str, Any]) -> Any:
        seen.append(task.tile)
        return read(self, name, task, at)

    read = Product.read
    monkeypatch.setattr(Product, "read", spy)
    product = Product(job, Stage.COMPOSE, Progress(job, Ledger(job.ledger_folder)))
    tally = Tally({Stage.COMPOSE: product}).count(job)

    assert set(seen) == edge < set(job.tiles)
    assert tally.inside == sum(int(mask.sum()) for mask in inside.values())
    assert tally.codes[Stage.COMPOSE, Month(2017, 1), "s2_quality"] == {
        "cloud": cloudy, "valid": tally.inside - cloudy,
    }  # fmt: skip


def test_many_tiles_on_the_edge_are_counted_by_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_READ", 3)
    job = fill(a_job(tmp_path, period="2017-01"))
    progress = Progress(job, Ledger(job.ledger_folder))
    tally = Tally({Stage.COMPOSE: Product(job, Stage.COMPOSE, progress)}).count(job)

    counts = tally.codes[Stage.COMPOSE, Month(2017, 1), "s2_quality"]

    assert not tally.exact
    assert counts["cloud"] == pytest.approx(tally.inside / 16, abs=4)
    assert tally.valid["optical"] == pytest.approx(15 / 16, abs=0.01)


# ---------------------------------------------------------------------------- patches and chips


def test_the_largest_patches_are_found_across_tiles_and_shown_whole(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("change",)))
    (view,), _ = views(job, Progress(job, Ledger(job.ledger_folder)))
    change = np.zeros(view.shape, bool)
    change[10:30, 40:64] = True
    change[30:34, 64:70] = True  # touches in a corner
    change[50:52, 5:7] = True
    change[0, 0] = True  # too small to be shown

    (first, second), number = largest(view, change)

    assert number == 2
    assert first.km2 == pytest.approx((20 * 24 + 4 * 6) * 1e-4)
    assert (second.rows, second.columns) == (slice(50, 52), slice(5, 7))
    for patch in (first, second):
        chip = patch.chip
        rows = view.rows[patch.rows.start], view.rows[patch.rows.stop - 1]
        columns = view.columns[patch.columns.start], view.columns[patch.columns.stop - 1]
        assert chip.rows[0] <= rows[0] <= rows[1] <= chip.rows[-1]
        assert chip.columns[0] <= columns[0] <= columns[1] <= chip.columns[-1]
        assert chip.step == 1
        assert len(chip.rows) == len(chip.columns) >= 48


def test_an_outline_goes_along_the_edges_of_pixels(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("change",)))
    (view,), _ = views(job, Progress(job, Ledger(job.ledger_folder)))
    change = np.zeros(view.shape, bool)
    change[3, 5:7] = True

    ((x, y),) = outlines(change, view)

    left, _, _, top = view.extent_km
    assert np.isfinite(x).sum() == 2 * 6  # six edges around two pixels, each from end to end
    assert (np.nanmin(x) - left, np.nanmax(x) - left) == pytest.approx((0.05, 0.07))
    assert (top - np.nanmax(y), top - np.nanmin(y)) == pytest.approx((0.03, 0.04))


def test_a_pair_is_shown_by_its_months_and_a_series_by_the_clear_ones_around(
    tmp_path: Path,
) -> None:
    pair = fill(a_job(tmp_path / "pair", ("change",)))
    write_report(Progress.of(pair), 1.0)
    series = fill(a_job(tmp_path / "series", ("urban",)))
    write_report(Progress.of(series), 1.0)

    (first, *_), (other, *_) = (facts_of(job)["patches"] for job in (pair, series))

    assert (first["before"], first["after"], first["first"]) == ("2017-01", "2017-03", "")
    assert 0.5 < first["sure"] <= 1
    # February is cloudy, and it is the month that first shows the change.
    assert (other["before"], other["first"], other["confirmed"]) == (
        "2017-01",
        "2017-02",
        "2017-03",
    )
    assert other["after"] == "2017-03"
    assert other["sure"] == pytest.approx(0.8)
    assert facts_of(series)["patches_in_all"] >= len(facts_of(series)["patches"])


# -------------------------------------------------------------------------------- how sure it is


def test_a_sample_beside_the_run_gives_areas_with_intervals(tmp_path: Path) -> None:
    job = fill(a_job(tmp_path, ("change",)))
    store = Store(job.store_path(Stage.CHANGE), job.layouts[Stage.CHANGE])
    design = draw(store, "change", Month(2017, 3), Choice(size=40, least=10))
    sample = tmp_path / "accuracy" / "sample.csv"
    write_sample(design, sample)

    page = Page(write_report(Progress.of(job), 1.0))
    assert "nobody has interpreted its points yet" in page.text
    assert facts_of(job)["checks"][-1]["verdict"] == "warn"

    rows = sample.read_text("utf-8").splitlines()
    mapped = {point.id: point.mapped for point in design.points}
    filled = [rows[0]]
    for row in rows[1:]:
        number = int(row.split(",")[0])
        filled.append(row.replace(",,", f",{mapped[number] if number % 5 else 'no_change'},"))
    sample.write_text("\n".join(filled), encoding="utf-8")
    page = Page(write_report(Progress.of(job), 1.0))

    (found,) = facts_of(job)["samples"]
    change = next(c for c in found["classes"] if c["name"] == "urban_change")
    assert found["file"] == "accuracy/sample.csv"
    assert 0 < change["area_km2"]["value"] < change["mapped_km2"]
    assert change["area_km2"]["interval"] > 0
    assert "Estimated from 40 interpreted points" in page.text
    assert "not an area estimate" not in page.text
    assert facts_of(job)["checks"][-1]["verdict"] == "pass"

    sample.with_suffix(".design.json").write_text(HOSTILE, encoding="utf-8")
    page = Page(write_report(Progress.of(job), 1.0))
    assert "does not read" in page.text
    assert "script" not in page.tags


def test_scenes_unlike_the_training_are_said_on_the_first_screen(tmp_path: Path) -> None:
    spread = (0.5, 0.6, 0.7, 0.8, 0.9)
    seen = {
        "s2": {"B04": spread}, "s1": {}, "limit": {"B04": 0.5}, "places": 3, "data": HOSTILE,
        "command": "none",
    }  # fmt: skip
    job = fill(a_job(tmp_path, made={"change": card("change", seen=seen)}))

    page = Page(write_report(Progress.of(job), 1.0))

    assert "Unlike the training of change-made-up" in page.text
    assert page.text.index("Unlike the training") < page.text.index("The largest patches")
    assert HOSTILE in page.text
    assert "script" not in page.tags
    assert drift.kept(job)[0].unlike


# ---------------------------------------------------------------------------------- large areas


def test_rows_of_the_heat_map_are_blocks_of_tiles_where_there_are_many() -> None:
    tiles = [Tile(ix, iy) for iy in range(100, 120) for ix in range(50, 62)]
    share = np.full((len(tiles), 2), 0.5, np.float32)
    share[0, 1] = np.nan

    side, rows = grouped(tiles)
    found = heat_of("optical", tiles, share)

    assert side > 1
    assert sorted(i for row in rows for i in row) == list(range(len(tiles)))
    assert len(found.rows) == len(rows) <= 40
    np.testing.assert_allclose(found.share_RM, 0.5)
    assert np.isnan(heat_of("optical", tiles[:1], share[:1]).share_RM[0, 1])
    assert draw_heat([Month(2017, 1), Month(2017, 2)], [found]).startswith(b"\x89PNG")


def test_a_vast_area_is_drawn_from_overviews_and_no_month_of_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_PX", 30)
    monkeypatch.setattr(reading, "MOST_TILES", 3)
    monkeypatch.setattr(reading, "MOST_READ", 3)
    job = fill(a_job(tmp_path, ("urban", "change")))
    renew_overviews(job, (Stage.MAP, Stage.CHANGE))
    read: list[str] = []

    def spy(self: Product, name: str, task: Task, at: dict[str, Any]) -> Any:
        chip = max(len(range(*at[axis].indices(10**6))) for axis in ("y", "x"))
        assert at["y"].step == 1
        read.append(name if chip == 64 else "")
        return whole(self, name, task, at)

    whole = Product.read
    monkeypatch.setattr(Product, "read", spy)
    page = Page(write_report(Progress.of(job), 1.0))

    assert "Composites of so large an area are not drawn" in page.text
    assert "composite-2017-01" not in sizes(job)
    assert {"change-month", "patch-1", "tiles"} <= set(sizes(job))
    assert facts_of(job)["exact"] is False
    assert facts_of(job)["outcome"]["by_month"] == {}
    assert facts_of(job)["outcome"]["km2"] > 0


# ---------------------------------------------------------------------------------------- views


def site(lon: float, lat: float) -> list[list[list[float]]]:
    """A ring of some 640 m around nothing in particular."""
    east, north = lon + 0.0077, lat + 0.0058
    return [[[lon, lat], [east, lat], [east, north], [lon, north], [lon, lat]]]


def test_two_sites_far_apart_are_drawn_as_two_small_parts(tmp_path: Path) -> None:
    area = {"type": "MultiPolygon", "coordinates": [site(12.45, 41.88), site(12.95, 42.4)]}
    job = fill(a_job(tmp_path, area=area, period="2017-01"))
    progress = Progress(job, Ledger(job.ledger_folder))

    drawn, left_out = views(job, progress)
    write_report(Progress.of(job), 1.0)

    assert job.layouts[Stage.COMPOSE].shape[0] > 5000
    assert left_out == 0
    assert len(drawn) == 2
    assert all(max(view.shape) < 120 and view.step == 1 for view in drawn)
    assert {"part1-composite-2017-01", "part2-composite-2017-01"} <= set(sizes(job))
    assert all(len(view.outlines_km) == 2 for view in drawn)


def test_at_most_four_parts_are_drawn_and_the_others_counted(tmp_path: Path) -> None:
    rings = [site(12.0 + 0.1 * i, 42.0) for i in range(5)]
    area = {"type": "MultiPolygon", "coordinates": rings}
    job = fill(a_job(tmp_path, area=area, period="2017-01"))

    page = Page(write_report(Progress.of(job), 1.0))

    assert facts_of(job)["parts_not_drawn"] == 1
    drawn = [path for path in facts_of(job)["pictures"] if "composite" in path]
    assert len(drawn) == 4
    assert "1 smaller part is not drawn" in page.text


def test_a_large_area_is_drawn_from_every_nth_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_PX", 30)
    job = fill(a_job(tmp_path, period="2017-01"))
    progress = Progress(job, Ledger(job.ledger_folder))
    whole = open_dataset(tmp_path / "cube.zarr")["s1"].values[0, 0]

    (view,), _ = views(job, progress)
    seen = Product(job, Stage.COMPOSE, progress).picture("s1", Month(2017, 1), view, "vv")

    assert view.step == 3
    assert max(view.shape) <= 30
    np.testing.assert_array_equal(
        seen,
        whole[view.rows.start : view.rows.stop : 3, view.columns.start : view.columns.stop : 3],
    )
    left, right, bottom, top = view.extent_km
    assert right - left == pytest.approx(view.shape[1] * 0.03)
    assert top - bottom == pytest.approx(view.shape[0] * 0.03)


def test_tiles_that_touch_in_a_corner_are_one_group() -> None:
    tiles = [Tile(0, 0), Tile(1, 1), Tile(5, 5), Tile(6, 5), Tile(9, 0)]

    assert clusters(tiles) == [
        (Tile(0, 0), Tile(1, 1)), (Tile(5, 5), Tile(6, 5)), (Tile(9, 0),)
    ]  # fmt: skip
