"""Random crops of months, and whole months.

Shape suffixes: B sample or band, P polarisation, Y row, X column.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cdscale.errors import SpecError, explain
from cdscale.learn.augment import filled
from cdscale.learn.data import Sample
from cdscale.learn.labels import IGNORED
from cdscale.learn.training.data import Data, Tensors
from cdscale.learn.training.month.months import Month, measure, read_month, samples_in
from cdscale.learn.training.month.recipe import MonthAugment, MonthRecipe
from cdscale.models.inputs import s1_input, s2_input
from cdscale.spec.card import Normalisation


@dataclass(frozen=True)
class Crops:
    """Draws a batch of an epoch: one random crop of each of its samples, as the network is fed.

    A batch is radar (B, P, Y, X), optical (B, bands, Y, X), where optical was seen (B, Y, X), and
    the label (B, Y, X).
    """

    recipe: MonthRecipe
    months: list[Month]
    order: list[int]
    """Of the months in this epoch."""
    rule: Normalisation

    def __call__(self, index: int) -> Tensors:
        """The batch of a number."""
        sampling, augment = self.recipe.sampling, self.recipe.augment
        own = self.order[index * sampling.batch : (index + 1) * sampling.batch]
        parts = [_crop(self.months[number], sampling.crop, augment.turn) for number in own]
        s1, s2, seen, label = (torch.stack(column) for column in zip(*parts, strict=True))
        gain_s2, gain_s1, dropped = _radiometry(len(own), s2.shape[1], augment)
        seen = seen & ~dropped[:, None, None]
        s2 = (s2 * gain_s2).masked_fill(dropped[:, None, None, None], torch.nan)
        return s1_input(s1 * gain_s1, self.rule), s2_input(s2, self.rule), seen, label.long()


class Wholes(Dataset[Tensors]):
    """Whole months, read one by one: power, reflectance, where optical was seen, label."""

    def __init__(self, recipe: MonthRecipe, samples: list[Sample]) -> None:
        self.recipe, self.samples = recipe, samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensors:
        return tensors_of(read_month(self.recipe, self.samples[index]))


class MonthData(Data):
    """The months of a recipe; those that are trained on are held in memory.

    Parameters
    ----------
    recipe : MonthRecipe
        With all its places named.
    root : Path
        Folder of the data set.
    workers : int
        Processes that draw crops; 0: this one. It changes no batch.

    Raises
    ------
    ReadError
        When a file is absent or damaged, or a month has no label.
    SpecError
        When there are fewer months than a batch takes.
    """

    recipe: MonthRecipe

    def __init__(self, recipe: MonthRecipe, root: Path, workers: int = 0) -> None:
        super().__init__(recipe, workers)
        samples = samples_in(recipe, root, recipe.split.train)
        self.steps = len(samples) // recipe.sampling.batch
        if not self.steps:
            raise SpecError(
                explain(
                    f"recipe {recipe.name}: sampling.batch",
                    expected=f"at most the {len(samples)} months that are trained on",
                    got=recipe.sampling.batch,
                )
            )
        self.months = [read_month(recipe, sample) for sample in samples]
        self.rule = measure(recipe, self.months)
        self.val = samples_in(recipe, root, recipe.split.val)
        self.held_out = bool(self.val)

    def drawer(self, epoch: int) -> Crops:
        """Every month once, in an order of its own."""
        order = np.random.default_rng([self.recipe.seed, epoch]).permutation(len(self.months))
        return Crops(self.recipe, self.months, order.tolist(), self.rule)

    def validation(self) -> Wholes:
        """Whole months of the places that are held out."""
        return Wholes(self.recipe, self.val)


def tensors_of(month: Month) -> Tensors:
    """Power (P, Y, X), reflectance (B, Y, X), where optical was seen and label (Y, X)."""
    parts = (month.s1, month.s2, month.seen, month.label)
    return tuple(torch.from_numpy(x) for x in parts)


def _crop(month: Month, side: int, turn: bool) -> list[Tensor]:
    """A random square, turned; what a month lacks of it is filled up with nothing."""
    fills = (torch.nan, torch.nan, False, IGNORED)
    planes = [filled(x, side, v) for x, v in zip(tensors_of(month), fills, strict=True)]
    height, width = planes[-1].shape
    top, left = _integer(height - side + 1), _integer(width - side + 1)
    parts = [x[..., top : top + side, left : left + side] for x in planes]
    turns, mirror = (_integer(4), _integer(2)) if turn else (0, 0)
    parts = [torch.rot90(x, turns, (-2, -1)) for x in parts]
    return [x.flip(-1) if mirror else x for x in parts]


def _radiometry(count: int, bands: int, rule: MonthAugment) -> tuple[Tensor, Tensor, Tensor]:
    """Gains of optical (B, bands, 1, 1) and radar (B, 1, 1, 1); which lose their optical (B,)."""
    gain = 1 + rule.season * torch.randn(count, 1, 1, 1)
    gain = gain * (1 + rule.season / 2 * torch.randn(count, bands, 1, 1))
    dropped = torch.rand(count) < rule.s2_drop
    decibel = rule.s1_gain_db * torch.randn(count, 1, 1, 1)
    return gain, 10 ** (decibel / 10), dropped


def _integer(bound: int) -> int:
    return int(torch.randint(bound, ()))
