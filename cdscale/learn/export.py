"""From the best checkpoint of a run to shipped weights and their card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from cdscale.errors import ModelError, explain
from cdscale.learn.state import read_tensors, write_tensors
from cdscale.models import sha256_of
from cdscale.spec.card import ModelCard, Normalisation, card_path


@dataclass(frozen=True)
class Result:
    """Best averaged weights of a run, and what belongs to them."""

    weights: dict[str, Tensor]
    normalisation: Normalisation
    threshold: float
    step: int

    @classmethod
    def read(cls, path: Path) -> Result:
        """Read ``best.safetensors`` of a run.

        Raises
        ------
        ModelError
            When the file is absent, damaged, or not the best of a run.
        """
        weights, notes = read_tensors(path)
        try:
            rule = Normalisation.model_validate_json(notes["normalisation"])
            return cls(weights, rule, float(notes["threshold"]), int(notes["step"]))
        except (KeyError, ValueError) as err:
            raise ModelError(
                explain(f"{path} is not the best of a training run", got=str(err))
            ) from None

    def rounded(self) -> Result:
        """Keep convolution kernels in float16, which halves the file; figures are taken after it.

        Networks load them into float32 again.
        """
        weights = {k: v.half() if v.ndim == 4 else v for k, v in self.weights.items()}
        return replace(self, weights=weights)


def ship(card: ModelCard, result: Result, folder: Path) -> Path:
    """Write weights and card beside each other, and return the path of the card."""
    weights = folder / card.weights
    write_tensors(weights, result.weights, {"name": card.name, "version": card.version})
    finished = card.model_copy(update={"weights_sha256": sha256_of(weights)})
    path = card_path(folder, card.name)
    finished.write(path)
    return path
