"""Random crops of labelled pairs, made to look like the cubes that the network will be run on.

Cubes are resampled bilinearly to another grid, come as top-of-atmosphere or surface reflectance, in
any season, and sometimes without radar: each of these is a random operation here.

Where a card standardises by the image at hand, that image is the whole scene, not the crop, and it
is the scene as augmented. Gains and offsets move its moments as they move its pixels, so these are
known without touching the pixels outside the crop: ``mean' = (mean + offset) gain``, ``std' = std
gain``. What clips, and what befalls a part of the crop alone (soil, noise, holes), is taken to
leave the moments of the scene as they are. Standardising by the image thus undoes gains and
offsets, in training as in mapping, all but what clips; ``jitter`` varies what is left.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cdscale.learn.labels import IGNORED
from cdscale.models.inputs import (
    FLAT,
    Moments,
    Pair,
    PairMoments,
    change_inputs,
    s1_moments,
    s2_moments,
)
from cdscale.spec.base import Frozen
from cdscale.spec.card import Normalisation

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
_UNCHANGED_WEIGHT = 5
"""Of a candidate crop without a changed pixel."""


class Sampling(Frozen):
    """Which crops make an epoch."""

    crop: int = 96
    """Rows and columns."""
    batch: int = 16
    crops_per_epoch: int = 3200
    scenes: Literal["alike", "area_root", "area"] = "area_root"
    """A scene is drawn with a weight of 1, of the root of its area (large ones have more to show,
    but neighbouring crops are alike), or of its area (as if all crops of all were listed)."""
    near_change: float = 0.0
    """Probability that a crop is drawn round a changed pixel instead of anywhere."""
    centred: bool = False
    """Such a changed pixel is the central one, not anywhere inside."""
    candidates: int = 1
    """Of so many crops of a scene one is taken, weighted by its changed pixels plus 5 (S. Hafner et
    al., GRSL 2021)."""

    @property
    def steps(self) -> int:
        """Batches of an epoch; what does not fill one is left out."""
        return self.crops_per_epoch // self.batch


class Augment(Frozen):
    """Sizes of the random operations."""

    turn: bool = True
    """Mirrored or not, and turned by 0, 90, 180 or 270 degrees."""
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
    noise: float = 0.002
    """Standard deviation of noise of reflectance."""
    phenology: float = 0.0
    """Probability that vegetation of one date is replaced by soil, field by field or everywhere."""
    jitter: float = 0.0
    """Standard deviation of gain and offset of each band and date *after* standardisation."""
    swap: float = 0.5
    hole: float = 0.1
    """Probability of a rectangle without optical pixels."""
    s1_drop: float = 0.25
    s1_gain_db: float = 1.0
    s1_speckle: float = 0.2


@dataclass(frozen=True)
class Scene:
    """One labelled pair in memory: S2 (2, B, Y, X), S1 of each orbit (2, P, Y, X), label (Y, X).

    Moments are those of each band of the whole scene, (2, C, 1, 1).
    """

    s2: Tensor
    s1: tuple[Tensor, ...]
    label: Tensor
    changed: Tensor
    """Row and column of each changed pixel, (N, 2)."""
    s2_moments: Moments
    s1_moments: tuple[Moments, ...]

    @classmethod
    def of(cls, s2: Tensor, s1: tuple[Tensor, ...], label: Tensor, rule: Normalisation) -> Scene:
        """Find the changed pixels, and the moments where the rule asks for those of the image.

        Parameters
        ----------
        s2 : Tensor
            Reflectance (2, B, Y, X), NaN where absent.
        s1 : tuple of Tensor
            Linear power (2, P, Y, X) of each orbit; at least one, all NaN where there is no radar.
        label : Tensor
            (Y, X).
        rule : Normalisation
            How the network will see them.
        """
        channels, polarisations = s2.shape[1], s1[0].shape[1]
        of_s2, of_s1 = _no_moments(channels), (_no_moments(polarisations),) * len(s1)
        if rule.s2_standardise != "training":
            by_band = rule.model_copy(update={"s2_standardise": "image"})
            of_s2 = s2_moments(s2, by_band)
        if rule.s1_standardise != "none":
            of_s1 = tuple(s1_moments(orbit, rule) for orbit in s1)
        return cls(s2, s1, label, torch.nonzero(label == 1), of_s2, of_s1)


@dataclass(frozen=True)
class Batch:
    """Physical pair and label (B, Y, X) with IGNORED where nothing can be learnt.

    Moments are those of each band of the augmented scenes that the crops are of, (B, C, 1, 1), and
    mean nothing where the rule does not ask for them.
    """

    pair: Pair
    label: Tensor
    moments: PairMoments

    def inputs(self, rule: Normalisation) -> Pair:
        """What the network is given."""
        own = self.moments
        before, after = own.s2_before, own.s2_after
        if rule.s2_standardise == "training":
            before = after = s2_moments(self.pair.s2_before, rule)
        elif rule.s2_standardise == "image_scalar":
            before, after = _joint(before), _joint(after)
        moments = PairMoments(before, after, own.s1_before, own.s1_after)
        return change_inputs(self.pair, rule, moments)


def jittered(pair: Pair, rule: Augment) -> Pair:
    """Network inputs whose optical bands have another gain and offset each; holes stay 0."""
    if rule.jitter == 0:
        return pair

    def vary(x_BCYX: Tensor) -> Tensor:
        gain, offset = (rule.jitter * torch.randn(*x_BCYX.shape[:2], 1, 1) for _ in range(2))
        hole = (x_BCYX == 0).all(dim=1, keepdim=True)
        return (x_BCYX * (1 + gain) + offset).masked_fill(hole, 0.0)

    return Pair(vary(pair.s2_before), vary(pair.s2_after), pair.s1_before, pair.s1_after)


@dataclass(frozen=True)
class Drawing:
    """How crops are drawn: which bands the scenes have, which crops, how augmented, how fed."""

    bands: tuple[str, ...]
    sampling: Sampling
    augment: Augment
    normalisation: Normalisation


def draw_batch(scenes: list[Scene], how: Drawing) -> Batch:
    """Random crops, augmented; randomness is that of torch's global generator.

    Every scene must be at least :func:`window_size` pixels a side: :func:`filled` sees to it.
    """
    sampling, rule = how.sampling, how.augment
    areas = torch.tensor([float(scene.label.numel()) for scene in scenes])
    weights = areas ** {"alike": 0.0, "area_root": 0.5, "area": 1.0}[sampling.scenes]
    picked = torch.multinomial(weights, sampling.batch, replacement=True).tolist()
    windows = [_window(scenes[index], sampling, rule) for index in picked]
    s2, s1, label, *moments = (torch.stack(parts) for parts in zip(*windows, strict=True))
    s2_mean, s2_std, s1_mean, s1_std = moments
    if rule.resample > 0:
        s2, s1, label = _resample(s2, s1, label, (sampling.crop, rule))
    offset, gain = _radiometry(sampling.batch, how.bands, rule)
    s2 = _phenology(s2, how.bands, rule)
    s2 = s2.add_(offset).mul_(gain)
    if rule.noise:
        s2.add_(torch.randn_like(s2), alpha=rule.noise)
    s2.clamp_min_(0.0)
    s1, decibel = _speckle(s1, rule)
    s2, label = _holes(s2, label, rule)
    low, high = how.normalisation.s1_db_clip
    swapped = torch.rand(sampling.batch) < rule.swap
    dated = (
        s2, s1, (s2_mean + offset) * gain, s2_std * gain, s1_mean + decibel / (high - low), s1_std,
    )  # fmt: skip
    dates = [_swap(x, swapped).unbind(1) for x in dated]
    (s2_1, s2_2), (s1_1, s1_2) = dates[:2]
    of_s2, of_s1 = (
        [Moments(mean, std) for mean, std in zip(dates[k], dates[k + 1], strict=True)]
        for k in (2, 4)
    )
    return Batch(Pair(s2_1, s2_2, s1_1, s1_2), label, PairMoments(*of_s2, *of_s1))


def window_size(crop: int, rule: Augment) -> int:
    """Side of the source window that holds a crop at the largest scale and shift."""
    if rule.resample == 0:
        return crop
    return math.ceil(crop * rule.scale + 2 * (rule.shift + 1)) + 2


def filled(x: Tensor, side: int, value: float) -> Tensor:
    """Fill up (..., Y, X) to the right and below to at least ``side`` pixels."""
    down, right = (max(0, side - n) for n in x.shape[-2:])
    return functional.pad(x, (0, right, 0, down), value=value) if down or right else x


class _Window(NamedTuple):
    """Part of a scene: S2, S1, label, and moments of the whole of it."""

    s2: Tensor
    s1: Tensor
    label: Tensor
    s2_mean: Tensor
    s2_std: Tensor
    s1_mean: Tensor
    s1_std: Tensor


def _window(scene: Scene, sampling: Sampling, rule: Augment) -> _Window:
    """One source window in one of the eight orientations."""
    side = window_size(sampling.crop, rule)
    top, left = _best_corner(scene, sampling, side)
    rows, columns = slice(top, top + side), slice(left, left + side)
    orbit = _integer(len(scene.s1))
    parts = [x[..., rows, columns] for x in (scene.s2, scene.s1[orbit], scene.label)]
    turns, mirror = (_integer(4), _integer(2)) if rule.turn else (0, 0)
    parts = [torch.rot90(x, turns, (-2, -1)) for x in parts]
    if mirror:
        parts = [x.flip(-1) for x in parts]
    of_s2, of_s1 = scene.s2_moments, scene.s1_moments[orbit]
    moments = (x.float() for x in (of_s2.mean, of_s2.std, of_s1.mean, of_s1.std))
    return _Window(parts[0], parts[1], parts[2].long(), *moments)


def _best_corner(scene: Scene, sampling: Sampling, side: int) -> tuple[int, int]:
    """A corner, or one of several, the more likely the more change there is in its crop."""
    height, width = scene.label.shape
    corners = []
    for _ in range(sampling.candidates):
        top, left = _corner(scene, sampling, side)
        corners.append((min(max(top, 0), height - side), min(max(left, 0), width - side)))
    if len(corners) == 1:
        return corners[0]
    inside = [scene.label[top : top + side, left : left + side] == 1 for top, left in corners]
    weights = torch.stack([part.sum() for part in inside]) + _UNCHANGED_WEIGHT
    return corners[int(torch.multinomial(weights.float(), 1))]


def _corner(scene: Scene, sampling: Sampling, side: int) -> tuple[int, int]:
    """Upper left corner, anywhere or so that a changed pixel falls inside the crop."""
    height, width = scene.label.shape
    if len(scene.changed) and torch.rand(()) < sampling.near_change:
        row, column = scene.changed[_integer(len(scene.changed))].tolist()
        inner = 1 if sampling.centred else sampling.crop * 3 // 4
        margin = (side - inner) // 2
        return row - margin - _integer(inner), column - margin - _integer(inner)
    return _integer(height - side + 1), _integer(width - side + 1)


def _resample(
    s2: Tensor, s1: Tensor, label: Tensor, how: tuple[int, Augment]
) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear resampling to a grid of another pixel size; date 2 is shifted on its own.

    S2 and S1 are (B, 2 dates, C, Y, X), the label (B, Y, X); ``how`` is the size of the crop, and
    the rule.
    """
    crop, rule = how
    count, side = label.shape[0], label.shape[-1]
    moved = (torch.rand(count, 1) < rule.resample).float()
    scale = rule.scale ** (2 * torch.rand(count, 2) - 1)
    scale = torch.where(moved.bool(), scale, torch.ones(()))
    offset = moved * (torch.rand(count, 2) - 0.5)
    shift = moved * rule.shift * (2 * torch.rand(count, 2) - 1)
    first = _positions(scale, offset, crop, side)
    second = _positions(scale, offset + shift, crop, side)
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


def _radiometry(count: int, bands: tuple[str, ...], rule: Augment) -> tuple[Tensor, Tensor]:
    """Atmosphere of the pair, atmosphere and season of each date: offset, then gain.

    Both (B, 2 dates, C, 1, 1).
    """
    channels = len(bands)
    path = torch.tensor([PATH_REFLECTANCE.get(band, 0.01) for band in bands])[:, None, None]

    def normal(dates: int, each: int) -> Tensor:
        return torch.randn(count, dates, each, 1, 1)

    # 0.2: a little more haze than observed; -1: the atmosphere removed, and transmission with it.
    removed = 1.2 * torch.rand(count, 1, 1, 1, 1) - 0.2
    offset = -rule.atmosphere * removed * path + 0.25 * rule.atmosphere * path * normal(2, 1)
    gain = 1 + rule.atmosphere * (0.12 * removed + 0.03 * normal(1, channels))
    gain = gain * (1 + rule.season * normal(2, 1) + rule.season / 2 * normal(2, channels))
    return offset, gain


def _speckle(s1: Tensor, rule: Augment) -> tuple[Tensor, Tensor]:
    """Gain of the pair and of each date, speckle, and samples without radar.

    Returns
    -------
    tuple of Tensor
        S1, and the gains in dB, (B, 2 dates, 1, 1, 1).
    """
    count = s1.shape[0]
    decibel = rule.s1_gain_db * torch.randn(count, 1, 1, 1, 1)
    decibel = decibel + 0.3 * rule.s1_gain_db * torch.randn(count, 2, 1, 1, 1)
    factor = 10 ** (decibel / 10)
    if rule.s1_speckle:
        strength = rule.s1_speckle * torch.rand(count, 1, 1, 1, 1)
        factor = factor * torch.exp(strength * torch.randn_like(s1))
    dropped = (torch.rand(count) < rule.s1_drop)[:, None, None, None, None]
    return (s1 * factor).masked_fill(dropped, torch.nan), decibel


def _holes(s2: Tensor, label: Tensor, rule: Augment) -> tuple[Tensor, Tensor]:
    """Rectangles without optical pixels at one date or the other, and no label there."""
    for sample in torch.nonzero(torch.rand(len(label)) < rule.hole)[:, 0].tolist():
        crop = label.shape[-1]
        height, width = (min(crop, 8 + _integer(max(1, crop // 2))) for _ in range(2))
        top, left = _integer(crop - height + 1), _integer(crop - width + 1)
        rows, columns = slice(top, top + height), slice(left, left + width)
        s2[sample, _integer(2), :, rows, columns] = torch.nan
        label[sample, rows, columns] = IGNORED
    return s2, label


def _integer(bound: int) -> int:
    return int(torch.randint(bound, ()))


def _swap(x: Tensor, swapped: Tensor) -> Tensor:
    """The other date first, where a sample is to be swapped; (B, 2 dates, ...)."""
    if not swapped.any():
        return x
    swap = swapped.view(-1, *(1,) * (x.ndim - 1))
    return torch.where(swap, x.flip(1), x)


def _no_moments(channels: int) -> Moments:
    """For both dates of images that are not standardised by their own."""
    return Moments(torch.zeros(2, channels, 1, 1), torch.ones(2, channels, 1, 1))


def _joint(each: Moments) -> Moments:
    """Of all bands together, from those of each (B, C, 1, 1), which have as many pixels."""
    # A band that holds nothing has an infinite deviation, so that it is divided away.
    variance = torch.where(each.std.isinf(), 0.0, each.std).square()
    mean = each.mean.mean(dim=1, keepdim=True)
    variance = (variance + each.mean.square()).mean(dim=1, keepdim=True) - mean.square()
    std = variance.clamp_min(0.0).sqrt()
    return Moments(mean, torch.where(std < FLAT, torch.inf, std))
