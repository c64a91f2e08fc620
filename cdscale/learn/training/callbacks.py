"""What is written while a network trains: the best weights, and a row of the curve an epoch."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from cdscale.learn.training.module import Training
from cdscale.learn.training.state import log_row
from cdscale.models.tensors import write_tensors
from cdscale.spec.card import Normalisation

BEST, LAST, CURVE = "best.safetensors", "last.ckpt", "curve.csv"

Say = Callable[[str], None]


class Keeper(Callback):
    """Writes the weights that go out to ``best.safetensors``: of the best validation, or the last.

    Parameters
    ----------
    folder : Path
        Of the run.
    rule : Normalisation
        That the network was trained with; stands in the file's notes.
    """

    def __init__(self, folder: Path, rule: Normalisation) -> None:
        self.folder, self.rule, self.best = folder, rule, -1.0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best = float(state_dict["best"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights if they are the best so far."""
        del trainer
        module = _ours(pl_module)
        if module.recipe.keep == "best" and module.figures["score"] > self.best:
            self.best = module.figures["score"]
            self._write(module)

    def finish(self, module: Training) -> None:
        """Keep the last weights, where the recipe wants those."""
        if module.recipe.keep == "last":
            self._write(module)

    def _write(self, module: Training) -> None:
        notes = {
            "step": str(module.global_step),
            "threshold": str(module.threshold),
            "normalisation": self.rule.model_dump_json(),
        }
        weights = {name: value.cpu() for name, value in module.kept.state_dict().items()}
        write_tensors(self.folder / BEST, weights, notes)


class Journal(Callback):
    """Appends a row an epoch to ``curve.csv``, and says one line of it.

    Lightning's own CSV logger begins its file anew when a run is resumed; this one drops what was
    written after the checkpoint, and goes on.
    """

    def __init__(self, folder: Path, say: Say) -> None:
        self.path, self.say = folder / CURVE, say
        self.begun = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows up to the checkpoint, and count time on from the last."""
        del pl_module
        kept = [row for row in read_curve(self.path) if int(row["epoch"]) <= trainer.current_epoch]
        self.path.unlink(missing_ok=True)
        for row in kept:
            log_row(self.path, row)
        self.begun = time.monotonic() - (float(kept[-1]["seconds"]) if kept else 0.0)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Figures are those of this epoch, or none."""
        del trainer
        module = _ours(pl_module)
        module.losses.clear()
        module.figures = {}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One row."""
        module = _ours(pl_module)
        row: dict[str, object] = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "seconds": round(time.monotonic() - self.begun, 1),
            "loss": round(float(torch.stack(module.losses).mean()), 5),
            "rate": f"{trainer.optimizers[0].param_groups[0]['lr']:.3g}",
        }
        for name in module.columns:
            row[name] = round(module.figures[name], 4) if module.figures else ""
        log_row(self.path, row)
        told = [
            f"{words} {module.figures[name]:.3f}"
            for words, name in module.told.items()
            if module.figures
        ]
        of = module.recipe.epochs
        self.say(", ".join([f"epoch {row['epoch']} of {of}", f"loss {row['loss']}", *told]))


def read_curve(path: Path) -> list[dict[str, str]]:
    """Rows of a curve; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _ours(module: LightningModule) -> Training:
    if not isinstance(module, Training):
        raise TypeError("these callbacks belong to the networks under training of this package")
    return module
