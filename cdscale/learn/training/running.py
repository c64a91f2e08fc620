"""A run: from a recipe and a data set to weights, curve and card in a folder.

``last.ckpt``  everything the next epoch depends on, written after each
``best.safetensors``  the weights that go out
``curve.csv``  a row an epoch
``recipe.json``  the recipe as run, with all its places named
``NAME.safetensors``, ``NAME.card.yaml``  the finished model
"""

from __future__ import annotations

import json
import logging
import os
import platform
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Literal

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from cdscale.errors import ModelError, SpecError, explain
from cdscale.learn.training.callbacks import BEST, LAST, Journal, Keeper, Say
from cdscale.learn.training.data import Data
from cdscale.learn.training.kinds import course_of
from cdscale.learn.training.module import Training
from cdscale.learn.training.places import resolved
from cdscale.learn.training.recipe import Recipe
from cdscale.learn.training.shipping import draft_card, finish
from cdscale.models import build
from cdscale.spec.card import card_path

Device = Literal["auto", "cpu", "cuda"]

EMULATED = (
    "This processor has no bfloat16 arithmetic: emulated, a step takes several times as long as in "
    "float32. --precision float32 trains the same recipe in that."
)
_RECIPE = "recipe.json"
_QUIET = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*GPU available but not used.*",
    ".*module\\(s\\) in eval mode.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
)
"""What Lightning warns of that is meant so."""


@dataclass(frozen=True)
class How:
    """What changes nothing about the result but its speed, and what is said meanwhile."""

    resume: bool = False
    """Go on from the folder's checkpoint, if it has one."""
    device: Device = "auto"
    threads: int = 0
    """Of the CPU; 0: as torch finds it."""
    workers: int = 0
    """Processes that draw crops."""
    say: Say = lambda _: None
    callbacks: tuple[Callback, ...] = field(default=())


def train(recipe: Recipe, root: Path, out: Path, how: How | None = None) -> Path:
    """Train a network, or go on training, and finish its card; a finished run is left as it is.

    Randomness depends on the seed and the step alone, so that a run that was stopped and resumed
    ends as if it had not been: bit for bit on a CPU with the same number of threads.

    Parameters
    ----------
    recipe : Recipe
        From :func:`~cdscale.learn.training.loading.load_recipe`.
    root : Path
        Folder of the data set.
    out : Path
        Of the run.
    how : How, optional
        Device, threads, and whether to resume.

    Returns
    -------
    Path
        The card.

    Raises
    ------
    SpecError
        When the recipe cannot be trained on this data, or the folder holds another run.
    ReadError
        When the data set is not there, or a file of it is damaged.
    ModelError
        When the network's options are none of its family, or the checkpoint does not read.
    KeyboardInterrupt
        When it was stopped; the state of the last whole epoch is kept.
    """
    how = how or How()
    if how.threads:
        torch.set_num_threads(how.threads)
    recipe = resolved(recipe.checked(f"recipe {recipe.name}"), root)
    if recipe.precision == "bfloat16" and on_processor(how.device) and not has_bfloat16():
        how.say(EMULATED)
    done = card_path(out, recipe.name)
    begun, same = _open(recipe, out, how)
    if begun and same and done.exists():
        return done
    course = course_of(recipe.kind, f"recipe {recipe.name}")
    data = course.data(recipe, root, how.workers)
    card = draft_card(recipe, root, data.rule)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(card)
    module = course.module(recipe, network, data, card)
    with _quiet():
        keeper = Keeper(out, data.rule)
        trainer = _trainer(recipe, out, data, keeper, how)
        _fit(trainer, module, data, out / LAST if begun else None)
    keeper.finish(module)
    return finish(recipe, root, out)


def on_processor(device: Device) -> bool:
    """Whether a network will train on the CPU."""
    return device == "cpu" or (device == "auto" and not torch.cuda.is_available())


def has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16; where it cannot be told, it is taken to."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _open(recipe: Recipe, out: Path, how: How) -> tuple[bool, bool]:
    """Whether the folder holds a state to go on from, of just this run; refuse that of another."""
    stored, text = out / _RECIPE, recipe.model_dump_json(indent=1)
    begun = (out / LAST).exists()
    if begun and not how.resume:
        raise SpecError(
            explain(f"{out} holds a run that was begun", do="Add --resume, or name another folder.")
        )
    if begun and (other := _differences(stored, text, recipe)):
        raise SpecError(
            explain(
                f"{out} holds a run of another recipe: {', '.join(other)} not the same",
                do="Take that recipe and seed again, or name another folder.",
            )
        )
    out.mkdir(parents=True, exist_ok=True)
    same = begun and stored.read_text(encoding="utf-8") == text
    part = stored.with_name(stored.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, stored)
    return begun, same


def _differences(stored: Path, text: str, recipe: Recipe) -> list[str]:
    """Fields in which the recipe of a folder is another; more epochs are, unless rates fit them."""
    try:
        old = json.loads(stored.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ["recipe.json"]
    longer = {"epochs"} if recipe.schedule.kind in ("constant", "exponential") else set()
    free = {"patience", *longer}
    new = json.loads(text)
    return [name for name in new if name not in free and old.get(name) != new[name]]


def _trainer(recipe: Recipe, out: Path, data: Data, keeper: Keeper, how: How) -> Trainer:
    """Lightning's trainer, which writes nothing but what the callbacks here do."""
    last = ModelCheckpoint(
        out, LAST.removesuffix(".ckpt"), save_top_k=1, every_n_epochs=1,
        save_on_train_epoch_end=True, enable_version_counter=False,
    )  # fmt: skip
    callbacks: list[Callback] = [keeper, Journal(out, how.say)]
    if recipe.patience:
        callbacks.append(EarlyStopping("score", patience=recipe.patience, mode="max"))
    return Trainer(
        accelerator="gpu" if how.device == "cuda" else how.device,
        devices=1,
        precision="bf16-mixed" if recipe.precision == "bfloat16" else "32-true",
        max_epochs=recipe.epochs,
        check_val_every_n_epoch=min(recipe.validate_every, recipe.epochs),
        limit_val_batches=1.0 if data.held_out else 0,
        gradient_clip_val=recipe.optimiser.clip or None,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[*callbacks, *how.callbacks, last],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _fit(trainer: Trainer, module: Training, data: Data, state: Path | None) -> None:
    """Fit, and let an interrupt be one."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        trainer.fit(module, data, ckpt_path=state, weights_only=True)
    except SystemExit:
        # Lightning turns an interrupt into an exit.
        raise KeyboardInterrupt from None
    except (RuntimeError, KeyError, EOFError, ValueError, OSError, UnpicklingError) as err:
        if state is None or module.global_step:
            raise
        raise ModelError(
            explain(
                f"cannot go on from {state}", got=str(err)[:200],
                do="Begin again in another folder.",
            )
        ) from None  # fmt: skip
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's notes on the machine, and the warnings that are meant so."""
    loggers = [
        logging.getLogger(f"pytorch_lightning{tail}") for tail in ("", ".utilities.rank_zero")
    ]
    levels = [log.level for log in loggers]
    try:
        for log in loggers:
            log.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for message in _QUIET:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for log, level in zip(loggers, levels, strict=True):
            log.setLevel(level)


__all__ = ["BEST", "LAST", "How", "train"]
