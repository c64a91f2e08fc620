"""Reading over a network that fails: right pixels or an error, never a hole; few requests."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from cdscale.errors import ReadError
from cdscale.grid import GeoBox
from cdscale.pixels import Reader, StackstacReader, Tokens, access, faults, make_reader
from cdscale.pixels import files as file_rules
from cdscale.pixels import tokens as tokens_
from cdscale.spec.profile import Access
from cdscale.spec.scene import Scene
from cdscale.testing import Behaviour, Fault, FaultServer, make_asset, make_scene, mixed_faults
from cdscale.testing.server import RANDOM_KINDS

UTM31 = "EPSG:32631"
NAMES = ("stackstac", "odc")
SIGNED = Access(signing="planetary-computer")


def box(rows: int, columns: int, *, west: float = 500_000, north: float = 5_600_000) -> GeoBox:
    return GeoBox((rows, columns), Affine(10, 0, west, 0, -10, north), UTM31)


def pixels_of(side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 60_000, (side, side)).astype(np.uint16)


@dataclass(frozen=True)
class Site:
    """A server, and what its files hold."""

    server: FaultServer
    stored: dict[str, np.ndarray]

    def scene(
        self, *names: str, how: Access | None = None, tag: str = "", query: str = ""
    ) -> Scene:
        """A scene of some files; a tag makes addresses that GDAL has not seen."""
        assets = {
            name: make_asset(f"{self.server.url}/{tag}/{name}.tif{query}", nodata=0)
            for name in names
        }
        update = {"assets": assets, "mask": next(iter(assets.values()))}
        return make_scene("far", bands=names).model_copy(
            update=update | ({"access": how} if how else {})
        )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("www")
    stored = {f"b{number:02}": pixels_of(512, number) for number in range(13)}
    y, x = np.mgrid[:512, :512]
    stored["plane"] = (1000 + 20 * x + 10 * y).astype(np.uint16)
    stored["tables"] = np.full((10980, 10980), 777, np.uint16)
    for name, values in stored.items():
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="COG", height=len(values), width=len(values),
            count=1, dtype="uint16", crs=UTM31, transform=box(1, 1).affine, nodata=0,
            blocksize=256, overviews="NONE", compress="DEFLATE",
        ) as file:  # fmt: skip
            file.write(values, 1)
    return folder, stored


@pytest.fixture(scope="module")
def running(files: tuple[Path, dict[str, np.ndarray]]) -> Iterator[FaultServer]:
    folder = files[0]
    for tag in range(400):  # many addresses of the same files: GDAL remembers by address
        (folder / f"t{tag}").symlink_to(folder)
    with FaultServer(folder) as server:
        yield server


_FRESH = iter(range(400))


@pytest.fixture
def fresh() -> Callable[[], str]:
    """Names of folders that were not asked for before."""
    return lambda: f"t{next(_FRESH)}"


@pytest.fixture
def site(running: FaultServer, files: tuple[Path, dict[str, np.ndarray]]) -> Site:
    running.heal()
    running.clear()
    return Site(running, files[1])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "FIRST_WAIT", 0.02)
    monkeypatch.setitem(access.GDAL_OPTIONS, "GDAL_HTTP_RETRY_DELAY", "0.02")
    monkeypatch.setitem(access.GDAL_OPTIONS, "GDAL_HTTP_TIMEOUT", "2")


@pytest.fixture(params=NAMES)
def reader(request: pytest.FixtureRequest, running: FaultServer) -> Reader:
    return make_reader(request.param, Tokens(running.tokens_url))


# -------------------------------------------------------------------------------------- requests


def test_few_requests_read_a_scene(site: Site, reader: Reader, fresh: Callable[[], str]) -> None:
    """One for the size, one for the header, one for the blocks; then only blocks."""
    scene = site.scene("b00", tag=fresh())
    got = reader.bands(scene, ("b00",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b00"])
    assert site.server.count <= 3
    site.server.clear()
    reader.bands(scene, ("b00",), box(512, 512))
    assert site.server.count <= 1


def test_a_small_window_fetches_few_bytes(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    reader.bands(site.scene("b00", tag=fresh()), ("b00",), box(60, 60))
    assert sum(entry.sent for entry in site.server.log) < 0.6 * site.stored["b00"].nbytes


def test_beside_the_file_no_block_is_read(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    away = box(64, 64, west=700_000)
    assert np.isnan(reader.bands(site.scene("b00", tag=fresh()), ("b00",), away)).all()
    assert site.server.count <= 2


def test_latency_is_waited_for_once_not_for_each_asset(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    names = tuple(f"b{number:02}" for number in range(13))
    reader.bands(site.scene("b00", tag=fresh()), ("b00",), box(64, 64))  # imports, threads
    site.server.behave(Behaviour(latency=0.1))
    site.server.clear()
    began = time.monotonic()
    got = reader.bands(site.scene(*names, tag=fresh()), names, box(300, 300))
    seconds = time.monotonic() - began
    for name, values in zip(names, got, strict=True):
        np.testing.assert_array_equal(values, site.stored[name][:300, :300])
    assert seconds < 0.5 * 0.1 * site.server.count
    assert max(entry.together for entry in site.server.log) >= 8


def test_a_warp_over_a_network_is_the_warp_of_the_file(
    site: Site, reader: Reader, fresh: Callable[[], str], files: tuple[Path, dict[str, np.ndarray]]
) -> None:
    """And it asks for all of its blocks at once, not for each row of them after the other."""
    names = ("plane", "b01")
    outline = box(300, 300).extent.to_crs("EPSG:3035").boundingbox
    turned = GeoBox.from_bbox(outline, "EPSG:3035", resolution=10)
    near = {name: make_asset(str(files[0] / f"{name}.tif"), nodata=0) for name in names}
    scene = site.scene(*names, tag=fresh())
    local = reader.bands(scene.model_copy(update={"assets": near}), names, turned)
    assert 0.5 < np.isfinite(local).mean() < 1
    got = reader.bands(scene, names, turned)
    if isinstance(reader, StackstacReader):
        np.testing.assert_array_equal(got, local)
    else:  # an eighth of a pixel, interpolated over what there is of the file
        np.testing.assert_allclose(got[0], local[0], atol=2 * 0.125 * 30)
    assert site.server.count <= 2 * 5


@pytest.mark.parametrize("name", NAMES)
def test_more_than_fits_in_memory_comes_in_parts(
    site: Site, fresh: Callable[[], str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_rules, "LARGEST_WINDOW", 1000)
    reader = make_reader(name)  # type: ignore[arg-type]
    half = GeoBox((500, 500), Affine(10, 0, 500_005, 0, -10, 5_600_000), UTM31)
    stored = site.stored["b00"].astype(np.float32)
    expected = stored[:500, :500] / 2 + stored[:500, 1:501] / 2
    got = reader.bands(site.scene("b00", tag=fresh()), ("b00",), half)[0]
    np.testing.assert_allclose(got, expected, atol=0.5)


# ---------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("start", [0, 20_000], ids=["opening", "blocks"])
@pytest.mark.parametrize("kind", [*RANDOM_KINDS, "408", "502", "504"])
def test_a_fault_that_passes_is_read_through(
    site: Site, reader: Reader, fresh: Callable[[], str], kind: str, start: int
) -> None:
    site.server.behave(Behaviour(faults=(Fault(kind, first=2, start=start),)))
    got = reader.bands(site.scene("b02", tag=fresh()), ("b02",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b02"])
    struck = [entry for entry in site.server.log if entry.fault == kind]
    assert len(struck) == 2


@pytest.mark.parametrize("start", [0, 20_000], ids=["opening", "blocks"])
@pytest.mark.parametrize("kind", [*RANDOM_KINDS, "408"])
def test_a_fault_that_stays_is_an_error_and_heals_in_the_same_process(
    site: Site, reader: Reader, fresh: Callable[[], str], kind: str, start: int
) -> None:
    scene = site.scene("b03", tag=fresh())
    site.server.behave(Behaviour(faults=(Fault(kind, rate=1, start=start),)))
    with pytest.raises(ReadError, match="scene far: b03: .*tries") as caught:
        reader.bands(scene, ("b03",), box(512, 512))
    assert not caught.value.permanent
    site.server.heal()
    got = reader.bands(scene, ("b03",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b03"])


def test_a_stall_is_cut_off(
    site: Site, reader: Reader, fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(access.GDAL_OPTIONS, "GDAL_HTTP_TIMEOUT", "1")
    site.server.behave(Behaviour(faults=(Fault("stall", first=1, seconds=30),)))
    began = time.monotonic()
    got = reader.bands(site.scene("b04", tag=fresh()), ("b04",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b04"])
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("status", ["404", "410", "403", "401"])
def test_what_is_gone_or_not_allowed_is_asked_for_no_more(
    site: Site, reader: Reader, fresh: Callable[[], str], status: str
) -> None:
    scene = site.scene("b05", tag=fresh())
    site.server.behave(Behaviour(faults=(Fault(status, rate=1),)))
    with pytest.raises(ReadError, match=f"not (there|allowed): .*{status}") as caught:
        reader.bands(scene, ("b05",), box(64, 64))
    assert caught.value.permanent
    assert site.server.count <= 3
    site.server.heal()  # it came back: GDAL's memory of its absence is not believed
    got = reader.bands(scene, ("b05",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b05"])


def test_retry_after_is_honoured(site: Site, reader: Reader, fresh: Callable[[], str]) -> None:
    site.server.behave(Behaviour(faults=(Fault("429", first=2, retry_after=1),)))
    reader.bands(site.scene("b06", tag=fresh()), ("b06",), box(64, 64))
    struck = [entry.at for entry in site.server.log if entry.fault]
    later = [entry.at for entry in site.server.log if not entry.fault]
    assert len(struck) == 2
    assert min(later) - max(struck) >= 0.9


@pytest.mark.parametrize("kind", ["cut", "short"])
@pytest.mark.parametrize("first", [2, 3, 4])
def test_half_a_header_makes_no_hole(
    site: Site, reader: Reader, fresh: Callable[[], str], kind: str, first: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """GDAL alone reads the far corner of such a file as no data, and says nothing."""
    monkeypatch.setitem(access.REMOTE_OPTIONS, "GDAL_INGESTED_BYTES_AT_OPEN", "16384")
    scene = site.scene("tables", tag=fresh())
    behaviour = Behaviour(faults=(Fault(kind, first=first, path="*tables.tif"),))
    site.server.behave(behaviour)
    silent = {**access.GDAL_OPTIONS, "GDAL_HTTP_MAX_RETRY": "0"}
    with rasterio.Env(**silent), rasterio.open(scene.assets["tables"].href) as file:
        hole = file.read(1, window=((10300, 10900), (10300, 10900)))
    scene = site.scene("tables", tag=fresh())
    site.server.behave(behaviour)
    got = reader.bands(scene, ("tables",), FAR)
    assert (got == 777).all()
    assert (hole == 0).any()  # else this test shows nothing


FAR = box(600, 600, west=500_000 + 103_000, north=5_600_000 - 103_000)
"""Blocks whose places stand in the second half of the header of ``tables``."""


@pytest.mark.parametrize("over", ["http", "s3"])
def test_a_header_that_always_comes_short_is_an_error(
    site: Site, reader: Reader, fresh: Callable[[], str], over: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All blocks of the window seem to lack a place: none is asked for, so none can fail."""
    monkeypatch.setitem(access.REMOTE_OPTIONS, "GDAL_INGESTED_BYTES_AT_OPEN", "16384")
    tag = fresh()
    scene = site.scene("tables", tag=tag) if over == "http" else s3_scene(site, "tables", tag)
    site.server.behave(Behaviour(faults=(Fault("cut", rate=1),)))
    with pytest.raises(ReadError, match="tables: its header .*tries") as caught:
        reader.bands(scene, ("tables",), FAR)
    assert not caught.value.permanent


def test_where_only_gdal_can_ask_several_answers_have_to_agree(
    site: Site, reader: Reader, fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(access.REMOTE_OPTIONS, "GDAL_INGESTED_BYTES_AT_OPEN", "16384")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    scene = s3_scene(site, "tables", fresh())
    how = scene.access.model_copy(update={"s3_unsigned": False})
    scene = scene.model_copy(update={"access": how})
    site.server.behave(Behaviour(faults=(Fault("cut", first=file_rules.AGREEING),)))
    assert (reader.bands(scene, ("tables",), FAR) == 777).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_random_faults_give_right_pixels_or_an_error(
    site: Site, running: FaultServer, name: str, rate: float, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(access, "FIRST_WAIT", 0.001)
    monkeypatch.setitem(access.GDAL_OPTIONS, "GDAL_HTTP_RETRY_DELAY", "0.001")
    reader = make_reader(name, Tokens(running.tokens_url))  # type: ignore[arg-type]
    names = ("b07", "b08", "b09", "tables")
    window = box(200, 200, west=500_000 + 1000, north=5_600_000 - 1000)
    failed = 0
    seeds = 25 if os.environ.get("HYPOTHESIS_PROFILE") != "thorough" else 200
    scenes = [site.scene(*names, tag="t0", query=f"?{name}{rate}{n}") for n in range(seeds)]
    for seed, scene in enumerate(scenes):
        site.server.behave(Behaviour(faults=mixed_faults(rate), seed=seed))
        try:
            got = reader.bands(scene, names, window)
        except ReadError as err:
            assert not err.permanent  # noqa: PT017
            failed += 1
            continue
        for band, values in zip(names, got, strict=True):
            np.testing.assert_array_equal(values, site.stored[band][100:300, 100:300])
    struck = {entry.fault for entry in site.server.log} - {""}
    assert struck == set(RANDOM_KINDS)
    assert failed <= (0 if rate < 0.1 else seeds // 2)
    site.server.heal()
    for scene in scenes[:10]:  # whatever was remembered of the faults
        got = reader.bands(scene, names, window)
        for band, values in zip(names, got, strict=True):
            np.testing.assert_array_equal(values, site.stored[band][100:300, 100:300])


def test_one_asset_that_fails_fails_the_read(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    site.server.behave(Behaviour(faults=(Fault("404", rate=1, path="*b08.tif"),)))
    with pytest.raises(ReadError, match="scene far: b08: not there"):
        reader.bands(site.scene("b07", "b08", tag=fresh()), ("b07", "b08"), box(64, 64))


def test_a_host_that_does_not_answer_may_be_tried_again(reader: Reader) -> None:
    scene = make_scene("far", bands=("B02",))
    asset = make_asset("http://127.0.0.1:9/B02.tif?sv=2020&sig=SECRET%2Btoken&se=x")
    with pytest.raises(ReadError, match="scene far: B02: .*after 6 tries") as caught:
        reader.bands(scene.model_copy(update={"assets": {"B02": asset}}), ("B02",), box(4, 4))
    assert not caught.value.permanent
    shown = repr(caught.value) + str(caught.value)
    assert "SECRET" not in shown
    assert "sig" not in shown
    assert caught.value.__context__ is None or caught.value.__suppress_context__


# ---------------------------------------------------------------------------------------- tokens


def test_signed_files_are_read_with_one_token(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    site.server.behave(Behaviour(signed=True))
    names = ("b00", "b01", "b02", "b03", "b04", "b05")
    scene = site.scene(*names, how=SIGNED, tag=fresh())
    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(reader.bands, scene, names, box(64, 64)) for _ in range(4)]
    for read in reads:
        for name, values in zip(names, read.result(), strict=True):
            np.testing.assert_array_equal(values, site.stored[name][:64, :64])
    assert [entry.path for entry in site.server.log].count("/token/s2") == 1
    assert not any(entry.fault for entry in site.server.log)


def test_a_token_that_ends_meanwhile_is_replaced_once(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    site.server.behave(Behaviour(signed=True))
    scene = site.scene("b00", "b01", how=SIGNED, tag=fresh())
    reader.bands(scene, ("b00",), box(64, 64))
    site.server.revoke()
    got = reader.bands(scene, ("b00", "b01"), box(512, 512))
    np.testing.assert_array_equal(got[1], site.stored["b01"])
    assert [entry.path for entry in site.server.log].count("/token/s2") == 2


@pytest.mark.parametrize("refusal", [401, 403])
def test_who_is_not_allowed_with_a_new_token_is_not_allowed(
    site: Site, reader: Reader, fresh: Callable[[], str], refusal: int
) -> None:
    site.server.behave(Behaviour(signed=True, refusal=refusal, token_uses=0))
    with pytest.raises(ReadError, match=f"b00: not allowed: .*{refusal}") as caught:
        reader.bands(site.scene("b00", how=SIGNED, tag=fresh()), ("b00",), box(64, 64))
    assert caught.value.permanent
    assert [entry.path for entry in site.server.log].count("/token/s2") == 2
    assert "sig=" not in repr(caught.value)


@pytest.mark.parametrize("says", [-300.0, 0.0, 20.0])
def test_tokens_said_to_have_ended_are_tried_and_not_fetched_in_a_loop(
    site: Site, reader: Reader, fresh: Callable[[], str], says: float
) -> None:
    site.server.behave(Behaviour(signed=True, token_says=says))
    scene = site.scene("b00", how=SIGNED, tag=fresh())
    for _ in range(3):
        got = reader.bands(scene, ("b00",), box(64, 64))
        np.testing.assert_array_equal(got[0], site.stored["b00"][:64, :64])
    assert [entry.path for entry in site.server.log].count("/token/s2") == 1


def test_a_token_is_renewed_before_it_ends(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(site.server.tokens_url)
    scene = site.scene("b00", how=SIGNED)
    now = [1000.0]
    # The module's own name: clusters inside this process live by the clock of `time`.
    monkeypatch.setattr("cdscale.pixels.tokens.monotonic", lambda: now[0])
    first = tokens.sign("https://x/a.tif", scene)
    assert first.startswith("https://x/a.tif?sv=1&sig=t")
    now[0] += 2700 - 301
    assert tokens.sign("https://x/a.tif", scene) == first
    assert tokens.sign("https://x/b.tif?a=1", scene) == "https://x/b.tif?a=1&" + first[16:]
    now[0] += 2
    assert tokens.sign("https://x/a.tif", scene) != first
    other = scene.model_copy(update={"collection": "sentinel-1-rtc"})
    tokens.sign("https://x/a.tif", other)
    asked = [entry.path for entry in site.server.log]
    assert asked == ["/token/s2", "/token/s2", "/token/sentinel-1-rtc"]


def test_tokens_come_through_faults_and_what_needs_none_asks_for_none(site: Site) -> None:
    tokens = Tokens(site.server.tokens_url)
    plain = site.scene("b00")
    assert tokens.sign("/data/B02.tif", plain) == "/data/B02.tif"
    assert site.server.count == 0
    faults_ = (Fault("429", first=1, retry_after=1), Fault("html", first=2), Fault("500", first=3))
    site.server.behave(Behaviour(faults=faults_))
    began = time.monotonic()
    assert "sig=" in tokens.sign("https://x/a.tif", site.scene("b00", how=SIGNED))
    assert time.monotonic() - began >= 0.9
    assert [entry.fault for entry in site.server.log] == ["429", "html", "500", ""]


@pytest.mark.parametrize("kind", ["500", "html", "drop", "403"])
def test_without_a_token_the_read_fails_and_may_be_tried_again(
    site: Site, reader: Reader, kind: str
) -> None:
    site.server.behave(Behaviour(faults=(Fault(kind, path="/token/*", rate=1),)))
    with pytest.raises(ReadError, match="no token for s2") as caught:
        reader.bands(site.scene("b00", how=SIGNED), ("b00",), box(64, 64))
    assert not caught.value.permanent
    assert site.server.count == tokens_.TOKEN_TRIES


def test_no_token_is_shown_anywhere(
    site: Site, reader: Reader, fresh: Callable[[], str], caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    scene = site.scene("b00", how=SIGNED, tag=fresh())
    for kind, start in (("503", 0), ("cut", 20_000), ("html", 0)):
        site.server.behave(Behaviour(signed=True, faults=(Fault(kind, rate=1, start=start,
                                                                path="*.tif"),)))  # fmt: skip
        with pytest.raises(ReadError) as caught:
            reader.bands(scene, ("b00",), box(512, 512))
        assert "sig=" not in str(caught.value) + repr(caught.value)
        assert "far" in str(caught.value)
    assert "sig=" not in caplog.text
    written = capfd.readouterr()
    assert "sig=" not in written.out + written.err
    source = access.Source(scene, "b00", scene.assets["b00"])
    assert "sig=" not in repr(access.Target(source, "https://x/a.tif?sig=SECRET"))
    assert faults.classify(RuntimeError("'https://x/a.tif?sig=SECRET' is gone"))[1] == (
        "'https://x/a.tif' is gone"
    )


# -------------------------------------------------------------------------------------------- s3


def s3_scene(site: Site, name: str, tag: str, **how: object) -> Scene:
    host = f"http://127.0.0.1:{site.server.port}"
    scene = site.scene(name, how=Access(s3_endpoint=host, s3_unsigned=True, **how))
    asset = make_asset(f"s3://{tag}/{name}.tif", nodata=0)
    return scene.model_copy(update={"assets": {name: asset}})


def test_buckets_are_read_through_their_endpoint(
    site: Site, reader: Reader, fresh: Callable[[], str]
) -> None:
    scene = s3_scene(site, "b00", fresh(), requester_pays=True)
    got = reader.bands(scene, ("b00",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b00"])
    assert all(entry.headers == {"x-amz-request-payer": "requester"} for entry in site.server.log)


def test_keys_of_the_environment_sign_for_a_bucket(
    site: Site, reader: Reader, fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
    scene = s3_scene(site, "b01", fresh())
    how = scene.access.model_copy(update={"s3_unsigned": False})
    got = reader.bands(scene.model_copy(update={"access": how}), ("b01",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b01"])
    assert all(entry.headers.get("authorization") for entry in site.server.log)


@pytest.mark.parametrize("kind", ["503", "cut", "drop", "html", "429"])
def test_faults_of_a_bucket_are_read_through(
    site: Site, reader: Reader, fresh: Callable[[], str], kind: str
) -> None:
    site.server.behave(Behaviour(faults=(Fault(kind, first=2),)))
    got = reader.bands(s3_scene(site, "b02", fresh()), ("b02",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b02"])


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keys"])
@pytest.mark.parametrize(("status", "said"), [("404", "not there"), ("403", "not allowed")])
def test_what_a_bucket_does_not_have_or_give_is_for_good(
    site: Site, reader: Reader, fresh: Callable[[], str], status: str, said: str, keys: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    site.server.behave(Behaviour(faults=(Fault(status, rate=1),)))
    scene = s3_scene(site, "b02", fresh())
    if keys:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        how = scene.access.model_copy(update={"s3_unsigned": False})
        scene = scene.model_copy(update={"access": how})
    with pytest.raises(ReadError, match=said) as caught:
        reader.bands(scene, ("b02",), box(64, 64))
    assert caught.value.permanent
    assert site.server.count <= 5
    site.server.heal()
    got = reader.bands(scene, ("b02",), box(512, 512))
    np.testing.assert_array_equal(got[0], site.stored["b02"])


def test_a_bucket_without_keys_says_what_to_set(
    site: Site, reader: Reader, fresh: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        faults, "opened", _raising(RuntimeError("AWS_SECRET_ACCESS_KEY and ... not defined"))
    )
    with pytest.raises(ReadError, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET") as caught:
        reader.bands(s3_scene(site, "b02", fresh()), ("b02",), box(64, 64))
    assert caught.value.permanent


def _raising(error: Exception) -> Callable[..., object]:
    def opened(*_: object) -> object:
        raise error

    return opened


# -------------------------------------------------------------------------------------- jpeg 2000


def test_half_a_jpeg_2000_is_no_hole_either(
    site: Site, reader: Reader, fresh: Callable[[], str], files: tuple[Path, dict[str, np.ndarray]]
) -> None:
    path = files[0] / "one.jp2"
    if not path.exists():
        with rasterio.open(
            path, "w", driver="JP2OpenJPEG", height=512, width=512, count=1, dtype="uint16",
            crs=UTM31, transform=box(1, 1).affine, quality="100", reversible="YES",
            blockxsize=256, blockysize=256,
        ) as file:  # fmt: skip
            file.write(files[1]["b00"], 1)
    asset = make_asset(f"{site.server.url}/{fresh()}/one.jp2", nodata=0)
    scene = replace_asset(site.scene("b00"), asset)
    for seed in range(20):
        site.server.behave(Behaviour(faults=mixed_faults(0.3, ("cut", "short", "503")), seed=seed))
        try:
            got = reader.bands(scene, ("b00",), box(512, 512))
        except ReadError as err:
            assert not err.permanent  # noqa: PT017
            continue
        np.testing.assert_array_equal(got[0], site.stored["b00"])


def replace_asset(scene: Scene, asset: object) -> Scene:
    return scene.model_copy(update={"assets": {"b00": asset}})
