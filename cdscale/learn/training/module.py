"""A network under training, whatever its kind: what a step, a validation, a checkpoint are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from cdscale.learn.training.data import seed_of
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.schedules import make_optimiser, make_schedule
from cdscale.learn.training.state import Average


class Training(LightningModule):
    """Training of a network. A kind says the loss of a batch, and what a validation finds.

    Parameters
    ----------
    recipe : Recipe
        Optimiser, schedule, average and seed.
    network : nn.Module
        With random weights.
    steps : int
        Batches of an epoch.

    Attributes
    ----------
    columns : tuple of str
        Figures of a validation, in the order of the curve; the last is ``score``, by which weights
        are chosen.
    told : dict of str to str
        What is said of a validation: a column by its words, such as ``F1``.
    figures : dict of str to float
        Of the last validation: every column. A kind's ``on_validation_epoch_end`` hands them to
        :meth:`found`.
    """

    columns: tuple[str, ...]
    told: dict[str, str]

    def __init__(self, recipe: Recipe, network: nn.Module, steps: int) -> None:
        super().__init__()
        self.recipe, self.steps = recipe, steps
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.network, recipe.ema) if recipe.ema else None
        # A module of this one, so that checkpoints hold it.
        self.averaged = self.average.network if self.average else None
        self.losses: list[Tensor] = []
        self.figures: dict[str, float] = {}

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and goes out: the average, where there is one."""
        return self.network if self.averaged is None else self.averaged

    @property
    def threshold(self) -> float:
        """The recipe's, or that of the last validation."""
        return self.recipe.threshold or 0.5

    @abstractmethod
    def loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Loss of a batch, a scalar."""

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule."""
        optimiser = make_optimiser(self.recipe.optimiser, self.network)
        schedule, interval = make_schedule(self.recipe, optimiser, self.steps)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": interval},
        }

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        """Loss of a batch; what is dropped out depends on seed and step alone."""
        del index
        torch.manual_seed(seed_of(self.recipe, self.global_step, drawing=False))
        loss = self.loss(batch)
        self.losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average."""
        if self.average is not None:
            self.average.update(self.network, self.global_step - 1)

    def found(self, figures: dict[str, float]) -> None:
        """Figures of a validation, ``score`` among them; the higher that is, the better."""
        self.figures = figures
        self.log("score", figures["score"], batch_size=1)


def channels_last(x_BCYX: Tensor) -> Tensor:
    """In the order of memory that convolutions are fastest in."""
    return x_BCYX.contiguous(memory_format=torch.channels_last)
