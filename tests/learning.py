"""Whether a recipe's network learns what its loss asks for: one batch, seen again and again.

Shape suffixes: B sample, C class, Y row, X column.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from cdscale.learn.labels import IGNORED
from cdscale.learn.training.data import Batches
from cdscale.learn.training.images.module import ImagesTraining
from cdscale.learn.training.kinds import course_of
from cdscale.learn.training.module import Training
from cdscale.learn.training.month.module import MonthTraining
from cdscale.learn.training.pair.module import ChangeTraining
from cdscale.learn.training.places import resolved
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.shipping import draft_card
from cdscale.models import build
from cdscale.models.hrscd import SemanticChange

STEPS = 25
"""At most so many: learning is looked for after every :data:`LOOK` steps."""
LOOK = 8
MARGIN = 0.9
"""Of the first loss: no more than this share is left."""
GAIN = 0.1
"""Of average precision on the batch: at least this much is gained."""

Head = tuple[Tensor, Tensor]
"""Logits (B, C, Y, X) of classes, or (B, 1, Y, X) of one, and the label (B, Y, X)."""


class Learned(NamedTuple):
    """What became of a batch: the loss as a share of the first, average precision gained."""

    left: float
    gained: float

    @property
    def enough(self) -> bool:
        return self.left < MARGIN and self.gained > GAIN


def learned(recipe: Recipe, root: Path) -> Learned:
    """Loss and average precision on a batch after some steps on it, against what they were.

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
        losses, before = [], precision(module, batch)
        for step in range(1, STEPS + 1):
            loss = module.training_step(batch, 0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            if step % LOOK == 0 or step == STEPS:
                gained = precision(module, batch) - before
                found = Learned(min(losses[-3:]) / losses[0], gained)
                if found.enough:
                    break
        return found


def precision(module: Training, batch: tuple[Tensor, ...]) -> float:
    """Average precision of each class that a batch holds, their mean over classes and answers.

    Batches are normalised as in training: 25 steps do not move the running means to their place.
    """
    with torch.no_grad():
        answers = heads(module, batch)
    found = []
    for logits_BCYX, label_BYX in answers:
        counted = label_BYX != IGNORED
        said = logits_BCYX.float()
        classes: tuple[int, ...] = (1,)
        if said.shape[1] <= 2:
            said = said[:, -1:] - (said[:, :1] if said.shape[1] == 2 else 0)
        else:
            said, classes = said.softmax(dim=1), tuple(range(said.shape[1]))
        for at, number in enumerate(classes):
            true = (label_BYX == number)[counted].numpy()
            if true.any() and not true.all():
                found.append(average_precision_score(true, said[:, at][counted].numpy()))
    assert found, "the batch shows nothing that could be ranked"
    return float(np.mean(found))


def heads(module: Training, batch: tuple[Tensor, ...]) -> list[Head]:
    """All that a network answers, and what would be right."""
    if isinstance(module, ChangeTraining):
        *inputs, label = batch
        return [module._answer(inputs, label)]
    if isinstance(module, MonthTraining):
        s1, s2, seen, label = batch
        return [(module.network(s1, s2, seen), label)]
    assert isinstance(module, ImagesTraining)
    before, after, *labels = batch
    first = module.recipe.land_epochs and not module.second
    said = module.network.land_cover_of(before, after) if first else module.network(before, after)
    if isinstance(said, Tensor):
        said = SemanticChange(said, None, None)
    change, *land = labels
    if module.reading.says == "transitions":
        changed = (change > 0) & (change != IGNORED)
        change = module.reading.transitions.encode(land[0].long(), land[1].long(), changed, IGNORED)
    elif module.reading.says != "classes of change":
        change = torch.where(change == IGNORED, change, (change > 0).to(change.dtype))
    pairs = zip((said.change, said.before, said.after), (change, *land), strict=True)
    return [(logits, label) for logits, label in pairs if logits is not None]
