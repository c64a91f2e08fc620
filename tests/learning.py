"""Whether a recipe's network learns what its loss asks for: one batch, seen again and again."""

from __future__ import annotations

from pathlib import Path

import torch

from cdscale.learn.training.data import Batches
from cdscale.learn.training.kinds import course_of
from cdscale.learn.training.places import resolved
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.shipping import draft_card
from cdscale.models import build

STEPS = 25
MARGIN = 0.9
"""Of the first loss: no more than this share is left after ``STEPS``."""


def share_left(recipe: Recipe, root: Path) -> float:
    """Loss of a batch after some steps on it, as a share of what it was at first.

    Batch, loss and network are the recipe's; optimiser and rate are the same for all.
    """
    recipe = resolved(recipe, root)
    course = course_of(recipe.kind, recipe.name)
    data = course.data(recipe, root, 0)
    card = draft_card(recipe, root, data.rule)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        module = course.module(recipe, build(card), data, card).train()
        loader = data.train_dataloader()
        assert isinstance(loader.dataset, Batches)
        batch = loader.dataset[0]
        optimiser = torch.optim.Adam((p for p in module.parameters() if p.requires_grad), 1e-2)
        losses = []
        for _ in range(STEPS):
            loss = module.training_step(batch, 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    return min(losses[-3:]) / losses[0]
