"""Recipes: everything that decides a training run, as data."""

from __future__ import annotations

from typing import Any

from cdscale.learn.augment import Augment
from cdscale.spec.base import Frozen


class Split(Frozen):
    """Whole cities. ``show`` decides nothing: its figures are for the reader alone."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    show: tuple[str, ...] = ()


class Optimiser(Frozen):
    """AdamW with a linear warm-up and a cosine decay, and an average of the weights."""

    steps: int
    batch: int
    rate: float
    weight_decay: float
    warmup: int = 100
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.995
    """Decay per step of the exponential moving average that is validated and shipped."""
    bf16: bool = True
    """Forward pass in bfloat16; weights and loss stay float32."""
    threads: int = 2


class ChangeLoss(Frozen):
    """Weighted NLL with ``lambda_fp``, plus ``jaccard`` times the power Jaccard loss."""

    lambda_fp: float = 10.0
    jaccard: float = 0.0


class ChangeRecipe(Frozen):
    """Training of a two-branch network on OSCD."""

    name: str
    version: str
    title: str
    s2_bands: tuple[str, ...]
    s1_bands: tuple[str, ...]
    network: dict[str, Any]
    s2_clip: tuple[float, float]
    s1_db_clip: tuple[float, float]
    split: Split
    optimiser: Optimiser
    loss: ChangeLoss
    augment: Augment
    seed: int
    validate_every: int = 250
    history: str = ""
    """In what the shipped weights differ from a run of this recipe; goes into the card."""
    licence: str
    limits: tuple[str, ...]
