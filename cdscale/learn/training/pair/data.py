"""Crops and whole places of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import Dataset

from cdscale.errors import SpecError, explain
from cdscale.learn.augment import Drawing, Scene, draw_batch, jittered
from cdscale.learn.training.data import Data, Tensors
from cdscale.learn.training.pair.recipe import PairRecipe
from cdscale.learn.training.pair.scenes import Place, drawable, measure, read_places, weights_of


@dataclass(frozen=True)
class Crops:
    """Draws both dates of both sensors as the network is fed, and the label."""

    scenes: list[Scene]
    how: Drawing

    def __call__(self, index: int) -> Tensors:
        """One batch; any is as good as another."""
        del index
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


class ChangeData(Data):
    """The data of a recipe, read once.

    Parameters
    ----------
    recipe : PairRecipe
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

    recipe: PairRecipe

    def __init__(self, recipe: PairRecipe, root: Path, workers: int = 0) -> None:
        super().__init__(recipe, workers)
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
        self.steps, self.held_out = recipe.sampling.steps, bool(self.val)
        self.scenes = [drawable(recipe, place, self.rule) for place in train]

    def drawer(self, epoch: int) -> Crops:
        """Crops of any place; all epochs are alike."""
        del epoch
        recipe = self.recipe
        how = Drawing(recipe.s2_bands, recipe.sampling, recipe.augment, self.rule)
        return Crops(self.scenes, how)

    def validation(self) -> Wholes:
        """Whole places that are held out."""
        return Wholes(self.val, len(self.recipe.s1_bands))
