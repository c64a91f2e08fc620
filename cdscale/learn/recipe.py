"""What several kinds of recipes share."""

from __future__ import annotations

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
