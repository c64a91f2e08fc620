"""Random crops of OSCD cities, made to look like the cubes that the network will be run on.

Cubes are resampled bilinearly to another grid, come as top-of-atmosphere or surface reflectance, in
any season, and sometimes without radar: each of these is a random operation here.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from cdscale.learn.losses import IGNORED
from cdscale.models.inputs import Pair
from cdscale.spec.base import Frozen

PATH_REFLECTANCE = {
    "B02": 0.075, "B03": 0.045, "B04": 0.030, "B05": 0.025, "B06": 0.015,
    "B07": 0.012, "B08": 0.010, "B8A": 0.008, "B11": 0.003, "B12": 0.002,
}  # fmt: skip
"""Typical share of the atmosphere in top-of-atmosphere reflectance, by band."""


BARE_SOIL = {
    "B02": 0.120, "B03": 0.120, "B04": 0.140, "B05": 0.155, "B06": 0.165,
    "B07": 0.175, "B08": 0.180, "B8A": 0.190, "B11": 0.250, "B12": 0.200,
}  # fmt: skip
"""Top-of-atmosphere reflectance of a field after harvest, by band."""

_FIELDS = 48
"""Parcels that a crop is cut into when vegetation goes field by field."""


class Augment(Frozen):
    """Sizes of the random operations."""

    crop: int = 96
    near_change: float = 0.5
    """Probability that a crop is drawn round a changed pixel instead of anywhere."""
    resample: float = 0.75
    """Probability that a sample is resampled to another grid at all."""
    scale: float = 1.25
    """Largest factor, per axis and either way, between the grids."""
    shift: float = 0.7
    """Largest shift of date 2 against date 1 in pixels, per axis."""
    atmosphere: float = 1.0
    """1: anything from top-of-atmosphere to over-corrected surface reflectance."""
    season: float = 0.06
    """Standard deviation of a date's gain over all bands; half of it again per band."""
    phenology: float = 0.0
    """Probability that vegetation of one date is replaced by soil, field by field or everywhere."""
    swap: float = 0.5
    hole: float = 0.1
    """Probability of a rectangle without optical pixels."""
    s1_drop: float = 0.25
    s1_gain_db: float = 1.0
    s1_speckle: float = 0.2


@dataclass(frozen=True)
class Scene:
    """One labelled pair in memory: S2 (2, B, Y, X), S1 of each orbit (2, P, Y, X), label (Y, X)."""

    s2: Tensor
    s1: tuple[Tensor, ...]
    label: Tensor
    changed: Tensor
    """Row and column of each changed pixel, (N, 2)."""


@dataclass(frozen=True)
class Batch:
    """Physical pair and label (B, Y, X) with IGNORED where nothing can be learnt."""

    pair: Pair
    label: Tensor


def draw_batch(scenes: list[Scene], bands: tuple[str, ...], rule: Augment, size: int) -> Batch:
    """Random crops, augmented; randomness is that of torch's global generator.

    Cities are drawn with weight proportional to the square root of their area: large ones have
    more to show, but neighbouring crops are alike.
    """
    areas = torch.tensor([float(scene.label.numel()) for scene in scenes]).sqrt()
    picked = torch.multinomial(areas, size, replacement=True).tolist()
    windows = [_window(scenes[index], rule) for index in picked]
    s2, s1, label = (torch.stack(parts) for parts in zip(*windows, strict=True))
    s2, s1, label = _resample(s2, s1, label, rule)
    s2 = _radiometry(_phenology(s2, bands, rule), bands, rule)
    s1 = _speckle(s1, rule)
    s2, label = _holes(s2, label, rule)
    swapped = (torch.rand(size) < rule.swap)[:, None, None, None, None]
    s2, s1 = (torch.where(swapped, x.flip(1), x) for x in (s2, s1))
    return Batch(Pair(s2[:, 0], s2[:, 1], s1[:, 0], s1[:, 1]), label)


def window_size(rule: Augment) -> int:
    """Side of the source window that holds a crop at the largest scale and shift."""
    return math.ceil(rule.crop * rule.scale + 2 * (rule.shift + 1)) + 2


def _window(scene: Scene, rule: Augment) -> tuple[Tensor, Tensor, Tensor]:
    """One source window in one of the eight orientations."""
    side = window_size(rule)
    height, width = scene.label.shape
    top, left = _corner(scene, rule, side)
    top, left = min(max(top, 0), height - side), min(max(left, 0), width - side)
    rows, columns = slice(top, top + side), slice(left, left + side)
    s2 = scene.s2[..., rows, columns]
    if scene.s1:
        s1 = scene.s1[_integer(len(scene.s1))][..., rows, columns]
    else:
        s1 = torch.full((2, 1, side, side), torch.nan)
    turns, mirror = _integer(4), _integer(2)
    parts = [torch.rot90(x, turns, (-2, -1)) for x in (s2, s1, scene.label[rows, columns])]
    if mirror:
        parts = [x.flip(-1) for x in parts]
    return parts[0], parts[1], parts[2]


def _corner(scene: Scene, rule: Augment, side: int) -> tuple[int, int]:
    """Upper left corner, anywhere or so that a changed pixel falls inside the crop."""
    height, width = scene.label.shape
    if len(scene.changed) and torch.rand(()) < rule.near_change:
        row, column = scene.changed[_integer(len(scene.changed))].tolist()
        inner = rule.crop * 3 // 4
        margin = (side - inner) // 2
        return row - margin - _integer(inner), column - margin - _integer(inner)
    return _integer(height - side + 1), _integer(width - side + 1)


def _resample(s2: Tensor, s1: Tensor, label: Tensor, rule: Augment) -> tuple[Tensor, ...]:
    """Bilinear resampling to a grid of another pixel size; date 2 is shifted on its own.

    S2 and S1 are (B, 2 dates, C, Y, X), the label (B, Y, X).
    """
    count, side = label.shape[0], label.shape[-1]
    moved = (torch.rand(count, 1) < rule.resample).float()
    scale = rule.scale ** (2 * torch.rand(count, 2) - 1)
    scale = torch.where(moved.bool(), scale, torch.ones(()))
    offset = moved * (torch.rand(count, 2) - 0.5)
    shift = moved * rule.shift * (2 * torch.rand(count, 2) - 1)
    first = _positions(scale, offset, rule.crop, side)
    second = _positions(scale, offset + shift, rule.crop, side)
    planes = torch.cat((s2, s1), dim=2)
    before, after = (
        functional.grid_sample(planes[:, date], grid, mode="bilinear", align_corners=True)
        for date, grid in ((0, first), (1, second))
    )
    both = torch.stack((before, after), dim=1)
    nearest = functional.grid_sample(
        label[:, None].float(), first, mode="nearest", align_corners=True
    )
    bands = s2.shape[2]
    return both[:, :, :bands], both[:, :, bands:], nearest[:, 0].round().long()


def _positions(scale: Tensor, offset: Tensor, crop: int, side: int) -> Tensor:
    """Sampling grid (B, crop, crop, 2) round the centre of the window."""
    steps = torch.arange(crop, dtype=torch.float32) - (crop - 1) / 2
    # Whole source pixels when neither scaled nor shifted, so that nothing is blurred then.
    centre = float((side - crop) // 2) + (crop - 1) / 2
    axes = centre + offset[:, :, None] + scale[:, :, None] * steps
    axes = 2 * axes / (side - 1) - 1
    y, x = axes[:, 0, :, None], axes[:, 1, None, :]
    return torch.stack((x.expand(-1, crop, crop), y.expand(-1, crop, crop)), dim=-1)


def _phenology(s2: Tensor, bands: tuple[str, ...], rule: Augment) -> Tensor:
    """Harvest, or winter: green pixels of one date go towards soil, and the label stays.

    Fields, parks and gardens that are green at one date and bare at the other are no change.
    """
    if rule.phenology == 0 or not {"B04", "B08"} <= set(bands):
        return s2
    count, _, _, side, _ = s2.shape
    red, near = (s2[:, :, bands.index(band)] for band in ("B04", "B08"))
    green = ((near - red) / (near + red).clamp_min(1e-3) - 0.2).div(0.5).clamp(0, 1)
    field = _fields(count, side)
    mown = torch.rand(count, _FIELDS) * (torch.rand(count, _FIELDS) < 0.6)
    everywhere = torch.rand(count, 1) < 0.3
    mown = torch.where(everywhere, torch.rand(count, 1), mown)
    share = mown.gather(1, field.flatten(1)).view(count, 1, 1, side, side) * green[:, :, None]
    chosen = torch.zeros(count, 2)
    chosen[torch.arange(count), torch.randint(2, (count,))] = 1
    chosen *= (torch.rand(count, 1) < rule.phenology).float()
    share = share * chosen[:, :, None, None, None]
    soil = torch.tensor([BARE_SOIL.get(band, 0.15) for band in bands])[:, None, None]
    light = 0.7 + 0.6 * torch.rand(count, _FIELDS)
    ground = soil * light.gather(1, field.flatten(1)).view(count, 1, 1, side, side)
    return s2 * (1 - share) + ground * share


def _fields(count: int, side: int) -> Tensor:
    """Number of the nearest of some random points, (B, Y, X): parcels with straight borders."""
    points = side * torch.rand(count, _FIELDS, 2)
    axis = torch.arange(side, dtype=torch.float32)
    down = (points[:, :, 0, None] - axis).square()
    across = (points[:, :, 1, None] - axis).square()
    return (down[:, :, :, None] + across[:, :, None, :]).argmin(dim=1)


def _radiometry(s2: Tensor, bands: tuple[str, ...], rule: Augment) -> Tensor:
    """Atmosphere of the pair, atmosphere and season of each date, and a little noise."""
    count, channels = s2.shape[0], s2.shape[2]
    path = torch.tensor([PATH_REFLECTANCE.get(band, 0.01) for band in bands])[:, None, None]

    def normal(dates: int, each: int) -> Tensor:
        return torch.randn(count, dates, each, 1, 1)

    # 0.2: a little more haze than observed; -1: the atmosphere removed, and transmission with it.
    removed = 1.2 * torch.rand(count, 1, 1, 1, 1) - 0.2
    offset = -rule.atmosphere * removed * path + 0.25 * rule.atmosphere * path * normal(2, 1)
    gain = 1 + rule.atmosphere * (0.12 * removed + 0.03 * normal(1, channels))
    gain = gain * (1 + rule.season * normal(2, 1) + rule.season / 2 * normal(2, channels))
    return ((s2 + offset) * gain + 0.002 * torch.randn_like(s2)).clamp_min(0.0)


def _speckle(s1: Tensor, rule: Augment) -> Tensor:
    """Gain of the pair and of each date, speckle, and samples without radar."""
    count = s1.shape[0]
    decibel = rule.s1_gain_db * torch.randn(count, 1, 1, 1, 1)
    decibel = decibel + 0.3 * rule.s1_gain_db * torch.randn(count, 2, 1, 1, 1)
    strength = rule.s1_speckle * torch.rand(count, 1, 1, 1, 1)
    factor = 10 ** (decibel / 10) * torch.exp(strength * torch.randn_like(s1))
    dropped = (torch.rand(count) < rule.s1_drop)[:, None, None, None, None]
    return (s1 * factor).masked_fill(dropped, torch.nan)


def _holes(s2: Tensor, label: Tensor, rule: Augment) -> tuple[Tensor, Tensor]:
    """Rectangles without optical pixels at one date or the other, and no label there."""
    for sample in torch.nonzero(torch.rand(len(label)) < rule.hole)[:, 0].tolist():
        height, width = (8 + _integer(rule.crop // 2) for _ in range(2))
        top, left = _integer(rule.crop - height + 1), _integer(rule.crop - width + 1)
        rows, columns = slice(top, top + height), slice(left, left + width)
        s2[sample, _integer(2), :, rows, columns] = torch.nan
        label[sample, rows, columns] = IGNORED
    return s2, label


def _integer(bound: int) -> int:
    return int(torch.randint(bound, ()))
