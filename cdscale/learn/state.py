"""State of a training run: averaged weights, safetensors files, and the rows of its curve."""

from __future__ import annotations

import copy
import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cdscale.errors import ModelError, explain


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
