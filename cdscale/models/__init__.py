"""The networks, their cards and their weights.

Cards and weights stand in ``weights/``: ``<name>.card.yaml`` beside ``<name>.safetensors``. Reading
cards does not import torch; building and loading networks does.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from cdscale.errors import ModelError, SpecError, explain
from cdscale.models.families import FAMILIES, Family, family_of
from cdscale.spec.card import ModelCard, Precision, card_path

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the cards and weights that come with the package."""

_SUFFIX = ".card.yaml"
_loaded: dict[tuple[str, str, Precision], nn.Module] = {}
_lock = threading.Lock()


def list_cards(folder: Path = WEIGHTS) -> tuple[ModelCard, ...]:
    """Cards in a folder, by name."""
    return tuple(ModelCard.read(path) for path in sorted(folder.glob(f"*{_SUFFIX}")))


def load_card(name_or_path: str) -> ModelCard:
    """The card of a shipped model, or of a card file anywhere.

    Parameters
    ----------
    name_or_path : str
        Such as ``change-s1s2-oscd``, or the path of a ``.card.yaml`` file.

    Raises
    ------
    ModelError
        When there is no such model; the message lists the known names.
    SpecError
        When the card does not read.
    """
    if name_or_path.endswith(_SUFFIX):
        path = Path(name_or_path)
    else:
        path = card_path(WEIGHTS, name_or_path)
    if not path.is_file():
        known = sorted(found.name.removesuffix(_SUFFIX) for found in WEIGHTS.glob(f"*{_SUFFIX}"))
        raise ModelError(
            explain(
                "no such model",
                expected=f"one of {', '.join(known) or '(none shipped)'}, or a path to *{_SUFFIX}",
                got=name_or_path,
            )
        )
    return ModelCard.read(path)


def folder_of(name_or_path: str) -> Path:
    """Folder in which the weights of a model named as for :func:`load_card` stand."""
    return Path(name_or_path).parent if name_or_path.endswith(_SUFFIX) else WEIGHTS


def build(card: ModelCard) -> nn.Module:
    """The network of a card, with random weights.

    A card with several members has an :class:`~cdscale.models.ensemble.Ensemble` of them.

    Raises
    ------
    ModelError
        When there is no such family, when the card's options are not those of its family, when it
        takes other channels than the card names bands, when the card promises less halo than the
        family needs, or when it has several members and the family does not say logits.
    """
    family = family_of(card)
    if card.members == 1:
        return family.build(card)
    from cdscale.models.ensemble import Ensemble

    if family.module == "hrscd":
        raise ModelError(
            explain(
                f"card {card.name}: members",
                expected=f"1: networks of {card.family} say several maps, which are not averaged",
                got=card.members,
            )
        )
    if len(card.views) > 1 and family.kind != "pair":
        raise ModelError(
            explain(
                f"card {card.name}: member_normalisations",
                expected=f"none: members of {card.family} read images in one way",
                got=f"{len(card.views)} ways",
            )
        )
    return Ensemble([family.build(card) for _ in range(card.members)], card.view_of_member)


def load(
    card: ModelCard,
    device: str = "cpu",
    precision: Precision = "float32",
    folder: Path = WEIGHTS,
) -> nn.Module:
    """The network of a card with its weights, in evaluation mode, once per process.

    Parameters
    ----------
    card : ModelCard
        Names the weights' file and its sha256.
    device : str
        As torch names it.
    precision : {"float32", "bfloat16"}
        Of the arithmetic inside; weights, what goes in and what comes out are float32. In float32
        on a CPU the network is as it was built; elsewhere it is made ready to map
        (:mod:`cdscale.models.mapping`).
    folder : Path
        Where the weights' file stands.

    Raises
    ------
    ModelError
        When the file is absent (the model is untrained), is not the one that the card was
        written for, or does not fit the network.
    """
    key = (card.weights_sha256, device, precision)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _load(card, device, precision, folder)
        return _loaded[key]


def sha256_of(path: Path) -> str:
    """Sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _load(card: ModelCard, device: str, precision: Precision, folder: Path) -> nn.Module:
    from safetensors import SafetensorError
    from safetensors.torch import load as parse

    from cdscale.models.mapping import ready

    path = folder / Path(card.weights).name
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(
            explain(
                f"model {card.name} is untrained",
                expected=f"weights in {path}",
                got="no such file",
                do="Train it with its recipe, or choose another model.",
            )
        ) from None
    except OSError as err:
        raise ModelError(explain(f"model {card.name}: {path}", got=err.strerror)) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.weights_sha256:
        raise ModelError(
            explain(
                f"model {card.name}: {path.name} is not what its card was written for",
                expected=f"sha256 {card.weights_sha256}",
                got=digest,
                do="Restore the file, or write a card for it.",
            )
        )
    network = build(card)
    try:
        network.load_state_dict(parse(content))
    except (RuntimeError, SafetensorError) as err:
        raise ModelError(
            explain(f"model {card.name}: {path.name} does not fit its network", got=str(err)[:300])
        ) from None
    return ready(network, device, precision)


__all__ = [
    "FAMILIES",
    "WEIGHTS",
    "Family",
    "ModelCard",
    "Precision",
    "SpecError",
    "build",
    "family_of",
    "folder_of",
    "list_cards",
    "load",
    "load_card",
    "sha256_of",
]
