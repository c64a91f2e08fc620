"""Maps as cloud-optimised GeoTIFF: one file a variable and month, with colours and overviews.

The overviews are those of the store, made by the same rules: GDAL's resampling knows neither which
state leads nor what is outside. Tiles are read one by one and written into plain files of each
resolution, which GDAL then lays out as one file; memory is that of a tile, whatever the area.
Files appear under their names when they are whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import rasterio
import rasterio.shutil
from affine import Affine
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from cdscale.errors import SpecError, StoreError, explain
from cdscale.export.cut import SHOWN, Cut, refuse_existing
from cdscale.export.style import style_of
from cdscale.grid import Tile, Window
from cdscale.months import Month
from cdscale.mosaic import halved
from cdscale.spec.cube import Variable
from cdscale.spec.overview import RULES, STATE

BLOCK_PX = 512
"""Along a side of a block inside a file, and of the smallest overview, at most."""
DTYPES = {"uint8": "Byte", "int32": "Int32", "uint16": "UInt16", "int16": "Int16"}
LEADING = (STATE, "confidence")
"""Variables that decide which pixel an overview shows."""


def chosen(cut: Cut, names: Iterable[str] = ()) -> tuple[Variable, ...]:
    """Variables that are exported.

    Raises
    ------
    SpecError
        When the store has none of a name.
    """
    known = {v.name: v for v in cut.spec.variables}
    wanted = tuple(names) or tuple(name for name in SHOWN if name in known)
    if unknown := [name for name in wanted if name not in known]:
        raise SpecError(
            explain(f"{cut.path} has no {', '.join(unknown)}", expected=f"of {', '.join(known)}")
        )
    return tuple(known[name] for name in wanted)


def told(cut: Cut, month: Month, variables: tuple[Variable, ...]) -> tuple[Variable, ...]:
    """Those that say something of a month: a pair network speaks of the months of its pairs."""
    series = STATE in {v.name for v in cut.spec.variables}
    if not series or str(month) in cut.spec.reference:
        return variables
    return tuple(v for v in variables if v.name not in RULES)


def file_name(cut: Cut, month: Month, variable: Variable) -> str:
    """Of the file of a variable and month."""
    return f"{cut.spec.product}_{month}_{variable.name}.tif"


def write_cogs(
    cut: Cut, out: Path, variables: tuple[Variable, ...], *, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write a file for each variable and month.

    Parameters
    ----------
    cut : Cut
        What of which store.
    out : Path
        Folder.
    variables : tuple of Variable
        From :func:`chosen`.
    overwrite : bool
        Replace files that are there.

    Raises
    ------
    SpecError
        When a file is there.
    StoreError
        When a shard is damaged, or the folder cannot be written.
    """
    files = [
        (m, v, out / file_name(cut, m, v)) for m in cut.months for v in told(cut, m, variables)
    ]
    refuse_existing((path for _, _, path in files), overwrite=overwrite)
    with scratch(out) as folder:
        for month in cut.months:
            sheet = Sheet(cut, month, cut.spec.grid.window(cut.tiles), cut.tiles)
            own = {v.name: p for m, v, p in files if m == month}
            sheet.write(told(cut, month, variables), folder, own)
    return tuple(path for _, _, path in files)


def write_mosaic(
    cut: Cut, out: Path, variables: tuple[Variable, ...], *, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write a file for each tile, variable and month, and a VRT for each variable and month.

    The VRT opens as one raster of everything: for areas of which one file would be unwieldy, and
    for whoever wants to fetch some tiles again when they have changed. Parameters and errors are
    those of :func:`write_cogs`; returned are the VRT files.
    """
    vrts = {
        (m, v.name): out / file_name(cut, m, v).replace(".tif", ".vrt")
        for m in cut.months
        for v in told(cut, m, variables)
    }
    refuse_existing(vrts.values(), overwrite=overwrite)
    with scratch(out) as folder:
        for month in cut.months:
            held = [tile for tile in cut.tiles if cut.holds(tile, month)]
            for tile in held:
                sheet = Sheet(cut, month, cut.spec.grid.window([tile]), (tile,))
                own = {v.name: out / _tile_file(month, v, tile) for v in variables}
                sheet.write(told(cut, month, variables), folder, own)
            for v in told(cut, month, variables):
                _write_vrt(cut, month, v, held, vrts[month, v.name])
    return tuple(vrts.values())


def _tile_file(month: Month, variable: Variable, tile: Tile) -> str:
    return f"{variable.name}/{month}/{tile}.tif"


def _write_vrt(cut: Cut, month: Month, variable: Variable, tiles: list[Tile], path: Path) -> None:
    window, px = cut.spec.grid.window(cut.tiles), cut.spec.grid.tile_px
    sources = "".join(
        f'<SimpleSource><SourceFilename relativeToVRT="1">{_tile_file(month, variable, tile)}'
        "</SourceFilename><SourceBand>1</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{px}" ySize="{px}"/>'
        f'<DstRect xOff="{(tile.ix - window.ix) * px}" yOff="{(tile.iy - window.iy) * px}" '
        f'xSize="{px}" ySize="{px}"/></SimpleSource>'
        for tile in tiles
    )
    part = path.with_name(f".{path.name}.part")
    part.write_text(_vrt(Sheet(cut, month, window, ()), variable, sources), encoding="utf-8")
    os.replace(part, path)


@contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """A folder beside what is written, gone afterwards.

    Raises
    ------
    StoreError
        When the place cannot be written, or GDAL cannot write to it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".export-", dir=out))
    except OSError as err:
        raise StoreError(explain(f"cannot write to {out}: {err.strerror}")) from None
    try:
        yield folder
    except (RasterioError, CPLE_BaseError) as err:  # the latter where GDAL copies
        said = " ".join(str(err).split())[:300]
        raise StoreError(explain(f"cannot write to {out}", got=said)) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Sheet:
    """A month of some tiles, as one raster."""

    cut: Cut
    month: Month
    window: Window
    tiles: tuple[Tile, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        px = self.cut.spec.grid.tile_px
        return self.window.ny * px, self.window.nx * px

    @property
    def factors(self) -> tuple[int, ...]:
        """1 and the factor of each overview."""
        factors = [1]
        while (
            max(self.shape) > BLOCK_PX * factors[-1]
            and self.cut.spec.grid.tile_px % (2 * factors[-1]) == 0
        ):
            factors.append(2 * factors[-1])
        return tuple(factors)

    @property
    def transform(self) -> Affine:
        """Of its pixels."""
        return self.window.geobox(self.cut.spec.grid).affine

    def write(self, variables: tuple[Variable, ...], folder: Path, paths: dict[str, Path]) -> None:
        """Write a file for each variable."""
        with ExitStack() as stack:
            files = {
                (v.name, factor): stack.enter_context(self._plain(folder, v, factor))
                for v in variables
                for factor in self.factors
            }
            self._fill(files, [v.name for v in variables])
        for variable in variables:
            self._assemble(folder, variable, paths[variable.name])

    def _plain(self, folder: Path, variable: Variable, factor: int) -> Any:
        """A file of one resolution."""
        return rasterio.open(
            folder / f"{variable.name}-{factor}.tif", "w", driver="GTiff", count=1,
            dtype=variable.dtype, height=self.shape[0] // factor, width=self.shape[1] // factor,
            transform=self.transform * Affine.scale(factor), crs=self.cut.spec.grid.crs,
            nodata=int(variable.fill), tiled=True, blockxsize=256, blockysize=256,
            compress="deflate", zlevel=1, sparse_ok=True, bigtiff="if_safer",
        )  # fmt: skip

    def _fill(self, files: dict[tuple[str, int], Any], names: list[str]) -> None:
        spec = self.cut.spec
        known = [v.name for v in spec.variables]
        # Which pixel leads is told by the state, exported or not.
        needed = dict.fromkeys([*names, *(n for n in LEADING if n in known)])
        for tile in self.tiles:
            if not self.cut.holds(tile, self.month):
                continue
            blocks = self.cut.read(tile, self.month, needed)
            y, x = ((i - j) * spec.grid.tile_px for i, j in self._corner(tile))
            for factor in self.factors:
                if factor > 1:
                    blocks = halved(blocks, spec)
                side = spec.grid.tile_px // factor
                at = RasterWindow(x // factor, y // factor, side, side)
                for name in names:
                    files[name, factor].write(blocks[name], 1, window=at)

    def _corner(self, tile: Tile) -> tuple[tuple[int, int], tuple[int, int]]:
        return (tile.iy, self.window.iy), (tile.ix, self.window.ix)

    def _assemble(self, folder: Path, variable: Variable, path: Path) -> None:
        """Lay out the files of all resolutions as one."""
        base, *coarser = (f"{variable.name}-{factor}.tif" for factor in self.factors)
        sources = _source("SimpleSource", base) + "".join(_source("Overview", c) for c in coarser)
        vrt = folder / f"{variable.name}.vrt"
        vrt.write_text(_vrt(self, variable, sources), encoding="utf-8")
        made = folder / path.name
        rasterio.shutil.copy(
            vrt, made, driver="COG", compress="DEFLATE", predictor="YES", bigtiff="IF_SAFER",
            blocksize=min(BLOCK_PX, max(128, self.cut.spec.chunk_px)), sparse_ok="YES",
            overviews="FORCE_USE_EXISTING" if coarser else "NONE",
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = made.with_name(f"{made.name}.aux.xml")  # names of the codes
        if aside.exists():
            os.replace(aside, path.with_name(aside.name))
        os.replace(made, path)


def _source(kind: str, name: str) -> str:
    return (
        f'<{kind}><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
        f"<SourceBand>1</SourceBand></{kind}>"
    )


def _vrt(sheet: Sheet, variable: Variable, sources: str) -> str:
    """A virtual raster: where it lies, what it holds, how it looks."""
    spec, (rows, columns) = sheet.cut.spec, sheet.shape
    transform = ", ".join(f"{value:.17g}" for value in sheet.transform.to_gdal())
    meanings = variable.meanings
    tags = {
        "title": spec.title,
        "month": str(sheet.month),
        **({"reference_month": r} if (r := spec.reference.get(str(sheet.month))) else {}),
        **({"comment": spec.attrs["comment"]} if "comment" in spec.attrs else {}),
        "models": ", ".join(spec.attrs.get("models", {})),
    }
    said = {"name": variable.name}
    if meanings:
        said["flag_values"] = ", ".join(map(str, meanings))
        said["flag_meanings"] = " ".join(meanings.values())
    return (
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}">'
        f"<SRS>{escape(rasterio.crs.CRS.from_user_input(spec.grid.crs).to_wkt())}</SRS>"
        f"<GeoTransform>{transform}</GeoTransform>{_tags(tags)}"
        f'<VRTRasterBand dataType="{DTYPES[variable.dtype]}" band="1">'
        f"{style_of(variable).band_xml}{_tags(said)}{sources}</VRTRasterBand></VRTDataset>"
    )


def _tags(tags: dict[str, str]) -> str:
    items = "".join(f"<MDI key={quoteattr(k)}>{escape(v)}</MDI>" for k, v in tags.items() if v)
    return f"<Metadata>{items}</Metadata>"
