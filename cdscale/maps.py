"""Maps of a cube as a lazy xarray dataset: what a run would write, without a run.

Blocks, halos and networks are those of the stages; only who asks for a tile is another.

Shape suffixes: B band, P polarisation, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from cdscale import models
from cdscale.errors import ModelError, SpecError, explain
from cdscale.months import Month
from cdscale.spec.card import ModelCard, Precision
from cdscale.spec.cube import ChangeQuality, UrbanQuality
from cdscale.spec.job import LARGEST_CORE
from cdscale.spec.product import SIMULATED_SCENES

Stack = NDArray[np.float32]


def predict(
    dataset: xr.Dataset,
    model: str,
    *,
    pairs: Sequence[tuple[str, str]] = (),
    tile: int = 0,
    precision: Precision = "float32",
    force: bool = False,
) -> xr.Dataset:
    """Map a cube with a network, lazily.

    Parameters
    ----------
    dataset : Dataset
        A cube as ``xarray.open_zarr`` gives it, or a part of it: ``s2`` (month, s2_band, y, x),
        reflectance, and ``s1`` (month, s1_band, y, x), linear power, NaN where nothing is. Without
        ``s1`` radar counts as absent.
    model : str
        Name of a model, or path of a ``.card.yaml`` file.
    pairs : sequence of (str, str)
        For a network of change: reference month and later month, like
        ``("2016-01", "2018-03")``; by default the first and the last month of the cube.
    tile : int
        Pixels along a side of what is mapped at once; by default the chunks of ``s2``. For a card
        that standardises by the image the tile and its halo are the image.
    precision : {"float32", "bfloat16"}
        Of the arithmetic inside the network; the latter as far as its card speaks for it.
    force : bool
        Map real scenes with a network that was trained on simulated ones, or in a precision that
        its card does not speak for.

    Returns
    -------
    Dataset
        Nothing of it is computed yet. ``probability`` (month, y, x), float32, NaN where a map says
        nothing, and ``quality``, uint8, codes as in ``urban.zarr`` or ``change.zarr``; of a network
        of change ``change`` too, uint8: 1 from the card's threshold on, 255 where there is nothing.
        Months of change are the later ones, and ``reference_month`` names the others. Computed on
        the scheduler that is in use, each tile by itself, on a GPU where the process has one.

    Raises
    ------
    ModelError
        When there is no such model, it maps neither urban land nor change of it, or the cube lacks
        its bands or is not what it was trained for.
    SpecError
        When a month or a variable is not in the cube, or the tile is no multiple of the stride.

    Examples
    --------
    >>> cube = xarray.open_zarr("runs/oscd/cube.zarr")  # doctest: +SKIP
    >>> maps = cdscale.predict(cube, "change-s1s2-oscd")  # doctest: +SKIP
    >>> (maps.change == 1).sum().compute()  # doctest: +SKIP
    """
    card = models.load_card(model)
    if card.task not in {"change", "urban"}:
        raise ModelError(
            explain(
                f"model {card.name} does not map cubes",
                expected="a model whose task is change or urban",
                got=card.task,
                do="Use `cdscale predict` on images.",
            )
        )
    cube = _Cube.of(dataset, card)
    card.refuse(
        s2_bands=cube.bands,
        simulated=SIMULATED_SCENES in str(dataset.attrs.get("comment", "")),
        force=force,
    )
    card.refuse_precision(precision, force=force)
    side = _tile_of(dataset, card, tile)
    how = _How(card, model, precision, min(side, LARGEST_CORE))
    if card.task == "urban":
        return _assembled(cube, [(month,) for month in cube.months], how, side)
    chosen = pairs or [(cube.months[0], cube.months[-1])]
    return _assembled(cube, [cube.pair(pair) for pair in chosen], how, side)


@dataclass(frozen=True)
class _How:
    """A network as every tile of a cube sees it."""

    card: ModelCard
    model: str
    precision: Precision
    core: int


class _Cube:
    """A cube as its networks want it: bands chosen, months named, radar there or not."""

    def __init__(self, dataset: xr.Dataset, card: ModelCard, bands: tuple[str, ...]) -> None:
        self.dataset, self.card, self.bands = dataset, card, bands
        months = dataset["month"].values.astype("datetime64[M]")
        self.months = [str(month) for month in months]
        self.shape = (dataset.sizes["y"], dataset.sizes["x"])

    @classmethod
    def of(cls, dataset: xr.Dataset, card: ModelCard) -> _Cube:
        """Refuse what is no cube.

        Raises
        ------
        SpecError
            Naming the variable or the axis that is missing.
        """
        wanted = {"s2": ("month", "s2_band", "y", "x"), "s1": ("month", "s1_band", "y", "x")}
        for name, dims in wanted.items():
            got = dataset[name].dims if name in dataset else None
            if got != dims and not (name == "s1" and got is None):
                raise SpecError(
                    explain(
                        f"the dataset is not a cube: {name}",
                        expected=f"dimensions {', '.join(dims)}",
                        got="no such variable" if got is None else ", ".join(map(str, got)),
                        do="Open cube.zarr of a run with xarray.open_zarr.",
                    )
                )
        return cls(dataset, card, tuple(map(str, dataset["s2_band"].values)))

    def pair(self, months: tuple[str, str]) -> tuple[str, ...]:
        """Reference month and later month, as the cube has them.

        Raises
        ------
        SpecError
            When they are not two of its months.
        """
        known = tuple(str(Month.parse(month)) for month in months)
        if len(known) != 2 or known[0] == known[1] or not set(known) <= set(self.months):
            raise SpecError(
                explain(
                    "a pair of months",
                    expected=f"two different ones of {', '.join(self.months)}",
                    got=", ".join(known),
                )
            )
        return known

    def optical(self, month: str) -> da.Array:
        """Reflectance of the card's bands, (B, Y, X)."""
        layer = self.dataset["s2"].isel(month=self.months.index(month))
        return _lazy(layer.sel(s2_band=list(self.card.s2_bands)))

    def radar(self, month: str) -> da.Array:
        """Linear power of the card's polarisations, (P, Y, X), NaN of those that are not there."""
        there = self.dataset["s1_band"].values.tolist() if "s1" in self.dataset else []
        empty = da.full(self.shape, np.nan, np.float32)
        if not there:
            absent: da.Array = da.stack([empty] * len(self.card.s1_bands))
            return absent
        layer = self.dataset["s1"].isel(month=self.months.index(month))
        planes = [
            _lazy(layer.sel(s1_band=band)) if band in there else empty
            for band in self.card.s1_bands
        ]
        stack: da.Array = da.stack(planes)
        return stack


def _lazy(layer: xr.DataArray) -> da.Array:
    data = layer.data
    array = data if isinstance(data, da.Array) else da.from_array(data)
    planes: da.Array = array.astype(np.float32)
    return planes


def _tile_of(dataset: xr.Dataset, card: ModelCard, tile: int) -> int:
    """Pixels along a side of what is mapped at once."""
    chunks = dataset["s2"].encoding.get("shards") or dataset["s2"].encoding.get("chunks")
    side = tile or (int(chunks[-1]) if chunks else max(dataset.sizes["y"], dataset.sizes["x"]))
    if side < card.halo or side % card.stride:
        raise SpecError(
            explain(
                f"tile for model {card.name}",
                expected=f"at least {card.halo} pixels, and a multiple of {card.stride}",
                got=side,
                do="Give `tile`.",
            )
        )
    return side


def _assembled(cube: _Cube, groups: Sequence[tuple[str, ...]], how: _How, side: int) -> xr.Dataset:
    """Maps of groups of months, put together."""
    card = how.card
    names = ("probability", "change", "quality") if card.task == "change" else (
        "probability", "quality",
    )  # fmt: skip
    layers = [_maps(cube, group, how, side) for group in groups]
    months = [np.datetime64(group[-1], "ns") for group in groups]
    found = xr.Dataset(
        {
            name: (("month", "y", "x"), da.stack([layer[i] for layer in layers]).astype(kind))
            for i, (name, kind) in enumerate(zip(names, _kinds(names), strict=True))
        },
        coords={"month": months, "y": cube.dataset["y"], "x": cube.dataset["x"]},
        attrs={"model": f"{card.name} {card.version}", "threshold": card.threshold},
    )
    codes = ChangeQuality if card.task == "change" else UrbanQuality
    found["quality"].attrs |= {
        "flag_values": [int(code) for code in codes],
        "flag_meanings": " ".join(code.name for code in codes),
    }
    if card.task == "change":
        earlier = [np.datetime64(group[0], "ns") for group in groups]
        found = found.assign_coords(reference_month=("month", earlier))
    if "spatial_ref" in cube.dataset.coords:
        found = found.assign_coords(spatial_ref=cube.dataset["spatial_ref"])
    return found


def _kinds(names: Sequence[str]) -> list[type[np.generic]]:
    return [np.float32 if name == "probability" else np.uint8 for name in names]


def _maps(cube: _Cube, months: tuple[str, ...], how: _How, side: int) -> da.Array:
    """All variables of one group of months as one array of numbers, (variable, Y, X)."""
    card, (height, width) = how.card, cube.shape
    around = (
        (0, 0),
        (card.halo, card.halo + -height % side),
        (card.halo, card.halo + -width % side),
    )
    stacks = [
        da.pad(stack, around, constant_values=np.nan)
        for month in months
        for stack in (cube.optical(month), cube.radar(month))
    ]
    reach = side + 2 * card.halo
    task = delayed(partial(_one_tile, how=how))
    count = 3 if card.task == "change" else 2
    rows = [
        [
            da.from_delayed(
                task([stack[:, top : top + reach, left : left + reach] for stack in stacks]),
                (count, side, side),
                np.float32,
            )
            for left in range(0, width, side)
        ]
        for top in range(0, height, side)
    ]
    whole: da.Array = da.block(rows)[:, :height, :width]
    return whole


def _one_tile(stacks: list[Stack], how: _How) -> Stack:
    """The stages' own layers of one tile, on whatever device this process has."""
    from cdscale import inference
    from cdscale.kernels import unpack_probability
    from cdscale.stages.maps import change_layers, urban_layers

    card, home = how.card, models.folder_of(how.model)
    network = models.load(card, inference.best_device(), how.precision, home)
    pairs: Any = zip(stacks[::2], stacks[1::2], strict=True)
    blocks = [inference.Block(np.asarray(s2), np.asarray(s1)) for s2, s1 in pairs]
    if card.task == "change":
        layers = change_layers(network, card, (blocks[0], blocks[1]), how.core)
        names = ["change", "quality"]
    else:
        layers, names = urban_layers(network, card, blocks[0], how.core), ["quality"]
    probability = unpack_probability(layers["probability"])
    return np.stack([probability, *(layers[name].astype(np.float32) for name in names)])


__all__ = ["predict"]
