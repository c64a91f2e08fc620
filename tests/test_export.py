"""Maps as GeoTIFF and their STAC catalogue, as other programs read them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio._err import CPLE_AppDefinedError

from cdscale import mosaic
from cdscale.export.cut import cut
from cdscale.export.rasters import chosen, write_cogs
from cdscale.grid import Tile
from cdscale.store import Store, create
from tests.commands import OK, Cli, refused
from tests.regions import SmallRun, state_of
from tests.test_events import a_spec, put


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Four tiles of 512 pixels, two months."""
    spec = a_spec()
    grid = spec.grid.preset("europe", tile_px=512)
    window = spec.window.__class__(850, 975, 2, 2)
    spec = spec.model_copy(update={"grid": grid, "window": window, "chunk_px": 128})
    made = create(tmp_path_factory.mktemp("store") / "change.zarr", spec)
    for month, side in (("2022-01", 40), ("2022-02", 90)):
        changed = np.zeros((1024, 1024), bool)
        changed[480 : 480 + side, 480 : 480 + side] = True
        put(made, month, changed)
    return made


@pytest.fixture(scope="module")
def cogs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cogs")
    part = cut(store.path)
    write_cogs(part, out, chosen(part))
    return out


def test_a_cog_has_the_pixels_of_the_store_and_says_what_they_are(store: Store, cogs: Path) -> None:
    whole = xr.open_zarr(store.path, mask_and_scale=False, decode_times=False, chunks=None)
    assert len(list(cogs.glob("*.tif"))) == 2 * 8
    with rasterio.open(cogs / "change_2022-02_state.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.crs.to_epsg() == 3035
        geobox = store.spec.window.geobox(store.spec.grid)
        assert file.transform == geobox.affine
        np.testing.assert_array_equal(file.read(1), whole.state.values[1])
        assert file.nodata == 0
        assert file.colorinterp == (rasterio.enums.ColorInterp.palette,)
        assert file.colormap(1)[4] == (230, 159, 0, 255)
        assert file.colormap(1)[0][3] == 0
        assert file.tags()["month"] == "2022-02"
        assert file.tags(1)["flag_meanings"].split()[4] == "confirmed"
        assert file.overviews(1) == [2]
    sidecar = (cogs / "change_2022-02_state.tif.aux.xml").read_text()
    assert "<Category>high confidence</Category>" in sidecar
    with rasterio.open(cogs / "change_2022-02_confidence.tif") as file:
        assert (file.scales, file.offsets, file.nodata) == ((0.004,), (0.0,), 255)
    with rasterio.open(cogs / "change_2022-02_first_month.tif") as file:
        assert file.dtypes == ("int32",)
        assert file.nodata == -1
        np.testing.assert_array_equal(file.read(1), whole.first_month.values[1])


def test_overviews_of_a_cog_are_made_by_the_rule_of_the_variable(store: Store, cogs: Path) -> None:
    whole = xr.open_zarr(store.path, mask_and_scale=False, decode_times=False, chunks=None)
    blocks = {v.name: whole[v.name].values[1] for v in store.spec.variables}
    half = mosaic.halved(blocks, store.spec)
    for name in ("state", "first_month", "confidence"):
        with rasterio.open(cogs / f"change_2022-02_{name}.tif", overview_level=0) as file:
            np.testing.assert_array_equal(file.read(1), half[name])


def test_a_mosaic_of_tiles_opens_as_one_raster(store: Store, tmp_path: Path, cdscale: Cli) -> None:
    said = cdscale(
        "export", "geotiff-mosaic", store.path, "--out", tmp_path, "--variables", "state",
        "--months", "2022-02",
    )  # fmt: skip
    assert said.code == OK, said.err
    whole = xr.open_zarr(store.path, mask_and_scale=False, chunks=None)
    with rasterio.open(tmp_path / "change_2022-02_state.vrt") as file:
        np.testing.assert_array_equal(file.read(1), whole.state.values[1])
        assert file.crs.to_epsg() == 3035
        assert file.colormap(1)[4] == (230, 159, 0, 255)
    assert len(list((tmp_path / "state" / "2022-02").glob("x*.tif"))) == 4


def test_an_area_is_cut_out_at_its_tiles_and_masked(
    store: Store, tmp_path: Path, cdscale: Cli
) -> None:
    inner = store.spec.grid.footprint(Tile(store.spec.window.ix, store.spec.window.iy))
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(inner.buffer(-0.01).__geo_interface__))
    said = cdscale(
        "export", "cog", store.path, "--out", tmp_path / "out", "--area", area,
        "--variables", "state", "--months", "2022-01", "--json",
    )  # fmt: skip
    assert said.code == OK, said.err
    (name,) = json.loads(said.out)["files"]
    with rasterio.open(name) as file:
        state = file.read(1)
    assert state.shape == (512, 512)
    assert state[0, 0] == 0
    assert state[256, 256] == 2


def test_what_is_there_is_not_written_over_unless_told(
    store: Store, cogs: Path, cdscale: Cli, tmp_path: Path
) -> None:
    before, untouched = state_of(cogs), state_of(store.path)
    refused(cdscale("export", "cog", store.path, "--out", cogs), "already", "--overwrite")
    assert state_of(cogs) == before
    for arguments, word in (
        (("cog", store.path, "--out", tmp_path, "--months", "2022-04"), "not published"),
        (("cog", store.path, "--out", tmp_path, "--months", "soon"), "month"),
        (("cog", store.path, "--out", tmp_path, "--variables", "colour"), "has no colour"),
        (("cog", store.path / "no", "--out", tmp_path), "no Zarr store"),
        (("stac", store.path, "--out", store.path / "zarr.json"), "expected a folder"),
        (("cog", store.path, "--out", store.path), "lies in a store"),
        (("stac", store.path, "--out", store.path / "maps"), "lies in a store"),
        (("geotiff-mosaic", store.path, "--out", store.path / "state"), "lies in a store"),
        (("geoparquet", store.path, "--out", store.path), "lies in a store"),
        (("geoparquet", store.path, "--out", tmp_path / "a.csv"), "ending in .parquet"),
        (("geoparquet", store.path, "--out", tmp_path, "--mmu", "0"), "1 pixel or more"),
        (("geoparquet", store.path, "--out", tmp_path, "--since", "2022-01"), "go together"),
        (("geoparquet", store.path, "--out", tmp_path, "--current", tmp_path / "a.shp"), ".gpkg"),
    ):
        refused(cdscale("export", *arguments), word)
    assert list(tmp_path.iterdir()) == []
    assert state_of(store.path) == untouched


def test_what_gdal_cannot_copy_is_one_sentence(
    store: Store, tmp_path: Path, cdscale: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise CPLE_AppDefinedError(3, 1, "TIFFWriteDirectoryTagData:IO error writing tag data")

    monkeypatch.setattr("rasterio.shutil.copy", full)
    out = tmp_path / "out"
    refused(cdscale("export", "cog", store.path, "--out", out), "cannot write to", "IO error")
    assert list(out.iterdir()) == []


def test_events_by_the_command(store: Store, tmp_path: Path, cdscale: Cli) -> None:
    first = ("export", "geoparquet", store.path, "--out", tmp_path, "--json")
    assert json.loads(cdscale(*first, "--months", "2022-01").out)["new"] == 1
    said = cdscale(
        *first, "--since", "1", "--difference", tmp_path / "new.geojson",
        "--current", tmp_path / "now.gpkg",
    )  # fmt: skip
    assert json.loads(said.out)["new"] == 1
    (grown,) = json.loads((tmp_path / "new.geojson").read_text())["features"]
    assert grown["properties"]["kind"] == "grown"
    assert grown["properties"]["area_km2"] == pytest.approx(0.81)
    assert json.loads(cdscale(*first).out) == {
        "log": str(tmp_path / "events.parquet"), "rows": 2, "new": 0, "publication": 2,
        "current": 1,
    }  # fmt: skip


# ---------------------------------------------------------------------------------------- STAC


def valid(document: pystac.STACObject) -> None:
    """By the schemas of STAC 1.1 that pystac brings; those of extensions are not to be had here."""
    plain = document.to_dict(include_self_link=False)
    kind = pystac.STACObjectType(plain["type"])
    JsonSchemaSTACValidator().validate_core(plain, kind, "1.1.0")


def test_a_catalogue_is_valid_and_leads_to_what_was_exported(
    store: Store, cogs: Path, cdscale: Cli
) -> None:
    said = cdscale("export", "stac", store.path, "--out", cogs, "--json")
    assert said.code == OK, said.err
    collection = pystac.Collection.from_file(str(cogs / "collection.json"))
    valid(collection)
    items = list(collection.get_items())
    assert [i.id for i in items] == ["made-change-2022-01", "made-change-2022-02"]
    for item in items:
        valid(item)
        assert item.get_collection() is collection
        placed = ProjectionExtension.ext(item)
        assert placed.epsg == 3035
        assert placed.shape == [1024, 1024]
        cube = DatacubeExtension.ext(item)
        assert set(cube.dimensions) == {"month", "y", "x"}
        assert (cube.variables or {})["state"].dimensions == ["month", "y", "x"]
        for name, asset in item.assets.items():
            path = Path(item.get_assets()[name].get_absolute_href() or "")
            assert path.exists(), (name, path)
            if name != "zarr":
                assert FileExtension.ext(asset).size == os.path.getsize(path)
        zarr = item.assets["zarr"]
        assert xr.open_zarr(zarr.get_absolute_href()).sizes["month"] == 4
    state = items[1].assets["state"]
    (band,) = state.extra_fields["bands"]
    assert band["nodata"] == 0
    assert band["classification:classes"][4]["color_hint"] == "E69F00"
    assert ClassificationExtension.get_schema_uri() in items[1].stac_extensions
    assert items[1].assets["confidence"].extra_fields["bands"][0]["raster:scale"] == 0.004
    refused(cdscale("export", "stac", store.path, "--out", cogs), "already")


def test_a_catalogue_of_a_run_names_its_models_and_its_scenes(
    small_run: SmallRun, tmp_path: Path, cdscale: Cli
) -> None:
    path = small_run.output / "change.zarr"
    assert cdscale("export", "stac", path, "--out", tmp_path).code == OK
    items = list(pystac.Collection.from_file(str(tmp_path / "collection.json")).get_items())
    said = items[-1].properties
    assert said["cdscale:scenes"]
    assert set(said["cdscale:model_versions"]) == {"tiny-urban", "tiny-change"}
    assert said["processing:software"]["cdscale"]
    assert "SIMULATED" in said["description"]
    assert [item.id for item in items] == sorted(item.id for item in items)
