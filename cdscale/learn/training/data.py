"""Batches as Lightning asks for them, each from the recipe's seed and its step alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cdscale.learn.training.recipe import Recipe
from cdscale.spec.card import Normalisation

Tensors = tuple[Tensor, ...]
Draw = Callable[[int], Tensors]
"""From the number of a batch in its epoch to the batch, with torch's global generator.

Picklable, since processes may be started for it."""


def seed_of(recipe: Recipe, step: int, *, drawing: bool) -> int:
    """Seed of one step: of what is drawn, or of what is dropped out."""
    return (2 * recipe.seed + drawing) * 1_000_003 + step


class Batches(Dataset[Tensors]):
    """The batches of one epoch.

    A batch depends on the recipe's seed and on its step alone, whoever draws it and when.

    Parameters
    ----------
    recipe : Recipe
        Of which the seed counts.
    draw : callable
        Draws one.
    epoch, steps : int
        Number of the epoch, from 0, and of the batches in each.
    """

    def __init__(self, recipe: Recipe, draw: Draw, epoch: int, steps: int) -> None:
        self.recipe, self.draw, self.steps = recipe, draw, steps
        self.first = epoch * steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Tensors:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.recipe, self.first + index, drawing=True))
            return self.draw(index)


class Data(LightningDataModule):
    """The data of a recipe. A kind reads it, and says how a batch is drawn.

    Parameters
    ----------
    recipe : Recipe
        With all its places named.
    workers : int
        Processes that draw batches; 0: this one. It changes no batch.

    Attributes
    ----------
    rule : Normalisation
        The recipe's, with moments of the training places where it asks for them; the card's.
    steps : int
        Batches of an epoch.
    held_out : bool
        Whether there is anything to validate on.
    """

    rule: Normalisation
    steps: int
    held_out: bool

    def __init__(self, recipe: Recipe, workers: int) -> None:
        super().__init__()
        self.recipe, self.workers = recipe, workers

    @abstractmethod
    def drawer(self, epoch: int) -> Draw:
        """How the batches of an epoch are drawn."""

    @abstractmethod
    def validation(self) -> Dataset[Any]:
        """Whole scenes that are held out, one by one."""

    def train_dataloader(self) -> DataLoader[Tensors]:
        """Batches of the epoch that is about to begin."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        batches = Batches(self.recipe, self.drawer(epoch), epoch, self.steps)
        return DataLoader(batches, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """See :meth:`validation`."""
        return DataLoader(self.validation(), batch_size=None)
