"""``StackstacReader`` against a direct warp by rasterio, and its failures."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from cdscale.errors import ReadError
from cdscale.grid import Bounds, GeoBox, Grid, Tile, project, to_lon_lat
from cdscale.pixels import StackstacReader
from cdscale.pixels.stackstac import TOLERANCE
from cdscale.spec.profile import load_profile
from cdscale.spec.scene import Scene
from cdscale.testing import make_asset, make_scene, write_cog

READER = StackstacReader()
UTM31, UTM32 = "EPSG:32631", "EPSG:32632"


def box(
    rows: int, columns: int, *, west: float = 500_000, north: float = 5_600_000,
    size: float = 10, crs: str = UTM31,
) -> GeoBox:  # fmt: skip
    return GeoBox((rows, columns), Affine(size, 0, west, 0, -size, north), crs)


def ramp(rows: int, columns: int, dtype: str = "uint16") -> np.ndarray:
    """Values that tell every pixel apart, none of them zero."""
    return (1000 + np.arange(rows * columns).reshape(rows, columns) * 7 % 5000).astype(dtype)


def scene_of(path: Path, *, nodata: float | None = 0, **changes: object) -> Scene:
    scene = make_scene("one", bands=("B02",))
    asset = make_asset(str(path), nodata=nodata)
    return scene.model_copy(update={"assets": {"B02": asset}, "mask": asset, **changes})


def warp(
    path: Path, geobox: GeoBox, *, nodata: float | None, how: Resampling = Resampling.bilinear
) -> np.ndarray:
    """What GDAL itself makes of a file on a geobox, NaN where there is nothing."""
    height, width = geobox.shape
    with rasterio.open(path) as file:
        ratio = file.res[0] / abs(geobox.resolution.x)
        kernel = ratio if ratio < 1 / 1.5 else 1.0
    with (
        rasterio.open(path) as file,
        WarpedVRT(
            file,
            crs=str(geobox.crs),
            transform=geobox.affine,
            height=height,
            width=width,
            resampling=how,
            src_nodata=nodata,
            nodata=nodata,
            tolerance=TOLERANCE,
            XSCALE=kernel,
            YSCALE=kernel,
        ) as warped,
    ):
        values = warped.read(1, masked=True).astype(np.float32)
    return values.filled(np.nan)


# ---------------------------------------------------------------------------------- same pixels


def test_pixels_on_the_same_grid_come_back_unchanged(tmp_path: Path) -> None:
    source = box(40, 50)
    stored = ramp(40, 50)
    stored[3, 4] = 0
    expected = np.where(stored == 0, np.nan, stored).astype(np.float32)
    write_cog(tmp_path / "a.tif", stored, source, nodata=0)
    got = READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), source)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected[None])


def test_an_aligned_window_is_cut_without_a_shift(tmp_path: Path) -> None:
    stored = ramp(40, 40)
    write_cog(tmp_path / "a.tif", stored, box(40, 40), nodata=0)
    window = box(10, 12, west=500_000 + 50, north=5_600_000 - 70)
    expected = stored[7:17, 5:17].astype(np.float32)
    got = READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), window)
    np.testing.assert_array_equal(got[0], expected)


def test_half_a_pixel_of_shift_is_the_mean_of_two_neighbours(tmp_path: Path) -> None:
    """The trap of pixel corners taken for centres: an answer half a pixel off would be the cut."""
    stored = ramp(30, 30)
    write_cog(tmp_path / "a.tif", stored, box(30, 30), nodata=0)
    shifted = box(10, 10, west=500_000 + 105, north=5_600_000 - 100)
    expected = (stored[10:20, 10:20] / 2 + stored[10:20, 11:21] / 2).astype(np.float32)
    got = READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), shifted)
    # GDAL rounds to the integers that the file holds.
    np.testing.assert_allclose(got[0], expected, atol=0.5)


def test_a_20_m_band_lies_where_a_10_m_band_lies(tmp_path: Path) -> None:
    """A plane is met exactly by bilinear resampling, away from the rim, if nothing has shifted."""
    fine, coarse = box(40, 40), box(20, 20, size=20)

    def plane(geobox: GeoBox) -> np.ndarray:
        y, x = np.mgrid[: geobox.shape[0], : geobox.shape[1]] + 0.5
        size = geobox.resolution.x
        return (x * size * 2 + y * size * 3).astype(np.float32)

    write_cog(tmp_path / "fine.tif", plane(fine), fine, nodata=-1)
    write_cog(tmp_path / "coarse.tif", plane(coarse), coarse, nodata=-1)
    scene = make_scene("two", bands=("B02", "B11")).model_copy(
        update={
            "assets": {
                "B02": make_asset(str(tmp_path / "fine.tif"), nodata=-1),
                "B11": make_asset(str(tmp_path / "coarse.tif"), nodata=-1),
            }
        }
    )
    got = READER.bands(scene, ("B11", "B02"), fine)
    np.testing.assert_array_equal(got[1], plane(fine))
    np.testing.assert_allclose(got[0, 1:-1, 1:-1], plane(fine)[1:-1, 1:-1], rtol=1e-6)


@pytest.mark.parametrize("nodata", [0, None], ids=["tagged", "untagged"])
@pytest.mark.parametrize("crs", [UTM31, UTM32, "EPSG:3035", "ESRI:102022"])
def test_a_warp_is_gdals_own(tmp_path: Path, crs: str, nodata: float | None) -> None:
    """Two UTM zones, the continental grid of Europe, and one whose CRS is not EPSG's."""
    source = box(200, 200, west=498_000, north=5_602_000, size=20)
    stored = ramp(200, 200)
    stored[:, 95:105] = 0
    write_cog(tmp_path / "a.tif", stored, source, nodata=nodata)
    target = box(64, 48, west=499_755.0, north=5_600_325.0)
    if crs != UTM31:  # centred on the middle of the source, whatever its coordinates there
        x, y = project(*to_lon_lat(500_000, 5_600_000, UTM31), crs)
        target = box(64, 48, west=round(x) - 240.0, north=round(y) + 320.0, crs=crs)
    expected = warp(tmp_path / "a.tif", target, nodata=0)
    assert 0 < np.isfinite(expected).sum() < expected.size
    got = READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), target)
    np.testing.assert_array_equal(got[0], expected)


def test_no_data_without_a_tag_does_not_bleed_into_its_neighbours(tmp_path: Path) -> None:
    """Zeros beside a swath of 4000 must not become reflectance of 2000 at its rim."""
    stored = np.full((30, 30), 4000, np.uint16)
    stored[:, :15] = 0
    write_cog(tmp_path / "a.tif", stored, box(30, 30, size=20))
    got = READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), box(60, 60))[0]
    assert set(np.unique(got[np.isfinite(got)])) == {4000.0}
    assert np.isnan(got[:, :29]).all()
    assert np.isfinite(got[:, 31:]).all()


def test_a_no_data_value_that_the_file_cannot_hold_is_no_error(tmp_path: Path) -> None:
    stored = ramp(20, 20)
    write_cog(tmp_path / "a.tif", stored, box(20, 20))
    got = READER.bands(scene_of(tmp_path / "a.tif", nodata=-32768), ("B02",), box(20, 20))
    np.testing.assert_array_equal(got[0], stored)


def test_outside_the_scene_there_is_nothing(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", ramp(20, 20), box(20, 20), nodata=0)
    half = READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), box(20, 20, west=500_100))[0]
    assert np.isfinite(half[:, :10]).all()
    assert np.isnan(half[:, 10:]).all()
    away = box(20, 20, west=800_000)
    assert np.isnan(READER.bands(scene_of(tmp_path / "a.tif"), ("B02",), away)).all()


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dx=st.integers(-300, 300), dy=st.integers(-300, 300),
    rows=st.integers(1, 40), columns=st.integers(1, 40), size=st.sampled_from([10, 15, 20]),
)  # fmt: skip
def test_any_window_is_gdals_own(
    tmp_path: Path, dx: int, dy: int, rows: int, columns: int, size: int
) -> None:
    path = tmp_path / "a.tif"
    if not path.exists():
        write_cog(path, ramp(30, 30), box(30, 30), nodata=0)
    target = box(rows, columns, west=500_000 + dx, north=5_600_000 + dy, size=size)
    expected = warp(path, target, nodata=0)
    got = READER.bands(scene_of(path), ("B02",), target)
    np.testing.assert_array_equal(got[0], expected)


def test_neighbouring_tiles_meet_without_a_seam(tmp_path: Path) -> None:
    """GDAL's eighth of a pixel would differ by up to 50 here."""
    grid = Grid("test", "EPSG:3035", Bounds(0, 0, 8_192_000, 8_192_000), tile_px=32)
    source = box(300, 300, west=498_000, north=5_601_500)
    y, x = np.mgrid[:300, :300]
    slope = 100  # per pixel
    write_cog(tmp_path / "a.tif", (1000 + slope * (x + y)).astype(np.uint16), source, nodata=0)
    east, north = project(*to_lon_lat(499_500, 5_600_000, UTM31), "EPSG:3035")
    tile = Tile(int(east // grid.tile_m), int((8_192_000 - north) // grid.tile_m))
    pair = [tile, Tile(tile.ix + 1, tile.iy)]
    scene = scene_of(tmp_path / "a.tif")
    whole = READER.bands(scene, ("B02",), grid.window(pair).geobox(grid))
    parts = [READER.bands(scene, ("B02",), grid.geobox(one)) for one in pair]
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(np.concatenate(parts, axis=2), whole, atol=2 * 2 * slope * TOLERANCE)


# ---------------------------------------------------------------------------------------- units


def test_scale_and_offset_make_reflectance_and_zero_stays_a_value(tmp_path: Path) -> None:
    reflectance = np.linspace(0, 0.4, 400).reshape(20, 20).astype(np.float32)
    stored = np.rint((reflectance + 0.1) / 0.0001).astype(np.uint16)
    write_cog(tmp_path / "a.tif", stored, box(20, 20))
    asset = make_asset(str(tmp_path / "a.tif"), offset=-0.1, nodata=0)
    asset = asset.model_copy(update={"scale": 0.0001})
    got = READER.bands(scene_of(tmp_path / "a.tif", assets={"B02": asset}), ("B02",), box(20, 20))
    np.testing.assert_allclose(got[0], reflectance, atol=6e-5)


def test_decibels_become_linear_power(tmp_path: Path) -> None:
    power = np.geomspace(1e-3, 1, 400).reshape(20, 20).astype(np.float32)
    stored = np.rint(1000 * np.log10(power)).astype(np.int16)  # hundredths of a dB
    stored[0, 0] = -32768
    write_cog(tmp_path / "a.tif", stored, box(20, 20), nodata=-32768)
    asset = make_asset(str(tmp_path / "a.tif"), nodata=-32768).model_copy(update={"scale": 0.01})
    scene = make_scene("one", sensor="s1", bands=("vv",))
    scene = scene.model_copy(update={"assets": {"vv": asset}, "unit": "dB"})
    got = READER.bands(scene, ("vv",), box(20, 20))[0]
    assert math.isnan(got[0, 0])
    np.testing.assert_allclose(got.ravel()[1:], power.ravel()[1:], rtol=0.002)


def test_a_mask_keeps_its_classes_and_says_no_data_outside(tmp_path: Path) -> None:
    classes = np.random.default_rng(1).integers(1, 12, (20, 20)).astype(np.uint8)
    write_cog(tmp_path / "scl.tif", classes, box(20, 20, size=20))
    wide = box(60, 60, west=500_000 - 100, north=5_600_000 + 100)
    expected = np.zeros((60, 60), np.uint8)
    expected[10:50, 10:50] = classes.repeat(2, axis=0).repeat(2, axis=1)
    got = READER.mask(scene_of(tmp_path / "scl.tif"), wide)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, expected)


def test_no_data_of_the_mask_need_not_be_zero(tmp_path: Path) -> None:
    write_cog(tmp_path / "m.tif", np.full((4, 4), 7, np.uint8), box(4, 4))
    scene = scene_of(tmp_path / "m.tif", nodata=255, mask_nodata=(255,))
    got = READER.mask(scene, box(4, 8))
    assert got.tolist() == [[7] * 4 + [255] * 4] * 4


# ------------------------------------------------------------------------------------- failures


def test_a_scene_without_a_mask_says_so() -> None:
    with pytest.raises(ReadError, match="radar has no mask") as caught:
        READER.mask(make_scene("radar", sensor="s1", bands=("vv",)), box(4, 4))
    assert caught.value.permanent


def test_a_missing_file_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="scene one: .*gone.tif") as caught:
        READER.bands(scene_of(tmp_path / "gone.tif"), ("B02",), box(4, 4))
    assert caught.value.permanent


@pytest.mark.parametrize("damage", ["no-tiff", "empty", "cut", "overwritten"])
def test_a_damaged_file_is_not_tried_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.tif"
    noise = np.random.default_rng(0).integers(1, 60_000, (600, 600)).astype(np.uint16)
    write_cog(path, noise, box(600, 600))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "no-tiff": b"<html>not here</html>" * 20,
            "empty": b"",
            "cut": whole[:middle],
            "overwritten": whole[:middle] + bytes(len(whole) - middle),
        }[damage]
    )
    with pytest.raises(ReadError, match="scene one") as caught:
        READER.bands(scene_of(path), ("B02",), box(600, 600))
    assert caught.value.permanent


def test_a_file_of_several_bands_is_refused(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "rgb.tif", "w", driver="GTiff", width=4, height=4, count=3, dtype="uint8",
        crs=UTM31, transform=box(4, 4).affine,
    ) as file:  # fmt: skip
        file.write(np.ones((3, 4, 4), np.uint8))
    with pytest.raises(ReadError, match="exactly 1 band") as caught:
        READER.bands(scene_of(tmp_path / "rgb.tif"), ("B02",), box(4, 4))
    assert caught.value.permanent


def test_a_file_of_complex_numbers_is_refused(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "slc.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="complex64",
        crs=UTM31, transform=box(4, 4).affine,
    ) as file:  # fmt: skip
        file.write(np.full((1, 4, 4), 3 + 4j, np.complex64))
    with pytest.raises(ReadError, match="has complex numbers") as caught:
        READER.bands(scene_of(tmp_path / "slc.tif"), ("B02",), box(4, 4))
    assert caught.value.permanent


def test_one_missing_band_fails_the_scene_not_silently_a_hole(tmp_path: Path) -> None:
    write_cog(tmp_path / "a.tif", ramp(4, 4), box(4, 4))
    scene = scene_of(tmp_path / "a.tif")
    both = {**scene.assets, "B03": make_asset(str(tmp_path / "b.tif"))}
    with pytest.raises(ReadError, match="b.tif"):
        READER.bands(scene.model_copy(update={"assets": both}), ("B02", "B03"), box(4, 4))


# ------------------------------------------------------------------------------------ real data


@pytest.mark.realdata
def test_real_scenes_are_gdals_own(data_root: Path) -> None:
    """Ten scenes of the Flanders site, 10 and 20 m and the mask, on the European grid."""
    from cdscale import scenes

    folder = data_root / "flanders-stac" / "sentinel-2-l2a" / "items"
    profile = load_profile("planetary-computer-sentinel-2-l2a")
    paths = sorted(folder.glob("*00002806639B424A.json"))[:10]
    assert len(paths) == 10
    for path in paths:
        item = json.loads(path.read_text())
        for asset in item["assets"].values():
            asset["href"] = str((path.parent / asset["href"]).resolve())
        scene = scenes.harmonise(item, profile, local=True)
        assert scene.mask is not None
        middle = scene.polygon.centroid
        x, y = project(middle.x, middle.y, "EPSG:3035")
        target = box(64, 64, west=round(x) - 320.0, north=round(y) + 320.0, crs="EPSG:3035")
        got = READER.bands(scene, ("B04", "B11"), target)
        for values, band in zip(got, ("B04", "B11"), strict=True):
            expected = warp(Path(scene.assets[band].href), target, nodata=0) * np.float32(1e-4)
            np.testing.assert_allclose(values, expected, rtol=1e-6)
        classes = warp(Path(scene.mask.href), target, nodata=0, how=Resampling.nearest)
        np.testing.assert_array_equal(READER.mask(scene, target), np.nan_to_num(classes))
