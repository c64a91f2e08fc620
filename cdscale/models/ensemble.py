"""Ensembles: several alike networks, trained apart, that say the mean of their probabilities.

The mean of probabilities, not of logits, is what lowers the expected loss of any mixture (B.
Lakshminarayanan, A. Pritzel, C. Blundell, Simple and Scalable Predictive Uncertainty Estimation
using Deep Ensembles, NeurIPS 2017, section 2.4).

Shape suffixes: B sample, C class, Y row, X column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor, nn
from torch.nn import functional

from cdscale.errors import ModelError, explain
from cdscale.models import build, family_of, folder_of, load_card, sha256_of
from cdscale.models.tensors import write_tensors
from cdscale.spec.card import ModelCard, card_path

ALIKE = (
    "task", "family", "network", "s2_bands", "s1_bands", "halo", "stride", "classes",
)  # fmt: skip
"""Fields of the cards that members of an ensemble share; all but those of pairs read alike too."""


class Ensemble(nn.ModuleList):
    """Alike networks that say logits of one image, each of its own view of it.

    Members run one after another, so that an ensemble takes more time than one of them, but no
    more memory for activations. Parameters are named ``0.<name>``, ``1.<name>`` and so on.

    Parameters
    ----------
    members : sequence of nn.Module
        Each says (B, C, Y, X) logits: of classes, or for C = 1 of the one class against the rest.
    view_of_member : sequence of int, optional
        Which of the views that stand one after another in the channels of every input each member
        takes (:func:`cdscale.models.inputs.views_of_change`); by default there is one for all.
    """

    def __init__(self, members: Iterable[nn.Module], view_of_member: Sequence[int] = ()) -> None:
        super().__init__(members)
        self.view_of_member = tuple(view_of_member) or (0,) * len(self)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits (B, C, Y, X) float32 whose softmax, or sigmoid, is the members' mean."""
        rest = math.log(len(self))
        views = self._views(inputs)
        yes, no = None, None
        for member, view in zip(self, self.view_of_member, strict=True):
            logits_BCYX: Tensor = member(*views[view]).float()
            if logits_BCYX.shape[1] == 1:
                no = _plus(no, functional.logsigmoid(-logits_BCYX))
                yes = _plus(yes, functional.logsigmoid(logits_BCYX))
            else:
                yes = _plus(yes, logits_BCYX.log_softmax(dim=1))
        if yes is None:
            raise ModelError(explain("an ensemble", expected="one member or more", got=0))
        return yes - rest if no is None else yes - no

    def _views(self, inputs: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """The inputs of each view."""
        count = max(self.view_of_member, default=0) + 1
        if count == 1:
            return [inputs]
        return list(zip(*(x.tensor_split(count, dim=1) for x in inputs), strict=True))


def _plus(one: Tensor | None, other: Tensor) -> Tensor:
    """Logarithm of the sum of what two are logarithms of."""
    return other if one is None else torch.logaddexp(one, other)


def join(
    cards: Sequence[str], name: str, folder: Path, threshold: float | None = None
) -> ModelCard:
    """Make one ensemble of several trained networks, and write its weights and card.

    Parameters
    ----------
    cards : sequence of str
        Two or more models, named as for :func:`cdscale.models.load_card`. One that is an ensemble
        itself brings its members.
    name : str
        Of the ensemble.
    folder : Path
        Where ``<name>.safetensors`` and ``<name>.card.yaml`` go.
    threshold : float, optional
        That of the ensemble; by default the mean over members.

    Returns
    -------
    ModelCard
        With the members' figures; its own are to be measured.

    Raises
    ------
    ModelError
        When there are fewer than two, when cards do not agree, when weights are absent or are not
        those that a card was written for, or when a file of the ensemble's name is a member's own.
    """
    found = [(load_card(one), folder_of(one)) for one in cards]
    if len(found) < 2 or len({card.weights_sha256 for card, _ in found}) < len(found):
        raise ModelError(
            explain(
                "an ensemble",
                expected="two or more different networks",
                got=", ".join(cards) or "none",
                do="Name each trained network once.",
            )
        )
    _check_alike([card for card, _ in found])
    _check_name(name, folder, found)
    tensors: dict[str, Tensor] = {}
    count = 0
    for card, home in found:
        for own in _members_of(card, home):
            tensors |= {f"{count}.{key}": value for key, value in own.items()}
            count += 1
    joined = _card([card for card, _ in found], name, count, threshold)
    return _write(joined, tensors, folder)


def _check_alike(cards: list[ModelCard]) -> None:
    first = cards[0]
    # Pairs alone are put together in several views.
    fields = ALIKE if family_of(first).kind == "pair" else (*ALIKE, "normalisation")
    for card in cards[1:]:
        for field in fields:
            if getattr(card, field) != getattr(first, field):
                raise ModelError(
                    explain(
                        f"an ensemble of {first.name} and {card.name}: {field}",
                        expected=f"{getattr(first, field)}, as {first.name} has it",
                        got=getattr(card, field),
                        do="Join networks that differ in seed, fold or normalisation alone.",
                    )
                )


def _check_name(name: str, folder: Path, found: list[tuple[ModelCard, Path]]) -> None:
    taken = {(home / card.weights).resolve() for card, home in found}
    taken |= {card_path(home, card.name).resolve() for card, home in found}
    new = {(folder / f"{name}.safetensors").resolve(), card_path(folder, name).resolve()}
    if not name or Path(name).name != name or new & taken:
        raise ModelError(
            explain(
                "name of an ensemble",
                expected="a file name without its suffix that is not a member's",
                got=repr(name),
            )
        )


def _members_of(card: ModelCard, home: Path) -> list[dict[str, Tensor]]:
    """Tensors of each member, as they are stored."""
    path = home / Path(card.weights).name
    try:
        content = path.read_bytes()
    except OSError as err:
        raise ModelError(
            explain(f"model {card.name}: {path}", got=err.strerror, do="Train it first.")
        ) from None
    if sha256_of(path) != card.weights_sha256:
        raise ModelError(
            explain(
                f"model {card.name}: {path.name} is not what its card was written for",
                expected=f"sha256 {card.weights_sha256}",
                got=sha256_of(path),
            )
        )
    try:
        stored: dict[str, Tensor] = parse(content)
        # Fits, or says here what does not: not when the ensemble is first used.
        build(card).load_state_dict(stored)
    except (RuntimeError, SafetensorError) as err:
        raise ModelError(
            explain(f"model {card.name}: {path.name} does not fit its network", got=str(err)[:300])
        ) from None
    if card.members == 1:
        return [stored]
    heads = [f"{number}." for number in range(card.members)]
    return [
        {key.removeprefix(head): x for key, x in stored.items() if key.startswith(head)}
        for head in heads
    ]


def _card(cards: list[ModelCard], name: str, members: int, threshold: float | None) -> ModelCard:
    """Of the ensemble, but for the hash of its weights."""
    first = cards[0]
    if threshold is None:
        threshold = round(sum(c.threshold * c.members for c in cards) / members, 4)
    training = first.training.model_copy(
        update={
            part: "; ".join(dict.fromkeys(getattr(card.training, part) for card in cards))
            for part in ("data", "split", "recipe", "licence")
        }
        | {
            "steps": sum(card.training.steps for card in cards),
            "simulated": any(card.training.simulated for card in cards),
        }
    )
    accuracy: dict[str, Any] = {
        "how": "figures of the members, each by itself; measure the ensemble with "
        "'cdscale evaluate'",
        "members": {card.name: card.accuracy for card in cards},
    }
    rules = [
        rule for c in cards for rule in (c.member_normalisations or [c.normalisation] * c.members)
    ]
    changed = {
        "name": name,
        "member_normalisations": rules if len(set(rules)) > 1 else (),
        "title": f"{first.title}; mean of {members} networks",
        "members": members,
        "weights": f"{name}.safetensors",
        "weights_sha256": "",
        "threshold": threshold,
        "training": training,
        "accuracy": accuracy,
        "limits": tuple(dict.fromkeys(limit for card in cards for limit in card.limits)),
    }
    return ModelCard.model_validate(first.model_dump() | changed)


def _write(card: ModelCard, tensors: dict[str, Tensor], folder: Path) -> ModelCard:
    """Weights first, then the card that names their hash."""
    weights = folder / card.weights
    write_tensors(weights, tensors, {"name": card.name, "version": card.version})
    finished = card.model_copy(update={"weights_sha256": sha256_of(weights)})
    finished.write(card_path(folder, card.name))
    return finished
