"""State of a training run: schedule, averaged weights, and checkpoints in safetensors."""

from __future__ import annotations

import copy
import csv
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cdscale.errors import ModelError, explain
from cdscale.learn.recipe import Optimiser


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


@dataclass
class Run:
    """What a checkpoint holds."""

    network: nn.Module
    average: Average
    optimiser: torch.optim.AdamW
    step: int = 0
    best: float = -1.0

    @classmethod
    def start(cls, network: nn.Module, rule: Optimiser) -> Run:
        """A fresh run of a network."""
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=rule.rate, weight_decay=rule.weight_decay
        )
        return cls(network, Average(network, rule.ema), optimiser)

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.network.state_dict().items()}
        for index, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in values.items()}
        write_tensors(path, tensors, {"step": str(self.step), "best": repr(self.best)})

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same recipe.

        Raises
        ------
        ModelError
            When the file is damaged or of another network.
        """
        tensors, notes = read_tensors(path)
        try:
            self.network.load_state_dict(_part(tensors, "network."))
            self.average.network.load_state_dict(_part(tensors, "average."))
            self.step, self.best = int(notes["step"]), float(notes["best"])
        except (RuntimeError, KeyError) as err:
            raise ModelError(
                explain(f"{path} is no checkpoint of this recipe", got=str(err)[:200])
            ) from None
        state = self.optimiser.state_dict()
        state["state"] = {}
        for name, value in _part(tensors, "optimiser.").items():
            index, key = name.split(".")
            state["state"].setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(state)


def rate_at(step: int, rule: Optimiser) -> float:
    """Learning rate: linear warm-up, then cosine decay to a hundredth."""
    if step < rule.warmup:
        return rule.rate * (step + 1) / rule.warmup
    done = min(1.0, (step - rule.warmup) / max(1, rule.steps - rule.warmup))
    return rule.rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def descend(run: Run, loss: Tensor, rule: Optimiser) -> None:
    """One step of the optimiser, and of the average."""
    for group in run.optimiser.param_groups:
        group["lr"] = rate_at(run.step, rule)
    run.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(run.network.parameters(), rule.clip)
    run.optimiser.step()
    run.average.update(run.network, run.step)
    run.step += 1


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Notes are kept as one JSON text: safetensors writes several in no fixed order, and the same
    weights should be the same bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    text = json.dumps(dict(notes), sort_keys=True)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, part, {"notes": text})
    part.chmod(0o644)
    os.replace(part, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of a safetensors file.

    Raises
    ------
    ModelError
        When the file is absent or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("notes", "{}"))
    except (OSError, ValueError, SafetensorError) as err:
        raise ModelError(explain(f"cannot read weights from {path}", got=str(err))) from None


def log_row(path: Path, row: Mapping[str, object]) -> None:
    """Append to a CSV file, with a header when it is new."""
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
