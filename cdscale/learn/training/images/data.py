"""Crops of pairs of images, read from the files as they are drawn.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cdscale.learn.data import Sample, Window
from cdscale.learn.data.files import header
from cdscale.learn.images.scenes import pair_moments, read_filled
from cdscale.learn.labels import IGNORED
from cdscale.learn.training.data import Data, Draw, Tensors
from cdscale.learn.training.images.census import (
    census,
    moments_of,
    samples_in,
    weights_of,
)
from cdscale.learn.training.images.pseudo import pseudo_samples
from cdscale.learn.training.images.recipe import ImagesRecipe, Sampling
from cdscale.models.inputs import Pair, PairMoments, change_inputs
from cdscale.models.orientations import turned
from cdscale.spec.card import Normalisation

LABELS = ("change", "land_before", "land_after")


@dataclass(frozen=True)
class Pool:
    """Samples that crops are drawn from, alike.

    Parameters
    ----------
    samples : tuple of Sample
        Each as likely as another.
    changed : tuple of int arrays
        Of each: rows and columns of some changed pixels, (N, 2).
    moments : tuple of PairMoments
        Of each.
    """

    samples: tuple[Sample, ...]
    changed: tuple[NDArray[np.int64], ...]
    moments: tuple[PairMoments, ...]

    def draw(self, sampling: Sampling) -> tuple[int, Window]:
        """Number of a sample, and a window of it."""
        near = [k for k, points in enumerate(self.changed) if len(points)]
        if not near or torch.rand(()) >= sampling.near_change:
            number = _any(len(self.samples))
            shape = header(self.samples[number].grid_file).shape
            top, left = (_any(max(0, size - sampling.crop) + 1) for size in shape)
            return number, Window(top, left, sampling.crop, sampling.crop)
        number = near[_any(len(near))]
        shape = header(self.samples[number].grid_file).shape
        point = self.changed[number][_any(len(self.changed[number]))]
        top, left = (
            min(max(0, int(at) - _any(sampling.crop)), max(0, size - sampling.crop))
            for at, size in zip(point, shape, strict=True)
        )
        return number, Window(top, left, sampling.crop, sampling.crop)


@dataclass(frozen=True)
class Crops:
    """Draws both dates as the network is fed, change, and land cover of both dates.

    Land cover is 255 all over where the data set has none.
    """

    true: Pool
    pseudo: Pool | None
    share: float
    bands: tuple[str, ...]
    sampling: Sampling
    rule: Normalisation

    def __call__(self, index: int) -> Tensors:
        """One batch; any is as good as another."""
        del index
        crops = [self._one() for _ in range(self.sampling.batch)]
        return tuple(torch.stack(part) for part in zip(*crops, strict=True))

    def _one(self) -> Tensors:
        pool = self.true
        if self.pseudo is not None and torch.rand(()) < self.share:
            pool = self.pseudo
        number, window = pool.draw(self.sampling)
        sample = pool.samples[number]
        before, after = (
            torch.from_numpy(read_filled(sample, when, self.bands, window))
            for when in ("before", "after")
        )
        nothing = before[:0]
        pair = Pair(before, after, nothing, nothing)
        seen = change_inputs(pair, self.rule, pool.moments[number])
        labels = [_label(sample, name, window) for name in LABELS]
        orientation = _any(8) if self.sampling.turn else 0
        parts = (seen.s2_before.float(), seen.s2_after.float(), *labels)
        return tuple(turned(x, orientation).contiguous() for x in parts)


class Numbers(Dataset[Tensors]):
    """Numbers of the held-out samples, which are mapped window by window."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensors:
        return (torch.tensor(index),)


class ImagesData(Data):
    """The data of a recipe; labels of the training scenes are gone through once.

    Parameters
    ----------
    recipe : ImagesRecipe
        With all its places named.
    root : Path
        Folder of the data set.
    workers : int
        Processes that draw crops; 0: this one. It changes no batch.

    Raises
    ------
    ReadError
        When a file of a place is absent or damaged, or pseudo-labels are asked for and not there.
    UserError
        When the labels hold nothing to learn.
    """

    recipe: ImagesRecipe

    def __init__(self, recipe: ImagesRecipe, root: Path, workers: int = 0) -> None:
        super().__init__(recipe, workers)
        train = samples_in(recipe, root, recipe.split.train)
        self.val = samples_in(recipe, root, recipe.split.val)
        self.rule = moments_of(recipe, train)
        found = census(train)
        self.weights = weights_of(recipe, found)
        self.true = Pool(tuple(train), found.changed, self._moments(train))
        guessed = pseudo_samples(recipe, root)
        self.pseudo = (
            Pool(guessed, census(guessed).changed, self._moments(guessed)) if guessed else None
        )
        self.steps, self.held_out = recipe.sampling.steps, bool(self.val)

    def _moments(self, samples: Sequence[Sample]) -> tuple[PairMoments, ...]:
        return tuple(pair_moments(sample, self.recipe.s2_bands, self.rule) for sample in samples)

    def drawer(self, epoch: int) -> Draw:
        """Crops of any scene; all epochs are alike."""
        del epoch
        recipe = self.recipe
        share = recipe.pseudo.share if recipe.pseudo else 0.0
        return Crops(self.true, self.pseudo, share, recipe.s2_bands, recipe.sampling, self.rule)

    def validation(self) -> Numbers:
        """The held-out scenes by number, see ``val``."""
        return Numbers(len(self.val))


def _label(sample: Sample, name: str, window: Window) -> Tensor:
    if name not in sample.names:
        return torch.full((window.height, window.width), IGNORED, dtype=torch.uint8)
    return torch.from_numpy(read_filled(sample, name, None, window))


def _any(count: int) -> int:
    """A number below another, from torch's generator."""
    return int(torch.randint(count, ()))
