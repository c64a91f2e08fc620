"""``RunSpec``: everything that a run is, in one file; every default is written here, once."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, field_validator, model_validator

from cdscale.errors import SpecError, explain
from cdscale.grid import Area, Bounds, Grid, Tile, Window, choose_preset
from cdscale.months import Month, Months
from cdscale.spec.base import Frozen, read_yaml
from cdscale.spec.card import Precision
from cdscale.spec.changes import ChangeRules
from cdscale.spec.cube import MonthsText
from cdscale.spec.profile import CollectionProfile, load_profile

S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten bands of 10 and 20 m: L1C and every L2A catalogue have them."""
S1_BANDS = ("vv", "vh")
GPU_LANES = 3
"""Tasks in hand on a GPU: one is read, one is on the device, one is written."""
ABSENT_MINUTES, QUEUED_MINUTES = 10.0, 24 * 60.0
"""How long a run waits for workers: a machine has started again by then, a queue has moved."""

FIRST_MONTH, LAST_MONTH = Month(1970, 1), Month(2149, 5)
"""Days are kept as sixteen bits, counted from 1970."""

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


class GridChoice(Frozen):
    """Which lattice, and how it is cut."""

    preset: str = "auto"
    """A continental grid, or ``auto``: the one in whose part of the world the area lies."""
    resolution: float = Field(default=10.0, gt=0, le=10_000)
    """Metres along a side of a pixel."""
    tile: int = Field(default=2048, ge=64)
    """Pixels along a side of a tile, which is one shard."""
    chunk: int = Field(default=512, ge=16)
    """Pixels along a side of an inner chunk: the least that a reader fetches."""

    @model_validator(mode="after")
    def _chunks_fill_tiles(self) -> GridChoice:
        if self.tile % self.chunk:
            raise ValueError(f"tile ({self.tile}) must be a multiple of chunk ({self.chunk})")
        return self


class CompositeChoice(Frozen):
    """What goes into the cube, and how a month becomes one image."""

    s2_bands: tuple[str, ...] = S2_BANDS
    s1_bands: tuple[str, ...] = S1_BANDS
    s2: Literal["least_cloudy", "median", "medoid"] = "least_cloudy"
    """``least_cloudy``: the clearest scene first, holes filled from the next clearest of the month.
    ``median``: of the clear observations, each band by itself. ``medoid``: the one clear
    observation whose bands lie nearest to those of all others."""
    window_months: int = Field(default=1, ge=1, le=60)
    """Months whose scenes a composite draws on, its own the last: 3 for composites of a season
    where cloud leaves too little of a month."""
    max_cloud_cover: float = Field(default=100.0, ge=0, le=100)
    """Scenes that the catalogue calls cloudier (percent) are not read."""
    clear: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()
    """Classes of the mask that count as clear; none: those of the profile."""
    dilate_px: int | None = Field(default=None, ge=0, le=512)
    """Pixels of the cube by which cloud grows on each side, in place of the profile's."""
    cloud_probability: float | None = Field(default=None, gt=0, le=100)
    """Percent from which a pixel counts as cloud as well, where the catalogue has probabilities."""
    s1_by: Literal["relative_orbit", "direction"] = "relative_orbit"
    """What is averaged by itself before the mean of the month, so that none outweighs another."""
    s1_directions: tuple[Literal["ascending", "descending"], ...] = ("ascending", "descending")
    """Scenes of another direction are set aside; those that do not say theirs are not."""
    s1_border_px: int = Field(default=32, ge=0, le=256)
    """Reach of the guard against border noise, in pixels from a swath's edge; 0: none."""
    s1_speckle_px: int = Field(default=0, ge=0, le=31)
    """Side of the window of the speckle filter, odd pixels; 0: no filter. It takes from the number
    of scenes of the month how much of what it sees is speckle."""
    exclude: tuple[str, ...] = ()
    """Ids of scenes that are set aside: known to be bad, or gone from the catalogue's servers."""

    @field_validator("s2_bands", "s1_bands")
    @classmethod
    def _bands_are_named_once(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({band for band in bands if bands.count(band) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} more than once: a cube has each band once")
        return bands

    @field_validator("s1_speckle_px")
    @classmethod
    def _window_has_a_centre(cls, side: int) -> int:
        if side and side % 2 == 0:
            raise ValueError(f"{side} is even: a window around a pixel has an odd side")
        return side


class SearchLimits(Frozen):
    """How hard a STAC API may be asked."""

    requests: int = Field(default=2_000, ge=1)
    """Requests that one search may take, retries included; the search ends with an error there."""
    page: int = Field(default=250, ge=1, le=10_000)
    """Items asked for at once."""
    items: int = Field(default=5_000, ge=1)
    """Items that one query may return before it is split in time, then in space: several
    catalogues refuse to page deeper, or answer wrongly there."""
    tries: int = Field(default=5, ge=1)
    """Of one request."""


class ModelChoice(Frozen):
    """A network by the name of its card, or by the path of a card of one's own."""

    card: str
    precision: Precision = "float32"
    """Of the arithmetic inside the network; ``bfloat16`` is faster where the processor has it, and
    refused where its card says that it decides too many pixels otherwise, or does not say."""
    force: bool = False
    """Map real scenes with weights trained on simulated data; every product then says so. Or map
    in a precision that the card does not speak for."""


class ChangeChoice(ModelChoice):
    """The network that compares, and which months it compares."""

    pairs: tuple[str, ...] = ()
    """Like ``2016-01,2018-03``: reference month and later month. None: the first and the last
    month of the period."""


class Models(Frozen):
    """The networks of a run; a stage without one is left out."""

    urban: ModelChoice | None = None
    change: ChangeChoice | None = None


class Workers(Frozen):
    """How a cluster that a run starts is cut, and how hard a task is tried."""

    count: int = Field(default=0, ge=0)
    """0: one per core, on a local cluster; jobs of a batch system and pods need a number."""
    at_least: int = Field(default=0, ge=0)
    """Of jobs of a batch system and of pods: as many are kept although there is little to do, and
    no more than ``count`` are started. 0: always ``count``."""
    lanes: int = Field(default=0, ge=0, le=16)
    """Tasks that a worker has in hand at once, one of them on the device while others read and
    write. 0: one on processors, where any work takes a core, and three where workers have a GPU."""
    memory: str = "4GiB"
    """Of each worker; all of its lanes have to fit."""
    gpu: bool = False
    """Of workers in jobs and in pods: each has a GPU, which tasks with a network ask for."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of SLURM jobs, as ``dask_jobqueue.SLURMCluster`` takes them: ``queue``, ``account``,
    ``walltime``, ``job_extra_directives`` and so on. Of pods on Kubernetes: ``image``, ``env`` and
    so on; see :data:`cdscale.cluster.POD_OPTIONS`."""
    wait_minutes: float = Field(default=0, ge=0)
    """How long a run waits while its cluster has no worker that can do its tasks. 0: ten minutes,
    and a day for jobs of a batch system and pods, which may stand in a queue."""
    retries: int = Field(default=2, ge=0)
    """Further tries of a task after an error that may pass."""

    @model_validator(mode="after")
    def _range_is_one(self) -> Workers:
        if self.at_least > self.count:
            raise ValueError(f"at_least ({self.at_least}) is more than count ({self.count})")
        return self

    def lanes_on(self, *, gpu: bool) -> int:
        """Lanes of workers that have a GPU, or have none."""
        return self.lanes or (GPU_LANES if gpu else 1)

    def wait_seconds(self, *, queued: bool) -> float:
        """How long to wait for workers: those that stand in a queue, or others."""
        return 60 * (self.wait_minutes or (QUEUED_MINUTES if queued else ABSENT_MINUTES))


class Budget(Frozen):
    """What a run may spend: nothing more is begun once it is spent, and what is done is kept."""

    hours: float | None = Field(default=None, gt=0)
    """Of wall-clock time, from the first task."""
    gigabytes: float | None = Field(default=None, gt=0)
    """Of pixels written, before compression."""


class RunSpec(Frozen):
    """One run, fully stated. Made by :func:`load_run`."""

    name: str = Field(pattern=r"^[\w.-]+$")
    catalogue: str
    """Address of a STAC API, or of a static catalogue or item collection: a path or an address."""
    collections: dict[str, str] = Field(min_length=1)
    """Collection id to profile."""
    area: dict[str, Any]
    """GeoJSON geometry in degrees."""
    period: MonthsText
    grid: GridChoice = GridChoice()
    cube: CompositeChoice = CompositeChoice()
    reader: Literal["stackstac", "odc"] = "stackstac"
    """The library that warps scenes onto the grid."""
    search: SearchLimits = SearchLimits()
    models: Models = Models()
    changes: ChangeRules = ChangeRules()
    """When the urban series counts as change."""
    output: str
    cluster: str = "local"
    """Where tasks run, unless the command says otherwise: ``local``, ``cuda``, ``slurm``,
    ``kubernetes``, or the address of a scheduler."""
    workers: Workers = Workers()
    budget: Budget = Budget()

    @field_validator("collections")
    @classmethod
    def _profiles_read(cls, collections: dict[str, str]) -> dict[str, str]:
        for profile in collections.values():
            load_profile(profile)
        return collections

    @field_validator("period")
    @classmethod
    def _months_can_be_kept(cls, period: Months) -> Months:
        if period.first < FIRST_MONTH or period.last > LAST_MONTH:
            raise ValueError(
                f"expected months from {FIRST_MONTH} to {LAST_MONTH}; got {period}; check the years"
            )
        return period

    @model_validator(mode="after")
    def _bands_exist(self) -> RunSpec:
        for sensor, bands in (("s2", self.cube.s2_bands), ("s1", self.cube.s1_bands)):
            known = {b for p in self.profiles.values() if p.sensor == sensor for b in p.bands}
            # A catalogue may lack one of the bands that are read unless the spec says otherwise.
            usual = S1_BANDS if sensor == "s1" else ()
            unknown = [b for b in bands if b not in known and b not in usual]
            if unknown and known:
                raise ValueError(
                    f"no collection has the bands {', '.join(unknown)}; "
                    f"they have {', '.join(sorted(known))}"
                )
        return self

    @property
    def profiles(self) -> dict[str, CollectionProfile]:
        """Profile of each collection."""
        return {name: load_profile(profile) for name, profile in self.collections.items()}

    @property
    def aoi(self) -> Area:
        """The area asked for."""
        return Area.from_geojson(self.area, where="area")

    @property
    def lattice(self) -> Grid:
        """The grid, its ``auto`` resolved."""
        name = self.grid.preset
        name = choose_preset(self.aoi) if name == "auto" else name
        return Grid.preset(name, resolution=self.grid.resolution, tile_px=self.grid.tile)

    @property
    def folder(self) -> Path:
        """Where everything that the run makes goes."""
        return Path(self.output)

    def tiles(self) -> tuple[Tile, ...]:
        """Every tile that the area touches."""
        return self.lattice.tiles(self.aoi)

    def window(self) -> Window:
        """The rectangle of tiles that the stores cover."""
        return self.lattice.window(self.tiles())

    @property
    def drawn_on(self) -> Months:
        """Months whose scenes the composites draw on: the period, and what its windows reach."""
        reach = range(1 - self.cube.window_months, 1)
        return Months.of(month + step for month in self.period for step in reach)

    def pairs(self) -> dict[Month, Month]:
        """Reference month of each later month that is compared."""
        choice = self.models.change.pairs if self.models.change else ()
        if not choice:
            return {self.period.last: self.period.first} if len(self.period) > 1 else {}
        pairs: dict[Month, Month] = {}
        for text in choice:
            members = Months.parse(text).members
            if len(members) != 2 or not all(m in self.period for m in members):
                raise SpecError(
                    explain(
                        "models.change.pairs does not fit the period",
                        expected=f"two different months of {self.period}, like 2016-01,2018-03",
                        got=repr(text),
                    )
                )
            if members[1] in pairs:
                raise SpecError(explain(f"models.change.pairs names {members[1]} twice"))
            pairs[members[1]] = members[0]
        return pairs


def public(address: str) -> str:
    """An address without what may be a secret: user, password and query."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address.partition("?")[0].rpartition("@")[2]
    if not parts.netloc:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def load_run(path: Path, overrides: dict[str, Any] | None = None) -> RunSpec:
    """Read a run's spec; paths in it are relative to the file, the output to the current folder.

    What a scheduled run needs to say today's words is filled in here, once: ``latest`` in the
    period, and ``{last}`` in the output for the period's last month.

    Parameters
    ----------
    path : Path
        A YAML file.
    overrides : dict, optional
        Fields that replace those of the file; paths in them are relative to the current folder.

    Raises
    ------
    SpecError
        Naming the file, the field, what was expected and what came.
    """
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SpecError(explain(f"{path} is not a spec", expected="fields and their values"))
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    if "catalogue" in data and "catalogue" not in given:
        data["catalogue"] = _locate(str(data["catalogue"]), path.parent)
    if "area" in data and "area" not in given:
        data["area"] = read_area(data["area"], path.parent)
    if "area" in given:
        given["area"] = read_area(given["area"], Path())
    if isinstance(data.get("grid"), str):
        data["grid"] = {"preset": data["grid"]}
    collections = data.get("collections")
    if isinstance(collections, dict):
        data["collections"] = {
            name: _locate(profile, path.parent)
            if str(profile).endswith((".yaml", ".yml"))
            else profile
            for name, profile in collections.items()
        }
    models = data.get("models")
    if isinstance(models, dict):
        data["models"] = {name: _card_located(m, path.parent) for name, m in models.items()}
    data |= given
    if "period" in data:
        data["period"] = _period_of(data["period"], path)
    if isinstance(data.get("output"), str):
        last = str(data.get("period", "")).replace(",", "..").rpartition("..")[2]
        # Absolute: workers have current folders of their own.
        data["output"] = _folder(data["output"].replace("{last}", last), path)
    return RunSpec.check(data, where=str(path))


def _period_of(value: Any, path: Path) -> str:
    """The period as text, ``latest`` filled in; the error names file and field."""
    if not isinstance(value, str):
        wanted = "text like 2017-08..2018-11"
        raise SpecError(
            explain(f"{path}: period: it does not read", expected=wanted, got=repr(value))
        )
    try:
        return str(resolve_period(value))
    except SpecError as err:
        raise SpecError(f"{path}: period: {err}") from None


def resolve_period(text: str, today: Month | None = None) -> Months:
    """Months of a period in which ``latest`` stands for the last month that is over.

    Raises
    ------
    SpecError
        When it is no period.
    """
    over = (today or Month.of(datetime.now(UTC))) + -1
    return Months.parse(text.replace("latest", str(over)))


def _card_located(choice: Any, folder: Path) -> Any:
    """A model's choice, the path of a card of one's own no longer relative to the spec."""
    card = choice.get("card") if isinstance(choice, dict) else None
    if not str(card).endswith((".yaml", ".yml")):
        return choice
    return {**choice, "card": _locate(str(card), folder)}


def read_area(value: Any, folder: Path) -> Any:
    """GeoJSON geometry of an area given as a file, a bounding box in degrees, or GeoJSON itself.

    Raises
    ------
    SpecError
        When it is none of these.
    """
    if isinstance(value, str):
        path = Path(_locate(value, folder))
        return Area.from_geojson(read_yaml(path), where=str(path)).geojson
    if isinstance(value, list):
        if len(value) != 4 or any(
            isinstance(v, bool) or not isinstance(v, int | float) for v in value
        ):
            raise SpecError(
                explain("area is not a box", expected="[west, south, east, north]", got=value)
            )
        return Area.from_bounds(Bounds(*value)).geojson
    return Area.from_geojson(value, where="area").geojson


def _filled(text: str) -> str:
    return _VARIABLE.sub(lambda m: _from_environment(m[1]) or m[2] or "", text)


def _locate(text: str, folder: Path) -> str:
    """A URL as it is; a path relative to the folder, with ``${NAME:-default}`` filled in."""
    filled = _filled(text)
    if "://" in filled:
        return filled
    return str((folder / Path(filled).expanduser()).resolve())


def _folder(text: str, path: Path) -> str:
    """Absolute path of a run's output: on this machine, and never the current folder by mistake.

    Raises
    ------
    SpecError
        For an address, for nothing, and for a variable that is not set.
    """
    filled = _filled(text)
    if not filled.strip() or "\0" in filled or "://" in filled:
        raise SpecError(
            explain(
                f"{path}: output: it is no folder of this machine",
                expected="a path, like runs/oscd",
                got=repr(text),
                do="Name a folder on a disk; a store is copied to a bucket when it is done.",
            )
        )
    return _locate(filled, Path())


def _from_environment(name: str) -> str:
    """A variable; a path in it is relative to the current folder, as in any shell."""
    value = os.environ.get(name, "")
    if "/" in value and "://" not in value:
        return str(Path(value).expanduser().absolute())
    return value
