"""Data sets, what they share: vocabulary, windows, units, names, reports, downloads, miniatures."""

from __future__ import annotations

import hashlib
import http.server
import json
import pickle
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given
from hypothesis import strategies as st
from rasterio import Affine

from cdscale.errors import ReadError, SpecError, StoreError
from cdscale.learn.data import (
    DATASETS,
    IGNORED,
    Archive,
    Download,
    Window,
    data_set,
    fitting,
    units,
    windows,
)
from cdscale.learn.data import download as downloading
from cdscale.learn.data.files import Header, Raw, WrongCodes, header, read_raw, safe_name
from cdscale.learn.data.hrscd import FOLDERS, HRSCD
from cdscale.learn.data.report import MARKER
from cdscale.testing.miniatures import write_miniature
from cdscale.testing.miniatures.painting import picture
from tests.miniature_roots import NAMES, Miniatures, cut, miniatures

__all__ = ["miniatures"]

# -------------------------------------------------------------------------------------- registry


def test_every_data_set_says_what_it_is() -> None:
    assert tuple(DATASETS) == NAMES
    for name, data in DATASETS.items():
        assert data.name == name
        assert data.title
        assert data.licence
        assert data.citation
        assert data.download.page.startswith("http")
        assert data.task in ("change", "semantic change", "urban")
        assert "test" in data.splits
        assert json.loads(json.dumps(data.as_dict()))["splits"] == list(data.splits)


def test_an_unknown_data_set_or_split_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected one of oscd.*'osdc'"):
        data_set("osdc")
    with pytest.raises(SpecError, match="no split 'dev'; expected one of train, test"):
        data_set("oscd").samples(tmp_path, "dev")


def test_reading_data_needs_no_torch() -> None:
    program = (
        "import sys, cdscale.learn.data, cdscale.testing.miniatures;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for data in DATASETS.values():
        report = data.check(tmp_path / "nowhere")
        assert not report.whole
        assert [f.kind for f in report.findings] == ["missing"]
        with pytest.raises(ReadError, match="no such folder"):
            data.samples(tmp_path / "nowhere", "test")


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_not_whole(name: str, tmp_path: Path) -> None:
    report = DATASETS[name].check(tmp_path)
    assert not report.whole
    assert not report.simulated
    assert "NOT whole" in str(report)
    assert all(count == 0 or what == "pairs" for what, count in report.counts)


# ------------------------------------------------------------------------------------ miniatures


@pytest.mark.parametrize("name", NAMES)
def test_a_miniature_is_whole_and_says_that_it_is_made_up(
    name: str, miniatures: Miniatures
) -> None:
    report = DATASETS[name].check(miniatures[name], deep=True)
    assert report.whole, str(report)
    assert report.simulated
    assert "made-up" in str(report)
    said = json.loads((miniatures[name] / MARKER).read_text())
    assert said["simulated"] is True
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["whole"] is True
    assert plain["counts"] == dict(report.counts)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_pixels(
    name: str, miniatures: Miniatures, tmp_path: Path
) -> None:
    def pixels(root: Path) -> list[np.ndarray]:
        sample = DATASETS[name].samples(root, "test")[0]
        return [sample.read(layer) for layer in sample.names]

    again = write_miniature(name, tmp_path / "again")
    other = write_miniature(name, tmp_path / "other", seed=1)
    first = pixels(miniatures[name])
    for x, y in zip(first, pixels(again), strict=True):
        np.testing.assert_array_equal(x, y)
    assert not np.array_equal(first[0], pixels(other)[0], equal_nan=True)


def test_a_miniature_does_not_mix_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(StoreError, match="not empty"):
        write_miniature("oscd", tmp_path)
    with pytest.raises(SpecError, match="unknown data set"):
        write_miniature("osdc", tmp_path / "new")


@pytest.mark.parametrize("name", ["oscd", "hrscd", "sztaki", "quickbird", "dynamicearthnet-2021"])
def test_change_can_be_learnt(name: str, miniatures: Miniatures) -> None:
    """Where the label says change, the two dates differ by far more than elsewhere."""
    data = DATASETS[name]
    split = "train" if "train" in data.splits else "test"
    for sample in data.samples(miniatures[name], split):
        label = sample.read("change")
        distance = np.abs(sample.read("after") - sample.read("before")).mean(axis=0)
        assert np.median(distance[label > 0]) > 2 * np.median(distance[label == 0])


# ------------------------------------------------------------------------------ samples and layers


@pytest.mark.parametrize("name", NAMES)
def test_samples_speak_the_common_vocabulary(name: str, miniatures: Miniatures) -> None:
    data = DATASETS[name]
    keys: list[str] = []
    places: dict[str, str] = {}
    for split in data.splits:
        for sample in data.samples(miniatures[name], split):
            assert sample.data == name
            assert safe_name(sample.key, Path()) == sample.key
            assert set(data.layers) <= set(sample.names)
            assert places.setdefault(sample.place, split) == split
            keys.append(sample.key)
            height, width = sample.grid().shape
            for layer in data.layers:
                values = sample.read(layer)
                assert values.shape[-2:] == (height, width)
                if values.ndim == 3:
                    assert values.dtype == np.float32
                    assert np.isfinite(values).any() == sample.has(layer)
                else:
                    assert values.dtype == np.uint8
                    assert (values != IGNORED).any() == sample.has(layer)
    assert len(set(keys)) == len(keys)


def test_a_sample_travels_to_another_process(miniatures: Miniatures) -> None:
    for name, data in DATASETS.items():
        sample = data.samples(miniatures[name], "test")[0]
        sent = pickle.loads(pickle.dumps(sample))
        assert sent == sample
        np.testing.assert_array_equal(sent.read(data.layers[0]), sample.read(data.layers[0]))


def test_bands_come_by_name_and_in_the_order_asked(miniatures: Miniatures) -> None:
    sample = DATASETS["oscd"].samples(miniatures["oscd"], "train")[0]
    both = sample.read("before", ("B08", "B02"))
    np.testing.assert_array_equal(both[1:], sample.read("before", ("B02",)))
    np.testing.assert_array_equal(both, sample.read("before")[[7, 1]])
    with pytest.raises(SpecError, match="before has no band B13; expected some of B01"):
        sample.read("before", ("B13",))
    with pytest.raises(SpecError, match="no layer 'during'; expected before, after"):
        sample.read("during")


def test_a_prediction_is_written_on_the_grid_of_a_sample(
    miniatures: Miniatures, tmp_path: Path
) -> None:
    """A city without label too."""
    sample = DATASETS["oscd"].samples(miniatures["oscd"], "test")[0]
    assert not sample.labelled
    grid = sample.grid()
    path = tmp_path / f"{sample.key}.tif"
    picture(path, np.zeros(grid.shape, np.uint8), crs=str(grid.crs), transform=grid.affine)
    with rasterio.open(path) as made, rasterio.open(sample.grid_file) as own:
        assert (made.crs, made.transform, made.shape) == (own.crs, own.transform, own.shape)
    plain = DATASETS["sztaki"].samples(miniatures["sztaki"], "test")[0].grid()
    assert plain.crs is None
    assert plain.affine == Affine.identity()


# --------------------------------------------------------------------------------------- windows


@given(height=st.integers(1, 70), width=st.integers(1, 70), side=st.integers(1, 40))
def test_windows_cover_each_pixel_once(height: int, width: int, side: int) -> None:
    seen = np.zeros((height, width), int)
    for window in windows((height, width), side):
        assert window.inside((height, width))
        seen[window.slices] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
def test_a_window_is_a_piece_of_the_whole(
    name: str, miniatures: Miniatures, data: st.DataObject
) -> None:
    split = data.draw(st.sampled_from(DATASETS[name].splits))
    sample = data.draw(st.sampled_from(DATASETS[name].samples(miniatures[name], split)))
    layer = data.draw(st.sampled_from(sample.names))
    height, width = sample.grid().shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = Window(
        top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    )
    bands = DATASETS[name].bands[:2] if layer in ("before", "after", "image") else None
    piece = sample.read(layer, bands, window)
    np.testing.assert_array_equal(piece, sample.read(layer, bands)[(..., *window.slices)])


@pytest.mark.parametrize(
    "window", [Window(-1, 0, 5, 5), Window(0, 0, 0, 5), Window(0, 120, 5, 9), Window(125, 0, 4, 4)]
)
def test_a_window_beyond_the_scene_is_refused(window: Window, miniatures: Miniatures) -> None:
    sample = DATASETS["hrscd"].samples(miniatures["hrscd"], "train")[0]
    with pytest.raises(ReadError, match="expected inside 128 rows and 128 columns"):
        sample.read("before", window=window)


def test_a_scene_of_full_size_is_read_in_a_window_alone(tmp_path: Path) -> None:
    side = 10_000
    key = "14-{}-0415-6890-LA93.tif"
    for layer, year in (("before", 2005), ("after", 2012), ("land_before", 2005)):
        path = tmp_path / FOLDERS[layer] / "D14" / key.format(year)
        path.parent.mkdir(parents=True)
        profile = {"driver": "GTiff", "height": side, "width": side, "dtype": "uint8"}
        at = Affine(0.5, 0, 415_000, 0, -0.5, 6_890_000)
        with rasterio.open(
            path, "w", count=1 if "land" in layer else 3, tiled=True, sparse_ok=True,
            crs="EPSG:2154", transform=at, **profile,
        ) as file:  # fmt: skip
            values = np.full((file.count, 64, 64), 5, np.uint8)
            file.write(values, window=rasterio.windows.Window(9_936, 9_936, 64, 64))
    (sample,) = HRSCD.samples(tmp_path, "train")
    tracemalloc.start()
    image = sample.read("before", window=Window(9_936, 9_936, 64, 64))
    land = sample.read("land_before", window=Window(9_900, 9_936, 100, 64))
    nothing = sample.read("change", window=Window(0, 0, 8, 8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (image == np.float32(5 / 255)).all()
    assert (land[:36] == IGNORED).all()
    assert (land[36:] == 5).all()
    assert (nothing == IGNORED).all()
    assert peak < 4e6


# ------------------------------------------------------------------------------- units and fitting


def raw(values: np.ndarray, scale: float = 1.0, nodata: float | None = None) -> Raw:
    planes = values if values.ndim == 3 else values[None]
    count = len(planes)
    return Raw(Path("x.tif"), planes, (scale,) * count, (0.0,) * count, nodata, None)


def test_backscatter_of_every_form_comes_in_linear_power() -> None:
    decibel = np.array([[-20.0, -10.0, -0.5]], np.float32)
    power = 10 ** (decibel / 10)[None]
    stored = np.round(decibel * 100).astype(np.int16)
    np.testing.assert_allclose(units.ds_unet_power(raw(stored, 0.01)), power, rtol=1e-5)
    mapped = (decibel + 25) / 30
    np.testing.assert_allclose(units.ds_unet_power(raw(mapped)), power, rtol=1e-4)
    np.testing.assert_allclose(units.UnitPower()(raw((decibel + 25) / 25)), power, rtol=1e-4)
    both = np.stack([decibel, decibel - 6])
    np.testing.assert_allclose(units.power(raw(both))[1], power[0] / 10**0.6, rtol=1e-5)


def test_no_backscatter_is_nan_and_the_floor_of_spacenet7_is_not() -> None:
    assert np.isnan(units.ds_unet_power(raw(np.array([[-32768]], np.int16), 0.01, -32768))).all()
    assert np.isnan(units.ds_unet_power(raw(np.zeros((1, 1), np.float32)))).all()
    half = np.array([[[0.0, 0.0]], [[0.0, -3.0]]], np.float32)
    found = units.power(raw(half))
    assert np.isnan(found[:, 0, 0]).all()
    np.testing.assert_allclose(found[:, 0, 1], [1, 10**-0.3], rtol=1e-6)
    floor = units.UnitPower()(raw(np.array([[0.0, np.nan]], np.float32)))
    np.testing.assert_allclose(floor, [[[10**-2.5, np.nan]]], rtol=1e-5)


def test_numbers_of_another_unit_are_refused() -> None:
    digital = np.array([[1200.0]], np.float32)
    with pytest.raises(ReadError, match=r"another unit; expected values in \[0, 1\].*1200"):
        units.unit_reflectance(raw(digital))
    with pytest.raises(ReadError, match="expected uint8; got uint16"):
        units.brightness(raw(np.array([[1200]], np.uint16)))


def test_codes_that_no_table_has_are_refused() -> None:
    table = units.Table(((1, 0), (2, 1)))
    with pytest.raises(WrongCodes, match="unknown codes in 2 pixels; expected only 1, 2; got 0, 7"):
        table((raw(np.array([[0, 1, 7]], np.uint8)),))


def test_the_change_label_is_rebuilt_from_two_months() -> None:
    def one_hot(*codes: int | None) -> Raw:
        planes = np.zeros((7, 1, len(codes)), np.uint8)
        for x, code in enumerate(codes):
            if code is not None:
                planes[code, 0, x] = 255
        return raw(planes)

    older = one_hot(0, 2, 4, 6, 1, None)
    newer = one_hot(0, 0, 5, 1, 6, 3)
    assert units.one_hot((newer,)).tolist() == [[0, 0, 5, 1, IGNORED, 3]]
    assert units.rebuilt_change((older, newer)).tolist() == [[0, 1, 6, IGNORED, IGNORED, IGNORED]]


@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    to=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    seed=st.integers(0, 99),
)
def test_resizing_is_that_of_torch(shape: tuple[int, int], to: tuple[int, int], seed: int) -> None:
    planes = np.random.default_rng(seed).random((2, *shape), np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(planes)[None], size=to, mode="bilinear", align_corners=False
    )[0].numpy()
    np.testing.assert_allclose(fitting.resize(planes, to), expected, rtol=0, atol=1e-6)


def test_what_lies_elsewhere_does_not_fit() -> None:
    def head(crs: str, west: float, shape: tuple[int, int] = (10, 10)) -> Header:
        return Header(shape, 1, ("uint8",), crs, Affine(1, 0, west, 0, -1, 10), ("",))

    grid = head("EPSG:32631", 0)
    assert fitting.misfit(head("", 0), grid, "same") == ""
    assert fitting.misfit(head("EPSG:32631", 0.2), grid, "same") == ""
    assert fitting.misfit(head("EPSG:32631", 3), grid, "same").startswith("crs: its corners")
    assert fitting.misfit(head("EPSG:32632", 0), grid, "same").startswith("crs: expected")
    assert fitting.misfit(head("", 0, (9, 9)), grid, "same").startswith("shape: expected (10, 10)")
    assert fitting.misfit(head("EPSG:32631", 0, (5, 5)), grid, "resize") == ""
    assert fitting.misfit(head("EPSG:32631", 5), grid, "place") == ""
    assert fitting.misfit(head("EPSG:32631", 50), grid, "place").startswith("crs: it lies")
    assert fitting.misfit(head("", 0, (9, 9)), grid, "place").startswith("crs: expected a geo")


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    "text", ["", "..", "../etc", "a/b", "a\\b", "a.b", "/etc", "-rf", "a b", "a*", "a\0"]
)
def test_more_than_a_name_is_refused(text: str) -> None:
    with pytest.raises(ReadError, match="refused a name"):
        safe_name(text, Path("list.txt"))


@given(st.text())
def test_no_safe_name_leads_out_of_its_folder(text: str) -> None:
    try:
        name = safe_name(text, Path("list.txt"))
    except ReadError:
        return
    assert (Path("/root") / name).resolve().parent == Path("/root")


def test_an_image_is_read_by_the_driver_of_its_suffix(tmp_path: Path) -> None:
    """A virtual raster in the guise of a GeoTIFF could name any file or address."""
    virtual = tmp_path / "B02.tif"
    virtual.write_text(
        '<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">'
        "<SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(ReadError, match="cannot read .*B02.tif"):
        header(virtual)
    with pytest.raises(ReadError, match=r"expected one of the suffixes \.tif"):
        header(virtual.rename(tmp_path / "B02.vrt"))


def test_a_file_that_changes_is_seen_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    picture(path, np.zeros((4, 5), np.uint8))
    assert header(path).shape == (4, 5)
    picture(path, np.zeros((44, 55), np.uint8))
    assert header(path).shape == (44, 55)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp"])
def test_a_file_cut_short_does_not_read_as_zeros(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    picture(path, np.random.default_rng(0).integers(1, 255, (3, 90, 90)).astype(np.uint8))
    cut(path, 0.6)
    with pytest.raises(ReadError, match="cannot read"):
        read_raw(path, (1, 2, 3))


# ------------------------------------------------------------------------------------- downloads


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server of files on this machine."""
    folder = tmp_path_factory.mktemp("served")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **keywords) -> None:
            super().__init__(*args, directory=str(folder), **keywords)

        def log_message(self, *args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def zipped(path: Path, members: dict[str, str]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_a_download_is_verified_unpacked_and_not_done_twice(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = served
    md5 = zipped(folder / "set.zip", {"inner/a.txt": "pixels"})
    download = Download("http://page", (Archive("set.zip", f"{url}/set.zip", md5, "all"),))
    assert download.fetch(tmp_path) == (tmp_path / "set.zip",)
    assert (tmp_path / "inner" / "a.txt").read_text() == "pixels"
    (folder / "set.zip").unlink()
    download.fetch(tmp_path)


def test_a_download_of_another_checksum_leaves_nothing(
    served: tuple[str, Path], tmp_path: Path
) -> None:
    url, folder = served
    zipped(folder / "other.zip", {"a.txt": "x"})
    archive = Archive("other.zip", f"{url}/other.zip", "0" * 32, "all")
    with pytest.raises(ReadError, match="serves another file; expected md5 0000.*; got "):
        Download("http://page", (archive,)).fetch(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ReadError, match="cannot fetch .*404") as caught:
        downloading.fetch(Archive("x", f"{url}/absent.zip", "", ""), tmp_path / "x")
    assert not caught.value.permanent
    assert list(tmp_path.iterdir()) == []


def test_a_download_writes_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="refused the link file:"):
        downloading.fetch(Archive("x", "file:///etc/passwd", "", ""), tmp_path / "x")
    inside = tmp_path / "inside"
    for member in ("../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"):
        zipped(tmp_path / "bad.zip", {"good.txt": "x", member: "x"})
        with pytest.raises(ReadError, match="refused the member"):
            downloading.unpack(tmp_path / "bad.zip", inside)
    assert not inside.exists()
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc")
    with pytest.raises(ReadError, match="refused the member 'link'"):
        downloading.unpack(tmp_path / "link.zip", inside)
    (tmp_path / "no.zip").write_text("<html>")
    with pytest.raises(ReadError, match="cannot unpack"):
        downloading.unpack(tmp_path / "no.zip", inside)


def test_commands_verify_what_they_fetch(tmp_path: Path) -> None:
    lines = DATASETS["oscd"].download.commands(tmp_path / "a folder")
    assert sum(line.startswith("curl -fL") for line in lines) == 3
    assert sum(line.endswith("| md5sum -c -") for line in lines) == 3
    assert f"mkdir -p '{tmp_path}/a folder'" in lines
    for name in NAMES[1:]:
        download = DATASETS[name].download
        assert all(line.startswith("# ") for line in download.commands(tmp_path))
        with pytest.raises(SpecError, match="nothing to fetch by itself"):
            download.fetch(tmp_path)
