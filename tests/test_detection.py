"""``detect``: every method over pairs of files, and everything that files can be instead.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.enums import ColorInterp
from safetensors.torch import save_file

from cdscale import classical, detection
from cdscale.classical import Pair
from cdscale.classical.files import RasterPair
from cdscale.detection import METHODS, How, Optimised, prepared
from cdscale.errors import ReadError, SpecError
from cdscale.export.change_map import ABSENT
from cdscale.models.extractors import Maps
from cdscale.models.vgg import Vgg, level_layers, load_vgg
from tests.commands import OK, WRONG, Cli, refused
from tests.pairs import Array, scene, with_holes

SHAPE = (72, 65)
PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)
FEW = ("--iterations", 2, "--blocks", 1)
"""Of Metric-CD, where it is not the map that is looked at."""

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning",  # of what the tests write and read
)


def write(path: Path, image_BYX: Array, **profile: Any) -> Path:
    """An image in the format that its name says."""
    driver = {".tif": "GTiff", ".png": "PNG", ".bmp": "BMP"}[path.suffix]
    bands, height, width = image_BYX.shape
    place = {"crs": "EPSG:32631", "transform": PLACE} if driver == "GTiff" else {}
    options = {"driver": driver, "count": bands, "height": height, "width": width}
    dtype = image_BYX.dtype
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **(options | {"dtype": dtype} | place | profile)) as file:
        file.write(image_BYX)
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)
    return path


def pair_of(folder: Path, before: Array, after: Array, **profile: Any) -> tuple[Path, Path]:
    return (
        write(folder / "before.tif", before, **profile),
        write(folder / "after.tif", after, **profile),
    )


def grey(image_BYX: Array) -> Array:
    return (255 * image_BYX / image_BYX.max()).astype(np.uint8)


@pytest.fixture(scope="module")
def dates() -> tuple[Array, Array]:
    before, after = scene(3, shape=SHAPE)
    return before.astype(np.float32), after.astype(np.float32)


@pytest.fixture
def files(tmp_path: Path, dates: tuple[Array, Array]) -> tuple[Path, Path]:
    return pair_of(tmp_path, *dates)


def read(path: Path) -> tuple[Array, Array, Array]:
    """Class, score and mask of a map."""
    with rasterio.open(path) as file:
        assert (file.driver, file.count) == ("GTiff", 2)
        return file.read(1), file.read(2), file.dataset_mask()


def left(folder: Path) -> set[str]:
    """Files in a folder and below."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ----------------------------------------------------------------------------- maps, every method


@pytest.mark.parametrize("method", METHODS)
def test_every_method_maps_a_pair_of_files(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, method: str
) -> None:
    out = tmp_path / "new" / "map.tif"
    few = FEW if method == "metric-cd" else ()
    done = cdscale("detect", *files, "--method", method, *few, "--out", out, "--json")
    assert (done.code, done.err) == (OK, "")
    change, score, mask = read(out)
    told = json.loads(done.out)
    assert told == {
        "map": str(out), "method": method, "changed": int(change.sum()), "pixels": change.size,
    }  # fmt: skip
    assert change.shape == SHAPE
    assert set(np.unique(change)) <= {0, 1}
    assert np.isfinite(score).all()
    assert (score >= 0).all()
    assert (mask == 255).all()
    with rasterio.open(out) as file:
        assert (file.crs.to_epsg(), file.transform) == (32631, PLACE)
        assert file.tags()["METHOD"] == method
    assert left(tmp_path) == {"before.tif", "after.tif", "new/map.tif"}


PLAIN = [name for name in classical.METHODS if name not in detection.WHOLE]


@pytest.mark.parametrize("method", PLAIN)
def test_the_map_of_files_is_that_of_arrays(
    files: tuple[Path, Path], dates: tuple[Array, Array], method: str
) -> None:
    expected = classical.detect(*dates, classical.METHODS[method])
    ((_, found),) = detection.detect(*files, How(method)).blocks()
    np.testing.assert_allclose(found.score_YX, expected.score_YX, rtol=1e-6)
    np.testing.assert_array_equal(found.change_YX, expected.change_YX)


@pytest.mark.parametrize("method", PLAIN)
@pytest.mark.parametrize("held", [True, False], ids=["held", "read again"])
def test_blocks_are_the_whole(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, method: str, held: bool
) -> None:
    ((_, whole),) = detection.detect(*files, How(method)).blocks()
    monkeypatch.setattr(detection, "HELD", detection.HELD if held else 0)
    request = prepared(*files, How(method))
    blocks = detection.Request(request.pair.cut(20, 0), request.name, request.how).run().blocks()
    score, change = np.full(SHAPE, np.nan, np.float32), np.zeros(SHAPE, bool)
    for block, found in blocks:
        height, width = block.shape
        place = np.s_[block.row : block.row + height, block.column : block.column + width]
        score[place], change[place] = found.score_YX, found.change_YX
    # PCA-k-means sees other neighbourhoods' order of sums, nothing else.
    np.testing.assert_allclose(score, whole.score_YX, rtol=1e-4, atol=1e-6)
    assert (change != whole.change_YX).mean() < 0.002


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_photographs_have_no_place_and_need_none(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array], suffix: str
) -> None:
    pair = [
        write(tmp_path / f"{when}{suffix}", grey(image))
        for when, image in zip(("a", "b"), dates, strict=True)
    ]
    out = tmp_path / "map.tif"
    done = cdscale("detect", *pair, "--method", "cva", "--out", out)
    assert done.code == OK
    assert "cva sees change in" in done.out
    change, score, _ = read(out)
    expected = classical.detect(grey(dates[0]), grey(dates[1]), classical.METHODS["cva"])
    np.testing.assert_allclose(score, expected.score_YX, rtol=1e-6)
    np.testing.assert_array_equal(change, expected.change_YX)
    with rasterio.open(out) as file:
        assert (file.crs, file.transform) == (None, Affine.identity())


@pytest.mark.parametrize("threshold", ["otsu", "kmeans", "k-means", "0.25", "1e9"])
def test_a_threshold_decides_the_class_and_not_the_score(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, threshold: str
) -> None:
    out, plain = tmp_path / "map.tif", tmp_path / "plain.tif"
    command = ("detect", *files, "--method", "cva")
    assert cdscale(*command, "--threshold", threshold, "--out", out).code == OK
    assert cdscale(*command, "--out", plain).code == OK
    change, score, _ = read(out)
    np.testing.assert_array_equal(score, read(plain)[1])
    if threshold in ("0.25", "1e9"):
        np.testing.assert_array_equal(change, score >= np.float32(threshold))


def test_the_euclidean_norm_is_another_score(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    out = tmp_path / "map.tif"
    command = ("detect", *files, "--method", "image-diff", "--norm", "euclidean", "--out", out)
    assert cdscale(*command).code == OK
    before, after = (image.astype(np.float64) for image in dates)
    np.testing.assert_allclose(read(out)[1], np.linalg.norm(after - before, axis=0), rtol=1e-5)


@pytest.mark.parametrize("text", ["IRMAD", "ir-mad", "Metric CD", "metric_cd", "PCAkmeans"])
def test_case_and_hyphens_do_not_matter(files: tuple[Path, Path], text: str) -> None:
    assert prepared(*files, How(text)).name in METHODS


# ----------------------------------------------------------------------------------- what is absent


def absent_pair(folder: Path, kind: str, dates: tuple[Array, Array]) -> tuple[Path, Path, Array]:
    """The dates with a corner of date 1 that is not there, said in one of four ways."""
    before, after = (grey(image).astype(np.uint16) + 1 for image in dates)
    gone = np.zeros(SHAPE, bool)
    gone[50:, :30] = True
    if kind == "nodata":
        before[:, gone] = 0
        return *pair_of(folder, before, after, nodata=0), gone
    if kind == "nan":
        floats = [image.astype(np.float32) for image in (before, after)]
        floats[0][1, gone] = np.nan
        return *pair_of(folder, *floats), gone
    if kind == "mask":
        one, two = pair_of(folder, before, after)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(one, "r+") as file:
            file.write_mask(~gone)
        return one, two, gone
    one, two = folder / "before.tif", write(folder / "after.tif", after)
    seen = np.where(gone, 0, 65535).astype(np.uint16)
    write(one, np.concatenate((before, seen[None])))
    with rasterio.open(one, "r+") as file:
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    return one, two, gone


@pytest.mark.parametrize("kind", ["nodata", "nan", "mask", "alpha"])
@pytest.mark.parametrize("method", ["irmad", "pca-kmeans", "deepcva", "metric-cd"])
def test_what_a_file_calls_absent_is_absent_in_the_map(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array], kind: str, method: str
) -> None:
    one, two, gone = absent_pair(tmp_path, kind, dates)
    out = tmp_path / "map.tif"
    few = FEW if method == "metric-cd" else ()
    done = cdscale("detect", one, two, "--method", method, *few, "--out", out, "--json")
    assert done.code == OK, done.err
    change, score, mask = read(out)
    # A method on neighbourhoods cannot say anything of pixels beside a hole either.
    assert np.isnan(score[gone]).all()
    assert np.isfinite(score[:40]).all()
    np.testing.assert_array_equal(change == ABSENT, np.isnan(score))
    np.testing.assert_array_equal(mask == 0, np.isnan(score))
    assert json.loads(done.out)["pixels"] == int(np.isfinite(score).sum())


def test_what_one_band_alone_calls_no_data_is_absent(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    before, after = (image.astype(np.float32) for image in dates)
    gone = np.zeros(SHAPE, bool)
    gone[50:, :30] = True
    before[1, gone] = -9999
    one, two = pair_of(tmp_path, before, after, nodata=-9999)
    out = tmp_path / "map.tif"
    assert cdscale("detect", one, two, "--method", "cva", "--out", out).code == OK
    np.testing.assert_array_equal(read(out)[0] == ABSENT, gone)


def test_changes_are_counted_among_pixels_that_have_a_score(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    huge = [image.astype(np.float64) * 1e300 for image in dates]
    out = tmp_path / "map.tif"
    options = ("--method", "image-diff", "--threshold", "0", "--out", out, "--json")
    done = cdscale("detect", *pair_of(tmp_path, *huge), *options)
    assert done.code == OK, done.err
    said, change = json.loads(done.out), read(out)[0]
    assert said["changed"] == int((change == 1).sum())
    assert said["pixels"] == int((change != ABSENT).sum()) < change.size


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(side=st.integers(1, 80), halo=st.integers(0, 9), seed=st.integers(0, 99))
def test_blocks_of_files_are_blocks_of_the_arrays(
    tmp_path: Path, side: int, halo: int, seed: int
) -> None:
    before, after = scene(seed, 2, (23, 31))
    before = with_holes(before, seed)
    whole = RasterPair.open(*pair_of(tmp_path, before, after))
    np.testing.assert_array_equal(whole.whole.before_BYX, before)
    found, expected = list(whole.cut(side, halo)), classical.cut(Pair(before, after), side, halo)
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert (one.row, one.column, one.halo) == (two.row, two.column, two.halo)
        np.testing.assert_array_equal(one.before_BYX, two.before_BYX)
        np.testing.assert_array_equal(one.after_BYX, two.after_BYX)


def test_a_part_of_a_pair_is_read_alone(files: tuple[Path, Path]) -> None:
    whole = RasterPair.open(*files)
    part = whole.cut(8, 3).part(slice(10, 40), slice(5, 6))
    np.testing.assert_array_equal(part.after_BYX, whole.whole.after_BYX[:, 10:40, 5:6])
    assert (part.halo, part.row, part.column, part.shape) == (0, 10, 5, (30, 1))


def test_blocks_can_be_gone_over_again(files: tuple[Path, Path]) -> None:
    pair = RasterPair.open(*files).cut(40, 2)
    for one, two in zip(pair, pair, strict=True):
        np.testing.assert_array_equal(one.before_BYX, two.before_BYX)


# ------------------------------------------------------------------------------ what cannot be done


def test_files_of_other_grids_are_refused(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    before, after = dates
    one = write(tmp_path / "one.tif", before)
    others = {
        "width and height": write(tmp_path / "narrow.tif", after[..., :-1]),
        "number of bands": write(tmp_path / "fewer.tif", after[:2]),
        "CRS": write(tmp_path / "zone.tif", after, crs="EPSG:32632"),
        "place": write(tmp_path / "moved.tif", after, transform=PLACE * Affine.translation(0.2, 0)),
    }
    there = left(tmp_path)
    for what, two in others.items():
        done = cdscale("detect", one, two, "--out", tmp_path / "map.tif")
        refused(done, f"{two} is not of the grid of {one}: {what}", "expected", "got", "Resample")
    assert left(tmp_path) == there


def test_a_grid_that_is_off_by_rounding_is_the_same(
    tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    one = write(tmp_path / "one.tif", dates[0])
    two = write(tmp_path / "two.tif", dates[1], transform=PLACE * Affine.translation(1e-4, 0))
    assert RasterPair.open(one, two).bands == 3


def test_one_file_without_a_place_takes_that_of_the_other(
    tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    one = write(tmp_path / "one.tif", dates[0])
    two = write(tmp_path / "two.tif", dates[1], crs=None, transform=Affine.identity())
    for pair in ((one, two), (two, one)):
        assert RasterPair.open(*pair).transform == PLACE


def test_a_palette_holds_no_intensities(cdscale: Cli, tmp_path: Path) -> None:
    numbers = np.zeros((1, 20, 20), np.uint8)
    one, two = (write(tmp_path / f"{name}.png", numbers) for name in "ab")
    with rasterio.open(two, "w", driver="PNG", count=1, dtype="uint8", height=20, width=20) as file:
        file.write(numbers)
        file.write_colormap(1, {0: (255, 0, 0), 1: (0, 0, 255)})
    done = cdscale("detect", one, two, "--out", tmp_path / "map.tif")
    refused(done, "b.png", "expected intensities", "palette", "Convert it to RGB")


def test_complex_numbers_are_no_intensities(cdscale: Cli, tmp_path: Path) -> None:
    one, two = pair_of(tmp_path, *np.ones((2, 1, 20, 20), np.complex64))
    done = cdscale("detect", one, two, "--out", tmp_path / "map.tif")
    refused(done, "before.tif", "expected intensities", "complex numbers", "power or amplitude")


def damaged(path: Path, kind: str) -> Path:
    """A good file made bad, or none, or something else."""
    if kind == "missing":
        return path.with_name("none.tif")
    if kind == "folder":
        return path.parent
    if kind == "text":
        path.write_text("not an image")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path = path.rename(path.with_suffix(".vrt"))
    return path


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "empty", "cut", "other format"])
@pytest.mark.parametrize("which", [0, 1], ids=["T1", "T2"])
def test_a_file_that_is_no_image_is_named(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array], kind: str, which: int
) -> None:
    pair = list(pair_of(tmp_path, *dates, compress="deflate"))
    pair[which] = damaged(pair[which], kind)
    there = left(tmp_path)
    done = cdscale("detect", *pair, "--out", tmp_path / "map.tif")
    refused(done, f"cannot read {pair[which]}", "an image (.tif", "got")
    assert left(tmp_path) == there


def test_a_file_that_breaks_off_in_the_second_pass_leaves_no_map(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The map is begun by then."""
    monkeypatch.setattr(detection, "HELD", 0)
    passes: list[int] = []
    read_part = RasterPair._read

    def failing(self: RasterPair, *place: Any) -> Any:
        passes.append(1)
        if len(passes) > 3:
            raise ReadError("the disk is gone.", permanent=True)
        return read_part(self, *place)

    monkeypatch.setattr(RasterPair, "_read", failing)
    done = cdscale("detect", *files, "--method", "cva", "--out", tmp_path / "map.tif")
    refused(done, "the disk is gone")
    assert left(tmp_path) == {"before.tif", "after.tif"}


def test_an_old_map_stays_when_the_new_one_fails(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "map.tif"
    assert cdscale("detect", *files, "--method", "cva", "--out", out).code == OK
    old = out.read_bytes()
    damaged(files[1], "cut")
    assert cdscale("detect", *files, "--method", "cva", "--out", out).code == WRONG
    assert out.read_bytes() == old


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "irmda"], ["no such method", "irmad", "metric-cd", "got irmda"]),
        (["--threshold", "high"], ["threshold", "otsu, kmeans or a number", "got high"]),
        (["--method", "metric-cd", "--mode", "best"], ["mode", "centred, paper", "got best"]),
        (["--method", "irmad", "--mode", "paper"], ["optimisation", "metric-cd", "got irmad"]),
        (["--method", "cva", "--iterations", "9"], ["optimisation", "metric-cd", "got cva"]),
        (["--weights", "vgg.safetensors"], ["weights", "cnnf, deepcva, metric-cd", "got irmad"]),
        (["--method", "cnnf", "--weights", "none.safetensors"], ["no such file", "VGG"]),
        (["--method", "metric-cd", "--weights", "none.safetensors"], ["no such file", "VGG"]),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_an_option_that_cannot_be_is_refused(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, options: list[str], said: list[str]
) -> None:
    refused(cdscale("detect", *files, *options, "--out", tmp_path / "new.tif"), *said)
    assert left(tmp_path) == {"before.tif", "after.tif"}


@pytest.mark.parametrize(
    "options",
    [["--iterations", "0"], ["--blocks", "0"], ["--side", "8"], ["--seed", "-1"], ["--norm", "x"]],
    ids=lambda value: value[0],
)
def test_a_number_out_of_range_is_a_wrong_call(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, options: list[str]
) -> None:
    done = cdscale("detect", *files, *options, "--out", tmp_path / "new.tif")
    assert done.code == WRONG
    assert options[0] in done.err
    assert "Traceback" not in done.err
    assert left(tmp_path) == {"before.tif", "after.tif"}


def test_an_output_that_cannot_be_written_is_known_before_the_work(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*args: object) -> None:
        raise AssertionError("it has begun")

    monkeypatch.setattr(detection.Request, "run", work)
    (tmp_path / "folder.tif").mkdir()
    for out in (files[0] / "map.tif", Path("/proc/none/map.tif")):
        refused(cdscale("detect", *files, "--out", out), f"cannot write {out}")
    refused(cdscale("detect", *files, "--out", tmp_path / "folder.tif"), "cannot write")
    assert left(tmp_path) == {"before.tif", "after.tif"}


def test_a_map_never_replaces_an_image(
    cdscale: Cli, files: tuple[Path, Path], tmp_path: Path
) -> None:
    old = files[1].read_bytes()
    (tmp_path / "same.tif").symlink_to(files[1])
    for out in (files[1], tmp_path / "same.tif"):
        refused(cdscale("detect", *files, "--out", out), "would replace an image")
    assert files[1].read_bytes() == old


@pytest.mark.parametrize("method", METHODS)
def test_a_pair_without_a_common_pixel_is_refused(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array], method: str
) -> None:
    before, after = (image.copy() for image in dates)
    before[:, :40], after[:, 40:] = np.nan, np.nan
    files = pair_of(tmp_path, before, after)
    done = cdscale("detect", *files, "--method", method, "--out", tmp_path / "map.tif")
    if done.code == OK:  # where nothing is fitted, nothing is missing
        assert np.isnan(read(tmp_path / "map.tif")[1]).all()
        return
    refused(done)
    assert left(tmp_path) == {"before.tif", "after.tif"}


# ------------------------------------------------------------------------------------- Metric-CD


def test_metric_cd_takes_its_options_and_tells_how_far_it_is(files: tuple[Path, Path]) -> None:
    told = Optimised("notebook", iterations=2, blocks=1, side=40, seed=4)
    steps: list[Any] = []
    found = prepared(*files, How("metric-cd", optimised=told)).run(steps.append)
    assert [step.iteration for step in steps] == [1, 2] * steps[0].tiles
    assert steps[0].tiles > 1
    ((_, one),) = found.blocks()
    ((_, again),) = detection.detect(*files, How("metric-cd", optimised=told)).blocks()
    np.testing.assert_array_equal(one.score_YX, again.score_YX)


def test_a_threshold_of_metric_cd_keeps_to_the_floor(files: tuple[Path, Path]) -> None:
    """However low: `centred` never marks more than half; the other modes do as they are told."""
    for mode, least, most in (("centred", 0.4, 0.5), ("paper", 1.0, 1.0)):
        how = How("metric-cd", "0", optimised=Optimised(mode, 2, 1))
        ((_, found),) = detection.detect(*files, how).blocks()
        assert least <= found.change_YX.mean() <= most, mode


def test_metric_cd_looks_through_the_weights_of_a_user(
    cdscale: Cli, tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    torch.manual_seed(0)
    weights, out = tmp_path / "vgg16.safetensors", tmp_path / "map.tif"
    whole = Vgg(level_layers(16, (5,)))
    save_file(whole.state_dict(), weights)
    files = pair_of(tmp_path, *(image[:, :40, :40] for image in dates))
    command = ("detect", *files, "--method", "metric-cd", *FEW, "--weights", weights)
    assert cdscale(*command, "--out", out).code == OK
    plain = tmp_path / "plain.tif"
    assert cdscale(*command[:-2], "--out", plain).code == OK
    assert (read(out)[1] != read(plain)[1]).any()
    two = pair_of(tmp_path / "two", *(image[:2] for image in dates))
    done = cdscale("detect", *two, *command[3:], "--out", tmp_path / "two.tif")
    refused(done, "expected 3 bands", "got 2", "filter bank")


def test_deepcva_does_not_clip_the_activations_of_a_users_network(
    tmp_path: Path, dates: tuple[Array, Array]
) -> None:
    """They reach hundreds: clipped as those of its own network are, all would be 0 or 1."""
    torch.manual_seed(0)
    weights = tmp_path / "vgg16.safetensors"
    save_file(Vgg(level_layers(16, (5,))).state_dict(), weights)
    small = [image[:, :40, :40] for image in dates]
    files = pair_of(tmp_path, *small)
    ((_, found),) = detection.detect(*files, How("deepcva", weights=weights)).blocks()
    network = Vgg(level_layers(16, (1, 2, 3)), scaling="caffe")
    features = Maps(load_vgg(network, weights))
    free, clipped = (
        classical.detect(small[0], small[1], classical.DeepCva(features, limit=limit)).score_YX
        for limit in (np.inf, 1.0)
    )
    np.testing.assert_allclose(found.score_YX, free, rtol=1e-5, atol=1e-6)
    assert not np.allclose(free, clipped, atol=0.01)


@pytest.mark.parametrize("method", sorted(detection.WHOLE))
def test_an_image_whose_features_do_not_fit_into_memory_is_refused(
    cdscale: Cli,
    files: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    assert detection.memory() > 2**28
    monkeypatch.setattr(detection, "memory", lambda: 1_000_000)
    out = tmp_path / "map.tif"
    done = cdscale("detect", *files, "--method", method, "--out", out)
    # 3 bands of 5 features at 1 + 1/4 + 1/16 of the resolution.
    refused(done, "features of a whole image", "some 65 x 65 pixels", "72 x 65", "irmad")
    assert not out.exists()
    assert cdscale("detect", *files, "--method", "cva", "--out", out).code == OK


def test_what_is_unknown_is_refused_before_a_file_is_looked_at() -> None:
    with pytest.raises(SpecError, match="no such method"):
        prepared(Path("none.tif"), Path("none.tif"), How("x"))
