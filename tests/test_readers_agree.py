"""Both libraries behind ``Reader`` give the same pixels, and the ones that are right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdscale.errors import ReadError
from cdscale.grid import Bounds, GeoBox, Grid, Tile, project, to_lon_lat
from cdscale.pixels import OdcReader, Reader, StackstacReader, make_reader
from cdscale.spec.profile import load_profile
from cdscale.spec.scene import Scene
from cdscale.testing import make_asset, make_scene, write_cog

READERS = [pytest.param(make_reader(name), id=name) for name in ("stackstac", "odc")]
STACKSTAC, ODC = make_reader("stackstac"), make_reader("odc")
UTM31, UTM32 = "EPSG:32631", "EPSG:32632"
ROUNDING = 0.5
"""stackstac's warp keeps the integers of the file, odc's is in floating point."""
EIGHTH = 0.125
"""Pixels by which GDAL's plain warp may be off; see ``OdcReader``."""


def box(
    rows: int, columns: int, *, west: float = 500_000, north: float = 5_600_000,
    size: float = 10, crs: str = UTM31,
) -> GeoBox:  # fmt: skip
    return GeoBox((rows, columns), Affine(size, 0, west, 0, -size, north), crs)


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 10_000, (rows, columns)).astype(np.uint16)


def plane(geobox: GeoBox, *, slope: float = 2.0) -> np.ndarray:
    """Rises by so much for each metre eastward, by half as much southward."""
    y, x = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
    east, north = geobox.affine * (x, y)
    return (slope * (east - 499_000) + slope / 2 * (5_601_000 - north)).astype(np.float32)


def scene_of(*paths: Path, nodata: float | None = 0) -> Scene:
    names = tuple(f"B{number:02}" for number in range(1, len(paths) + 1))
    assets = {n: make_asset(str(p), nodata=nodata) for n, p in zip(names, paths, strict=True)}
    scene = make_scene("one", bands=names)
    return scene.model_copy(update={"assets": assets, "mask": next(iter(assets.values()))})


def test_a_reader_goes_by_its_name() -> None:
    assert isinstance(STACKSTAC, StackstacReader)
    assert isinstance(ODC, OdcReader)


# ------------------------------------------------------------------------------- the native grid


@pytest.mark.parametrize("tagged", [0, None], ids=["tagged", "untagged"])
@pytest.mark.parametrize("reader", READERS)
def test_native_pixels_are_those_of_the_file(
    tmp_path: Path, reader: Reader, tagged: float | None
) -> None:
    stored = noise(90, 110)
    stored[20:30, 40:60] = 0
    write_cog(tmp_path / "a.tif", stored, box(90, 110), nodata=tagged)
    expected = np.where(stored == 0, np.nan, stored).astype(np.float32)
    scene = scene_of(tmp_path / "a.tif")
    np.testing.assert_array_equal(reader.bands(scene, ("B01",), box(90, 110))[0], expected)
    cut = box(40, 50, west=500_000 + 300, north=5_600_000 - 170)
    np.testing.assert_array_equal(reader.bands(scene, ("B01",), cut)[0], expected[17:57, 30:80])
    beyond = reader.bands(scene, ("B01",), box(100, 100, west=500_000 - 300))[0]
    np.testing.assert_array_equal(beyond[:90, 30:], expected[:, :70])
    assert np.isnan(beyond[90:]).all()
    assert np.isnan(beyond[:, :30]).all()


@pytest.mark.parametrize("reader", READERS)
def test_without_any_no_data_all_of_the_file_counts_and_nothing_beyond(
    tmp_path: Path, reader: Reader
) -> None:
    stored = noise(30, 30)
    stored[5, 5] = 0
    write_cog(tmp_path / "a.tif", stored, box(30, 30))
    scene = scene_of(tmp_path / "a.tif", nodata=None)
    got = reader.bands(scene, ("B01",), box(40, 40, west=500_000 - 50))[0]
    np.testing.assert_array_equal(got[:30, 5:35], stored)
    assert np.isfinite(got).sum() == stored.size


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dx=st.integers(-40, 40), dy=st.integers(-40, 40),
    rows=st.integers(1, 40), columns=st.integers(1, 40),
)  # fmt: skip
def test_any_aligned_window_is_cut_alike(
    tmp_path: Path, dx: int, dy: int, rows: int, columns: int
) -> None:
    path = tmp_path / "a.tif"
    stored = noise(30, 30)
    if not path.exists():
        write_cog(path, stored, box(30, 30), nodata=0)
    padded = np.full((130, 130), np.nan, np.float32)
    padded[45:75, 45:75] = stored
    expected = padded[45 + dy : 45 + dy + rows, 45 + dx : 45 + dx + columns]
    target = box(rows, columns, west=500_000 + 10 * dx, north=5_600_000 - 10 * dy)
    for reader in (STACKSTAC, ODC):
        np.testing.assert_array_equal(reader.bands(scene_of(path), ("B01",), target)[0], expected)


@pytest.mark.parametrize(
    ("west", "size", "aligned"),
    [(500_000, 10, True), (500_000.001, 10, True), (500_000, 10.01, False), (500_002, 10, False)],
)
def test_pixels_are_the_files_own_only_where_they_lie_on_them(
    tmp_path: Path, west: float, size: float, aligned: bool
) -> None:
    """A hundredth of a metre for each pixel adds up: at the far end it is half a pixel."""
    stored = noise(512, 512)
    write_cog(tmp_path / "a.tif", stored, box(512, 512), nodata=0)
    target = GeoBox((512, 512), Affine(size, 0, west, 0, -size, 5_600_000), UTM31)
    got = STACKSTAC.bands(scene_of(tmp_path / "a.tif"), ("B01",), target)[0]
    assert np.array_equal(got, stored.astype(np.float32)) == aligned


# ------------------------------------------------------------------------------------ resampling


@pytest.mark.parametrize("reader", READERS)
def test_half_a_pixel_of_shift_is_the_mean_of_two_neighbours(
    tmp_path: Path, reader: Reader
) -> None:
    stored = noise(30, 30)
    write_cog(tmp_path / "a.tif", stored, box(30, 30), nodata=0)
    shifted = box(10, 10, west=500_000 + 105, north=5_600_000 - 100)
    expected = stored[10:20, 10:20] / 2 + stored[10:20, 11:21] / 2
    got = reader.bands(scene_of(tmp_path / "a.tif"), ("B01",), shifted)[0]
    np.testing.assert_allclose(got, expected, atol=ROUNDING)


@pytest.mark.parametrize("reader", READERS)
def test_bands_of_10_20_and_60_m_lie_on_each_other(tmp_path: Path, reader: Reader) -> None:
    """A plane is met exactly by bilinear resampling if nothing has shifted."""
    boxes = {size: box(1200 // size, 1200 // size, size=size) for size in (10, 20, 60)}
    paths = [tmp_path / f"{size}.tif" for size in boxes]
    for path, geobox in zip(paths, boxes.values(), strict=True):
        write_cog(path, plane(geobox), geobox, nodata=-1)
    inside = box(60, 60, west=500_000 + 300, north=5_600_000 - 300)
    got = reader.bands(scene_of(*paths, nodata=-1), ("B03", "B01", "B02"), inside)
    for values in got:
        np.testing.assert_allclose(values, plane(inside), rtol=1e-6)


@pytest.mark.parametrize("nodata", [0, None], ids=["tagged", "untagged"])
@pytest.mark.parametrize("crs", [UTM31, UTM32, "EPSG:3035", "ESRI:102022", "wkt"])
def test_warps_agree(tmp_path: Path, crs: str, nodata: float | None) -> None:
    """Two UTM zones, Europe's grid, a CRS that is not EPSG's, and one that has no code at all."""
    source = box(220, 220, west=498_000, north=5_602_000, size=20)
    stored = np.rint(plane(source)).astype(np.uint16)
    stored[:, 95:105] = 0
    write_cog(tmp_path / "a.tif", stored, source, nodata=nodata)
    if crs == "wkt":
        own = "+proj=laea +lat_0=50 +lon_0=4 +x_0=12345 +y_0=6789 +ellps=GRS80 +units=m +no_defs"
        crs = pyproj.CRS.from_proj4(own).to_wkt()
    x, y = project(*to_lon_lat(500_000, 5_600_000, UTM31), crs)
    target = box(64, 96, west=round(x) - 480.0, north=round(y) + 320.0, crs=crs)
    one, other = (
        r.bands(scene_of(tmp_path / "a.tif"), ("B01",), target)[0] for r in (STACKSTAC, ODC)
    )
    both = np.isfinite(one) & np.isfinite(other)
    # At the rim of no data an eighth of a pixel decides whether a pixel is there.
    assert 0 < (np.isfinite(one) != np.isfinite(other)).sum() + both.sum() <= one.size
    assert (np.isfinite(one) != np.isfinite(other)).mean() < 0.02
    assert both.mean() > 0.5
    steepest = 20 * 2.0 * 1.5  # of the plane, for each pixel of the file
    assert np.abs(one - other)[both].max() <= ROUNDING + EIGHTH * steepest
    masks = [r.mask(scene_of(tmp_path / "a.tif"), target) for r in (STACKSTAC, ODC)]
    assert (masks[0] != masks[1]).mean() < 0.05


@pytest.mark.parametrize("reader", READERS)
def test_no_data_does_not_bleed_whoever_tags_it(tmp_path: Path, reader: Reader) -> None:
    stored = np.full((30, 30), 4000, np.uint16)
    stored[:, :15] = 0
    write_cog(tmp_path / "a.tif", stored, box(30, 30, size=20))
    got = reader.bands(scene_of(tmp_path / "a.tif"), ("B01",), box(60, 60))[0]
    assert set(np.unique(got[np.isfinite(got)])) == {4000.0}
    assert np.isnan(got[:, :29]).all()
    assert np.isfinite(got[:, 31:]).all()


@pytest.mark.parametrize("reader", READERS)
def test_a_mask_is_never_interpolated(tmp_path: Path, reader: Reader) -> None:
    classes = np.random.default_rng(1).integers(1, 12, (20, 20)).astype(np.uint8)
    write_cog(tmp_path / "scl.tif", classes, box(20, 20, size=20))
    wide = box(60, 60, west=500_000 - 100, north=5_600_000 + 100)
    expected = np.zeros((60, 60), np.uint8)
    expected[10:50, 10:50] = classes.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(reader.mask(scene_of(tmp_path / "scl.tif"), wide), expected)


@pytest.mark.parametrize("reader", READERS)
def test_overviews_are_left_alone(tmp_path: Path, reader: Reader) -> None:
    """Pixels of 40 m over 10 m ones come from the pixels, not from overviews that lie."""
    stored = noise(256, 256)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=256, width=256, count=1, dtype="uint16",
        crs=UTM31, transform=box(256, 256).affine, nodata=0, tiled=True,
        blockxsize=64, blockysize=64,
    ) as file:  # fmt: skip
        file.write(stored, 1)
    plain = reader.bands(scene_of(tmp_path / "a.tif"), ("B01",), box(32, 32, size=40))
    with rasterio.open(tmp_path / "a.tif", "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
    seen = reader.bands(scene_of(tmp_path / "a.tif"), ("B01",), box(32, 32, size=40))
    np.testing.assert_array_equal(seen, plain)


@pytest.mark.parametrize(
    ("reader", "seam"),
    [pytest.param(STACKSTAC, 2e-4, id="stackstac"), pytest.param(ODC, EIGHTH, id="odc")],
)
def test_tiles_meet_to_within_what_the_reader_states(
    tmp_path: Path, reader: Reader, seam: float
) -> None:
    grid = Grid("test", "EPSG:3035", Bounds(0, 0, 8_192_000, 8_192_000), tile_px=64)
    source = box(400, 400, west=498_000, north=5_602_000)
    slope = 15.0  # of the plane, for each metre along both axes
    write_cog(tmp_path / "a.tif", plane(source, slope=10.0), source, nodata=-1)
    east, north = project(*to_lon_lat(499_500, 5_600_500, UTM31), "EPSG:3035")
    tile = Tile(int(east // grid.tile_m), int((8_192_000 - north) // grid.tile_m))
    pair = [tile, Tile(tile.ix + 1, tile.iy)]
    scene = scene_of(tmp_path / "a.tif", nodata=-1)
    whole = reader.bands(scene, ("B01",), grid.window(pair).geobox(grid))
    parts = [reader.bands(scene, ("B01",), grid.geobox(one)) for one in pair]
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(np.concatenate(parts, axis=2), whole, atol=2 * seam * slope * 10)


# -------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", ["gone", "no-tiff", "empty", "cut", "cut-header", "vrt", "rgb"])
def test_what_cannot_be_read_is_an_error_that_stays(
    tmp_path: Path, reader: Reader, damage: str
) -> None:
    path = tmp_path / "a.tif"
    write_cog(path, noise(3000, 600), box(3000, 600), nodata=0)
    whole = path.read_bytes()
    link = f"<VRTDataset rasterXSize='4' rasterYSize='4'><VRTRasterBand><SimpleSource>" \
        f"<SourceFilename>{tmp_path}/b.tif</SourceFilename></SimpleSource></VRTRasterBand>" \
        "</VRTDataset>"  # fmt: skip
    if damage == "gone":
        path.unlink()
    elif damage == "rgb":
        with rasterio.open(
            path, "w", driver="GTiff", width=4, height=4, count=3, dtype="uint8", crs=UTM31,
            transform=box(4, 4).affine,
        ) as file:  # fmt: skip
            file.write(np.ones((3, 4, 4), np.uint8))
    else:
        path.write_bytes(
            {
                "no-tiff": b"<html>not here</html>" * 20, "empty": b"",
                "cut": whole[: len(whole) // 2], "cut-header": whole[:480], "vrt": link.encode(),
            }[damage]
        )  # fmt: skip
    bottom = box(64, 64, north=5_600_000 - 29_000)
    with pytest.raises(ReadError, match="scene one: B01: ") as caught:
        reader.bands(scene_of(path), ("B01",), bottom)
    assert caught.value.permanent


@pytest.mark.parametrize("reader", READERS)
def test_blocks_that_a_file_really_lacks_are_no_data(tmp_path: Path, reader: Reader) -> None:
    geobox = box(256, 256)
    with rasterio.open(
        tmp_path / "sparse.tif", "w", driver="GTiff", height=256, width=256, count=1,
        dtype="uint16", crs=UTM31, transform=geobox.affine, nodata=0, tiled=True, blockxsize=64,
        blockysize=64, sparse_ok=True,
    ) as file:  # fmt: skip
        file.write(np.full((64, 64), 7, np.uint16), 1, window=((64, 128), (128, 192)))
    got = reader.bands(scene_of(tmp_path / "sparse.tif"), ("B01",), geobox)[0]
    expected = np.full((256, 256), np.nan, np.float32)
    expected[64:128, 128:192] = 7
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("reader", READERS)
def test_a_small_file_that_claims_to_be_huge_is_refused(tmp_path: Path, reader: Reader) -> None:
    with rasterio.open(
        tmp_path / "bomb.tif", "w", driver="GTiff", height=40_000, width=40_000, count=1,
        dtype="uint16", crs=UTM31, transform=box(4, 4).affine, tiled=True, blockxsize=32_768,
        blockysize=32_768, sparse_ok=True,
    ):  # fmt: skip
        pass
    with pytest.raises(ReadError, match=r"bomb.tif is too large; expected") as caught:
        reader.bands(scene_of(tmp_path / "bomb.tif"), ("B01",), box(4, 4))
    assert caught.value.permanent


# ------------------------------------------------------------------------------------- real data


@pytest.mark.realdata
def test_real_scenes_agree(data_root: Path) -> None:
    """On the native grid exactly; on Europe's to within the eighth of a pixel of GDAL's warp."""
    from cdscale import scenes

    folder = data_root / "flanders-stac" / "sentinel-2-l2a" / "items"
    profile = load_profile("planetary-computer-sentinel-2-l2a")
    for path in sorted(folder.glob("*00002806639B424A.json"))[:3]:
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            asset["href"] = str((path.parent / asset["href"]).resolve())
        scene = scenes.harmonise(item, profile, local=True)
        href = scene.assets["B04"].href
        with rasterio.open(href) as file:
            raw, native = file.read(1), GeoBox(file.shape, file.transform, str(file.crs))
        expected = np.where(raw == 0, np.nan, raw).astype(np.float32)
        expected = expected * np.float32(scene.assets["B04"].scale) + np.float32(
            scene.assets["B04"].offset
        )
        for reader in (STACKSTAC, ODC):
            np.testing.assert_array_equal(reader.bands(scene, ("B04",), native)[0], expected)
        middle = scene.polygon.centroid
        x, y = project(middle.x, middle.y, "EPSG:3035")
        target = box(64, 64, west=round(x) - 320.0, north=round(y) + 320.0, crs="EPSG:3035")
        one, other = (r.bands(scene, ("B04", "B11"), target) for r in (STACKSTAC, ODC))
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        step = np.nanmax(np.abs(np.diff(expected, axis=1)))
        assert np.nanmax(np.abs(one - other)) <= 1e-4 + EIGHTH * 2 * step
