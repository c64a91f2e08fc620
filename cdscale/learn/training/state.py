"""State of a training run: averaged weights, and the rows of its curve."""

from __future__ import annotations

import copy
import csv
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn


class Average:
    """Exponential moving average of weights and batch statistics.

    The decay grows from 0 with the step, so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network as it is after a step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = network.state_dict()
        for name, mean in self.network.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(current[name].to(mean.dtype), 1 - decay)
            else:
                mean.copy_(current[name])


def log_row(path: Path, row: Mapping[str, object]) -> None:
    """Append to a CSV file, with a header when it is new."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
