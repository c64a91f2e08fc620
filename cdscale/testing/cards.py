"""Small networks with random weights, and their cards: what they map means nothing, fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cdscale.spec.card import ModelCard


def a_card(task: str = "change", **changes: Any) -> ModelCard:
    """A card that any test may bend; without weights.

    Parameters
    ----------
    task : {"change", "urban"}
        What it maps.
    **changes
        Fields of the card that are to be others.
    """
    from cdscale.models import missing_optical, two_branch

    module = two_branch if task == "change" else missing_optical
    plain: dict[str, Any] = {
        "name": f"tiny-{task}",
        "version": "1",
        "title": "Random weights, for tests",
        "task": task,
        "family": "two-branch" if task == "change" else "missing-optical",
        "network": {} if task == "change" else {"width": 2},
        "weights": f"tiny-{task}.safetensors",
        "weights_sha256": "0" * 64,
        "s2_bands": ["B04", "B08"],
        "s1_bands": ["vv"],
        "normalisation": {"s2_clip": [0.0, 0.8], "s2_mean": [0.1, 0.2], "s2_std": [0.05, 0.1]},
        "halo": module.HALO,
        "stride": module.STRIDE,
        "threshold": 0.5,
        "classes": {0: "no change", 1: "change"} if task == "change" else {0: "land", 1: "urban"},
        "training": dict.fromkeys(("data", "split", "recipe", "licence"), "none")
        | {"steps": 0, "simulated": True},
        "accuracy": {},
        "limits": [],
    }
    return ModelCard.model_validate(plain | changes)


def write_card(folder: Path, task: str, **changes: Any) -> Path:
    """A card with random weights beside it; returns the card's path."""
    import torch
    from safetensors.torch import save_file
    from torch import nn

    from cdscale import models

    folder.mkdir(parents=True, exist_ok=True)
    card = a_card(task, **changes)
    torch.manual_seed(7)
    network = models.build(card)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.3 + torch.rand(module.num_features)
    weights = folder / card.weights
    save_file(network.state_dict(), weights)
    path = folder / f"{card.name}.card.yaml"
    card.model_copy(update={"weights_sha256": models.sha256_of(weights)}).write(path)
    return path
