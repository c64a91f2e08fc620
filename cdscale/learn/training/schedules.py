"""Optimisers and the course of the learning rate, from the recipe's words to torch's."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn, optim
from torch.optim.lr_scheduler import (
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LambdaLR,
    LRScheduler,
    OneCycleLR,
)

from cdscale.learn.training.recipe import Optimiser, Recipe, Schedule

Interval = Literal["step", "epoch"]


def make_optimiser(rule: Optimiser, network: nn.Module) -> optim.Optimizer:
    """The optimiser of a recipe over a network's weights."""
    weights = list(network.parameters())
    if rule.kind == "sgd":
        return optim.SGD(
            weights, rule.rate, rule.momentum, weight_decay=rule.weight_decay,
            nesterov=rule.nesterov,
        )  # fmt: skip
    kind = optim.Adam if rule.kind == "adam" else optim.AdamW
    return kind(weights, rule.rate, weight_decay=rule.weight_decay)


def make_schedule(
    recipe: Recipe, optimiser: optim.Optimizer, steps: int
) -> tuple[LRScheduler, Interval]:
    """The schedule of a recipe, and whether it moves with each step or each epoch.

    Parameters
    ----------
    recipe : Recipe
        Schedule, highest rate, and epochs.
    optimiser : Optimizer
        From :func:`make_optimiser`.
    steps : int
        Batches of an epoch.
    """
    rule, rate, total = recipe.schedule, recipe.optimiser.rate, recipe.epochs * steps
    if rule.kind == "exponential":
        return ExponentialLR(optimiser, rule.gamma), "epoch"
    if rule.kind == "one_cycle":
        return OneCycleLR(optimiser, rate, total, pct_start=rule.warmup or 0.3), "step"
    if rule.kind == "cosine_restarts":
        period, floor = rule.period * steps, rule.floor * rate
        return CosineAnnealingWarmRestarts(optimiser, period, 2, eta_min=floor), "step"
    if rule.kind == "cosine":
        return LambdaLR(optimiser, lambda step: cosine_at(step, rule, total)), "step"
    return LambdaLR(optimiser, lambda _: 1.0), "epoch"


def cosine_at(step: int, rule: Schedule, total: int) -> float:
    """Share of the highest rate: a linear rise, then half a cosine down to the floor."""
    rise = rule.warmup * total
    if step < rise:
        return (step + 1) / max(rise, 1.0)
    done = min(1.0, (step - rise) / max(1.0, total - rise))
    return rule.floor + (1 - rule.floor) * (1 + math.cos(math.pi * done)) / 2
