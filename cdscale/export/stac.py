"""A STAC collection of a store, and an item for each month that readers get.

Each item has the store itself as an asset, with its dimensions and variables (``datacube``), and
what ``cdscale export cog`` has written beside it: bands with types, scales and no-data values
(``raster``), codes and their colours (``classification``). What made the month is said, too:
software, models with the sums of their weights, scenes. Files are written whole, the collection
last.
"""

from __future__ import annotations

import hashlib
import json
import os
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import shapely
from shapely.geometry import mapping

from cdscale import __version__
from cdscale.errors import StoreError, explain
from cdscale.export.cut import Cut, refuse_existing
from cdscale.export.rasters import chosen, file_name
from cdscale.export.style import style_of
from cdscale.integrity import run_of
from cdscale.months import Month
from cdscale.spec.cube import Variable
from cdscale.spec.job import STORES, Job
from cdscale.spec.overview import levels_of
from cdscale.spec.task import Task
from cdscale.store import Ledger, write_json

COLLECTION = "collection.json"
VERSIONS = {
    "projection": "v2.0.0",
    "raster": "v2.0.0",
    "datacube": "v2.2.0",
    "processing": "v1.2.0",
    "classification": "v2.0.0",
    "file": "v2.1.0",
    "zarr": "v1.0.0",
}
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
ZARR = "application/vnd.zarr; version=3"
PARQUET = "application/vnd.apache.parquet"
EVENTS = "events.parquet"


def write_stac(cut: Cut, out: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write a collection and its items into a folder; the files, the collection first.

    Parameters
    ----------
    cut : Cut
        What of which store.
    out : Path
        Folder; COGs and a log of events that lie in it are named by the items.
    overwrite : bool
        Replace a collection that is there.

    Raises
    ------
    SpecError
        When there is one.
    StoreError
        When the folder cannot be written.
    """
    catalogue = _Catalogue(cut, out.resolve())
    refuse_existing([out / COLLECTION], overwrite=overwrite)
    items = {out / f"{i}" / f"{i}.json": m for m in cut.months for i in [catalogue.id_of(m)]}
    try:
        for path, month in items.items():
            write_json(path, catalogue.item(month))
        write_json(out / COLLECTION, catalogue.collection())
    except OSError as err:
        raise StoreError(explain(f"cannot write to {out}: {err.strerror}")) from None
    return (out / COLLECTION, *items)


@dataclass(frozen=True)
class _Catalogue:
    """What is said of a store."""

    cut: Cut
    out: Path

    @cached_property
    def job(self) -> Job | None:
        """The run that made the store, where it is beside it."""
        try:
            return run_of(self.cut.path)[0]
        except StoreError:
            return None

    @cached_property
    def name(self) -> str:
        """Of the collection."""
        run = self.cut.spec.title.partition(":")[0]
        return f"{run}-{self.cut.spec.product}"

    def id_of(self, month: Month) -> str:
        """Of an item."""
        return f"{self.name}-{month}"

    # ------------------------------------------------------------------------------ documents

    def collection(self) -> dict[str, Any]:
        """The collection of every month."""
        months = self.cut.months
        spec = self.cut.spec
        comment = f" {spec.attrs['comment']}" if "comment" in spec.attrs else ""
        links = [self._link("root", COLLECTION), self._link("self", COLLECTION)]
        links += [
            self._link("item", f"{self.id_of(m)}/{self.id_of(m)}.json", "application/geo+json")
            for m in months
        ]
        return {
            "type": "Collection",
            "stac_version": "1.1.0",
            # The schema of "zarr" wants its fields on every asset of a collection.
            "stac_extensions": _extensions(
                "projection", "datacube", *(() if self._events else ("zarr",))
            ),
            "id": self.name,
            "title": spec.title,
            "description": f"{spec.title}, on the grid {spec.grid.name}.{comment}",
            "license": "other",
            "keywords": ["change detection", "Sentinel-1", "Sentinel-2", spec.product],
            "extent": {
                "spatial": {"bbox": [self.bbox]},
                "temporal": {"interval": [[_start(min(months)), _end(max(months))]]},
            },
            "summaries": {
                "gsd": [spec.grid.resolution],
                "proj:code": [spec.grid.crs],
                "cdscale:models": [spec.attrs.get("models", {})],
            },
            **self._cube(months),
            "links": links,
            "assets": {"zarr": self._zarr} | self._events,
        }

    def item(self, month: Month) -> dict[str, Any]:
        """The item of a month."""
        spec, files = self.cut.spec, self._files(month)
        coded = any("classification:classes" in band for a in files.values() for band in a["bands"])
        names = ["projection", "datacube", "processing", "zarr"]
        names += ["raster", "file"] if files else []
        names += ["classification"] if coded else []
        collection = f"../{COLLECTION}"
        return {
            "type": "Feature",
            "stac_version": "1.1.0",
            "stac_extensions": _extensions(*names),
            "id": self.id_of(month),
            "collection": self.name,
            "geometry": json.loads(json.dumps(mapping(self.outline))),
            "bbox": self.bbox,
            "properties": {
                "title": f"{spec.title}, {month}",
                "datetime": None,
                "start_datetime": _start(month),
                "end_datetime": _end(month),
                "gsd": spec.grid.resolution,
                **self._place,
                **self._origin(month),
                **self._cube((month,)),
            },
            "links": [
                self._link("root", collection),
                self._link("parent", collection),
                self._link("collection", collection),
            ],
            "assets": {"zarr": self._zarr | {"href": self._to(self.cut.path, above=1)}, **files},
        }

    # ---------------------------------------------------------------------------------- parts

    @cached_property
    def outline(self) -> Any:
        """Outline of the tiles in degrees."""
        parts = self.cut.spec.grid.footprints(self.cut.tiles)
        return shapely.union_all(shapely.set_precision(parts, 1e-7))

    @cached_property
    def bbox(self) -> list[float]:
        """Bounds in degrees; of an area across the antimeridian west is larger than east."""
        west, south, east, north = self.outline.bounds
        parts = shapely.get_parts(self.outline)
        if east - west > 180:
            west = min(p.bounds[0] for p in parts if p.bounds[0] > 0)
            east = max(p.bounds[2] for p in parts if p.bounds[2] < 0)
        return [round(float(value), 7) for value in (west, south, east, north)]

    @property
    def _place(self) -> dict[str, Any]:
        grid = self.cut.spec.grid
        window = grid.window(self.cut.tiles)
        geobox = window.geobox(grid)
        box = geobox.boundingbox
        return {
            "proj:code": grid.crs,
            "proj:shape": list(geobox.shape),
            "proj:transform": list(geobox.affine)[:6],
            "proj:bbox": [box.left, box.bottom, box.right, box.top],
        }

    @property
    def _software(self) -> dict[str, str]:
        return {"cdscale": __version__}

    def _origin(self, month: Month) -> dict[str, Any]:
        """What made a month."""
        spec = self.cut.spec
        said: dict[str, Any] = {
            "processing:level": "L4" if spec.product == "change" else "L3",
            "processing:lineage": _lineage(spec.product),
            "processing:software": self._software,
            "cdscale:models": spec.attrs.get("models", {}),
            "cdscale:published": month in self.cut.store.published(),
        }
        if earlier := spec.reference.get(str(month)):
            said["cdscale:reference_month"] = earlier
        if "comment" in spec.attrs:
            said["description"] = spec.attrs["comment"]
        if self.job is not None:
            versions = {c.name: c.version for c in self.job.cards.values()}
            said["cdscale:model_versions"] = versions
            said["cdscale:catalogue"] = self.job.public.spec.catalogue
            said["cdscale:scenes"] = self._scenes(month)
        return said

    def _scenes(self, month: Month) -> list[str]:
        """Scenes of which pixels went into a month, those of the month it is compared with too."""
        if self.job is None:
            return []
        ledger = Ledger(self.job.ledger_folder)
        stage = next(s for s, n in STORES.items() if n.partition(".")[0] == self.cut.spec.product)
        used: set[str] = set()
        seen: set[Task] = set()
        known = set(self.job.tasks(stage)) if stage in self.job.stages else set()
        wanted = [t for tile in self.cut.tiles if (t := Task(stage, month, tile)) in known]
        while wanted:
            task = wanted.pop()
            # A series goes on from the month before, and so back to its first; the month's own
            # scenes are meant.
            above = [t for t in self.job.upstream(task) if t.stage is not task.stage]
            wanted += [t for t in above if t not in seen]
            seen.update(above)
            receipt = ledger.read(task)
            used.update(receipt.scenes if receipt is not None else ())
        return sorted(used)

    @property
    def _zarr(self) -> dict[str, Any]:
        levels = [level.name for level in levels_of(self.cut.spec)]
        more = f"; overviews in its groups {', '.join(levels)}" if levels else ""
        return {
            "href": self._to(self.cut.path),
            "type": ZARR,
            "title": self.cut.path.name,
            "description": f"Every variable and month, Zarr 3 with consolidated metadata{more}",
            "roles": ["data"],
            "zarr:consolidated": True,
            "zarr:node_type": "group",
            "zarr:zarr_format": 3,
        }

    @property
    def _events(self) -> dict[str, Any]:
        if not (self.out / EVENTS).exists():
            return {}
        asset = {"href": f"./{EVENTS}", "type": PARQUET, "roles": ["data"]}
        return {"events": asset | {"title": "Log of change events, GeoParquet"}}

    def _files(self, month: Month) -> dict[str, Any]:
        """Assets of the files that were exported."""
        found = {}
        for variable in chosen(self.cut, [v.name for v in self.cut.spec.variables]):
            path = self.out / file_name(self.cut, month, variable)
            if path.exists():
                found[variable.name] = {
                    "href": self._to(path, above=1),
                    "type": COG,
                    "title": style_of(variable).description,
                    "roles": ["data"],
                    "bands": [_band(variable)],
                    "file:size": path.stat().st_size,
                    "file:checksum": "1220" + _sha256(path),
                }
        return found

    def _cube(self, months: Iterable[Month]) -> dict[str, Any]:
        """Dimensions and variables of the store, as ``datacube`` has them."""
        spec = self.cut.spec
        box = spec.window.geobox(spec.grid).boundingbox
        half, step = spec.grid.resolution / 2, spec.grid.resolution
        code = spec.grid.crs.partition(":")
        system: Any = int(code[2]) if code[0] == "EPSG" else _wkt(spec.grid.crs)
        spatial = {"type": "spatial", "step": step, "reference_system": system}
        x = {"axis": "x", "extent": [box.left + half, box.right - half]}
        y = {"axis": "y", "extent": [box.bottom + half, box.top - half]}
        every = sorted(months)
        first, last = _start(every[0]), _end(every[-1])
        time = {"type": "temporal", "extent": [first, last], "values": [_start(m) for m in every]}
        return {
            "cube:dimensions": {"month": time, "y": spatial | y, "x": spatial | x},
            "cube:variables": {v.name: _cube_variable(v) for v in spec.variables},
        }

    def _link(self, rel: str, href: str, kind: str = "application/json") -> dict[str, Any]:
        return {"rel": rel, "href": href if href.startswith("..") else f"./{href}", "type": kind}

    def _to(self, path: Path, above: int = 0) -> str:
        """A path as a document so many folders below the output sees it."""
        start = self.out / "/".join("x" * above) if above else self.out
        return Path(os.path.relpath(path.resolve(), start)).as_posix()


def _extensions(*names: str) -> list[str]:
    return [f"https://stac-extensions.github.io/{n}/{VERSIONS[n]}/schema.json" for n in names]


def _start(month: Month) -> str:
    return f"{month}-01T00:00:00Z"


def _end(month: Month) -> str:
    year, number = (int(part) for part in str(month).split("-"))
    return f"{month}-{monthrange(year, number)[1]}T23:59:59Z"


def _lineage(product: str) -> str:
    composed = "Monthly composites of Sentinel-1 backscatter and Sentinel-2 reflectance"
    if product == "urban":
        return f"{composed}, mapped to a probability of built-up land by a network."
    return f"{composed}, mapped by networks, and compared from month to month."


def _band(variable: Variable) -> dict[str, Any]:
    style = style_of(variable)
    band: dict[str, Any] = {
        "name": variable.name,
        "description": style.description,
        "data_type": variable.dtype,
    }
    if style.nodata is not None:
        band["nodata"] = style.nodata
    if style.units:
        band["unit"] = style.units
    if style.scale is not None:
        band |= {"raster:scale": style.scale, "raster:offset": 0}
    if variable.meanings:
        band["classification:classes"] = _classes(variable)
    return band


def _classes(variable: Variable) -> list[dict[str, Any]]:
    style = style_of(variable)
    classes = []
    for code, name in variable.meanings.items():
        red, green, blue, _ = style.colours[code]
        classes.append(
            {
                "value": code,
                "name": "".join(c if c.isalnum() or c in "-_" else "_" for c in name),
                "title": name.replace("_", " "),
                "description": name.replace("_", " "),
                "color_hint": f"{red:02X}{green:02X}{blue:02X}",
            }
        )
    return classes


def _cube_variable(variable: Variable) -> dict[str, Any]:
    style = style_of(variable)
    said: dict[str, Any] = {
        "dimensions": ["month", "y", "x"],
        "type": "data",
        "description": style.description,
        "data_type": variable.dtype,
    }
    if style.nodata is not None:
        said["nodata"] = style.nodata
    if style.units:
        said["unit"] = style.units
    return said


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wkt(crs: str) -> str:
    from rasterio.crs import CRS

    return str(CRS.from_user_input(crs).to_wkt(version="WKT2_2019"))  # datacube wants WKT 2
