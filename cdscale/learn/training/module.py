"""The network under training: one step, one validation, what a checkpoint holds.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from cdscale.learn.labels import IGNORED
from cdscale.learn.losses import multiclass_dice, power_jaccard, weighted_nll
from cdscale.learn.metrics import Curve
from cdscale.learn.state import Average
from cdscale.learn.training.data import seed_of
from cdscale.learn.training.mapping import Mapping, map_pair
from cdscale.learn.training.recipe import Loss, Recipe
from cdscale.learn.training.schedules import make_optimiser, make_schedule
from cdscale.models.patch import SIDE, PatchNet

VARIANTS = ("s1s2", "s2")
"""Maps from both sensors, and with radar withheld."""


class ChangeTraining(LightningModule):
    """Training of a network on pairs.

    Parameters
    ----------
    recipe : Recipe
        Loss, optimiser, schedule, average and seed.
    network : nn.Module
        With random weights.
    how : Mapping
        How held-out places are mapped.
    weights : tuple of float
        Of no change and change in the weighted NLL.
    """

    def __init__(
        self, recipe: Recipe, network: nn.Module, how: Mapping, weights: tuple[float, float]
    ) -> None:
        super().__init__()
        self.recipe, self.how, self.weights = recipe, how, weights
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.network, recipe.ema) if recipe.ema else None
        # A module of this one, so that checkpoints hold it.
        self.averaged = self.average.network if self.average else None
        self.losses: list[Tensor] = []
        self.figures: dict[str, float] = {}
        self._curves: dict[str, Curve] = {}

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and goes out: the average, where there is one."""
        return self.network if self.averaged is None else self.averaged

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule."""
        optimiser = make_optimiser(self.recipe.optimiser, self.network)
        schedule, interval = make_schedule(self.recipe, optimiser)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": interval},
        }

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Loss of a batch; what is dropped out depends on seed and step alone."""
        del index
        torch.manual_seed(seed_of(self.recipe, self.global_step, drawing=False))
        *inputs, label = batch
        logits, label = self._answer([_last(x) for x in inputs], label)
        loss = loss_of(logits.float(), label, self.weights, self.recipe.loss)
        self.losses.append(loss.detach())
        return loss

    def _answer(self, inputs: list[Tensor], label: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the label that they answer: of a patch classifier, that of its centre."""
        if not isinstance(self.network, PatchNet):
            return self.network(*inputs), label
        if label.shape[-1] != SIDE:
            return self.network(*inputs), label
        middle = slice(SIDE // 2, SIDE // 2 + 1)
        return self.network.classify(*inputs)[..., None, None], label[:, middle, middle]

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average."""
        if self.average is not None:
            self.average.update(self.network, self.global_step - 1)

    def on_validation_epoch_start(self) -> None:
        """Nothing is counted yet."""
        variants = VARIANTS if self.recipe.s1_bands else VARIANTS[1:]
        self._curves = {name: Curve() for name in variants}

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        """Count the pixels of one whole place."""
        del index
        s2, s1, label = batch
        self.kept.eval()
        for name, curve in self._curves.items():
            radar = torch.full_like(s1, torch.nan) if name == "s2" else s1
            curve.add(map_pair(self.kept, s2, radar, self.how), label.cpu().numpy())

    def on_validation_epoch_end(self) -> None:
        """Figures of all places pooled, at the recipe's threshold or at the best.

        ``score``, by which weights are chosen, is the mean F1 of the variants.
        """
        self.figures = {}
        for name, curve in self._curves.items():
            threshold = self.recipe.threshold or curve.best()[0]
            counts = curve.at(threshold)
            self.figures |= {
                f"{name}_f1": counts.f1, f"{name}_precision": counts.precision,
                f"{name}_recall": counts.recall, f"{name}_threshold": threshold,
            }  # fmt: skip
        f1 = [self.figures[f"{name}_f1"] for name in self._curves]
        self.figures["score"] = sum(f1) / len(f1)
        self.log("score", self.figures["score"], batch_size=1)


def loss_of(
    logits_BCYX: Tensor, label_BYX: Tensor, weights: tuple[float, float], rule: Loss
) -> Tensor:
    """The sum of the recipe's terms."""
    loss = logits_BCYX.new_zeros(())
    if rule.nll:
        loss = loss + rule.nll * weighted_nll(logits_BCYX, label_BYX, weights)
    if rule.jaccard:
        counted = label_BYX != IGNORED
        probability = logits_BCYX.softmax(dim=1)[:, 1] * counted
        loss = loss + rule.jaccard * power_jaccard(probability, (label_BYX == 1) & counted)
    if rule.dice:
        loss = loss + rule.dice * multiclass_dice(logits_BCYX, label_BYX)
    return loss


def _last(x_BCYX: Tensor) -> Tensor:
    return x_BCYX.contiguous(memory_format=torch.channels_last)
