"""Crops and scenes as Lightning asks for them."""

from __future__ import annotations

from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cdscale.errors import SpecError, explain
from cdscale.learn.augment import Drawing, Scene, draw_batch, jittered
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.scenes import Place, drawable, measure, read_places, weights_of

Tensors = tuple[Tensor, ...]


def seed_of(recipe: Recipe, step: int, *, drawing: bool) -> int:
    """Seed of one step: of what is drawn, or of what is dropped out."""
    return (2 * recipe.seed + drawing) * 1_000_003 + step


class Crops(Dataset[Tensors]):
    """The batches of one epoch: both dates of both sensors as the network is fed, and the label.

    A batch depends on the recipe's seed and on its step alone, whoever draws it and when.
    """

    def __init__(self, recipe: Recipe, scenes: list[Scene], how: Drawing, epoch: int) -> None:
        self.recipe, self.scenes, self.how = recipe, scenes, how
        self.first = epoch * recipe.sampling.steps

    def __len__(self) -> int:
        return self.recipe.sampling.steps

    def __getitem__(self, index: int) -> Tensors:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(self.recipe, self.first + index, drawing=True))
            batch = draw_batch(self.scenes, self.how)
            inputs = jittered(batch.inputs(self.how.normalisation), self.how.augment)
        return (*inputs.tensors(), batch.label)


class Wholes(Dataset[Tensors]):
    """Whole places: reflectance (2, B, Y, X), linear power (2, P, Y, X), label (Y, X)."""

    def __init__(self, places: list[Place], polarisations: int) -> None:
        self.places, self.polarisations = places, polarisations

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Tensors:
        place = self.places[index]
        radar = place.radar(self.polarisations)
        return tuple(torch.from_numpy(x) for x in (place.s2, radar, place.label))


class ChangeData(LightningDataModule):
    """The data of a recipe, read once.

    Parameters
    ----------
    recipe : Recipe
        With all its places named.
    root : Path
        Folder of the data set.
    workers : int
        Processes that draw crops; 0: this one. It changes no batch.

    Raises
    ------
    ReadError
        When a file of a place is absent or damaged.
    SpecError
        When no training place has the radar that the recipe wants.
    """

    def __init__(self, recipe: Recipe, root: Path, workers: int = 0) -> None:
        super().__init__()
        self.recipe, self.workers = recipe, workers
        train = read_places(recipe, root, recipe.split.train)
        if recipe.s1_bands and not any(place.s1 for place in train):
            raise SpecError(
                explain(
                    f"recipe {recipe.name}: radar of {recipe.data} at {root}",
                    expected=f"{' and '.join(recipe.s1_bands)} of at least one training place",
                    got="none",
                    do="Get the Sentinel-1 companion (`cdscale data download` tells how), or a "
                    "recipe with the polarisations that are there.",
                )
            )
        self.val = read_places(recipe, root, recipe.split.val)
        self.rule = measure(recipe, train)
        self.weights = weights_of(recipe, train)
        self.scenes = [drawable(recipe, place, self.rule) for place in train]

    def train_dataloader(self) -> DataLoader[Tensors]:
        """Batches of the epoch that is about to begin."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        recipe = self.recipe
        how = Drawing(recipe.s2_bands, recipe.sampling, recipe.augment, self.rule)
        crops = Crops(recipe, self.scenes, how, epoch)
        return DataLoader(crops, batch_size=None, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Tensors]:
        """Whole places that are held out."""
        return DataLoader(Wholes(self.val, len(self.recipe.s1_bands)), batch_size=None)
