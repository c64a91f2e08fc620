"""``ModelCard``: what a network eats and says, what it was trained on, and what it is worth."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import Field, model_validator

from cdscale.errors import ModelError, explain
from cdscale.spec.base import Frozen

S1_DB_RANGE = (-25.0, 0.0)
Tta = Literal["none", "d4"]
"""Test-time augmentation: none, or the mean over the eight orientations of a square."""
Precision = Literal["float32", "bfloat16"]
"""Of the arithmetic inside a network; what goes in and what comes out is float32."""
MOST_DISAGREEMENT = 1e-4
"""Share of pixels that bfloat16 may decide otherwise than float32, and no more."""


class Normalisation(Frozen):
    """How physical values become network inputs; the same rule at training and at mapping.

    Reflectance r of band b enters as ``(clip(r, *s2_clip) - mean) / std``; backscatter as
    ``(clip(dB, *s1_db_clip) - low) / (high - low)``, that is in [0, 1], or standardised too.
    """

    s2_clip: tuple[float, float] = (0.0, 1.0)
    s2_standardise: Literal["training", "image", "image_scalar"] = "training"
    """Whose mean and standard deviation: those of the training set (``s2_mean``, ``s2_std``), or
    of the image at hand, each date by itself, band by band or one pair for all bands (the
    published code of Ebel et al. 2021). Those of the image take atmosphere, season and processing
    level out, as far as they are gains and offsets."""
    s2_mean: tuple[float, ...] = ()
    s2_std: tuple[float, ...] = ()
    s1_db_clip: tuple[float, float] = S1_DB_RANGE
    s1_standardise: Literal["none", "image"] = "none"
    """``image``: scaled backscatter less its mean over the image, by its standard deviation."""


class Training(Frozen):
    """Where weights come from."""

    data: str
    split: str
    recipe: str
    steps: int
    licence: str
    simulated: bool
    """True: the network has never seen a real pixel, and refuses real cubes unless forced."""


class Rounding(Frozen):
    """What bfloat16 costs a network, measured: its maps beside those of float32."""

    argmax_disagreement: float = Field(ge=0, le=1)
    """Share of the mapped pixels that lie on the other side of the card's threshold."""
    largest_difference: float = Field(ge=0, le=1)
    """Of any pixel's probability."""
    pixels: int = Field(ge=1)
    """Of how many."""
    data: str
    """Of what."""
    command: str
    """That measured it."""


class Seen(Frozen):
    """How the values that a network was trained on are spread, band by band.

    A run compares what it reads with these (:mod:`cdscale.drift`).
    """

    s2: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Of each band, quantiles of reflectance at the levels of :mod:`cdscale.kernels.spread`."""
    s1: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Of each polarisation, quantiles of backscatter in dB."""
    limit: dict[str, float] = Field(default_factory=dict)
    """Of each band and polarisation: how far the second strangest of the training places lies from
    all others. What lies farther is unlike the training: all of its places but one lie nearer."""
    places: int = Field(ge=2)
    """Of how many places."""
    data: str
    command: str
    """That measured it."""


class ModelCard(Frozen):
    """Everything about a network but its weights; refuses a cube that does not match it."""

    name: str
    version: str
    title: str
    task: Literal["change", "urban", "semantic-change"]
    family: str
    """Of the networks in :mod:`cdscale.models.families`."""
    network: dict[str, Any]
    """Keyword arguments of the family's constructor."""
    members: int = Field(default=1, ge=1)
    """Alike networks whose probabilities are averaged; with several, the tensors of the weights'
    file are named ``0.<name>``, ``1.<name>`` and so on."""
    tta: Tta = "none"
    """How it predicts where nobody says otherwise; ``d4`` takes eight times as long."""
    weights: str
    """File name of the safetensors file beside the card."""
    weights_sha256: str
    s2_bands: tuple[str, ...]
    s1_bands: tuple[str, ...]
    normalisation: Normalisation
    member_normalisations: tuple[Normalisation, ...] = ()
    """That of each member, where members were trained to read differently; else empty."""
    halo: int = Field(ge=0)
    """Pixels of context on each side that make tiled prediction equal whole-image prediction."""
    stride: int = Field(ge=1)
    """Crop origins and sizes are multiples of this."""
    threshold: float = Field(ge=0, le=1)
    classes: dict[int, str]
    training: Training
    accuracy: dict[str, Any]
    bfloat16: Rounding | None = None
    """What mapping in bfloat16 costs; None: nobody has measured it."""
    seen: Seen | None = None
    """What it was trained on, in figures; None: nobody has measured it."""
    limits: tuple[str, ...]

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        own = self.member_normalisations
        if own and (len(own) != self.members or own[0] != self.normalisation):
            raise ValueError(
                f"member_normalisations: expected one for each of {self.members} members, the "
                f"first that of `normalisation`, or none; got {len(own)}"
            )
        return self

    @property
    def views(self) -> tuple[Normalisation, ...]:
        """The different ways in which members read an image."""
        return tuple(dict.fromkeys(self.member_normalisations)) or (self.normalisation,)

    @property
    def view_of_member(self) -> tuple[int, ...]:
        """Of each member, the number of its way among :attr:`views`."""
        views = self.views
        own = self.member_normalisations or (self.normalisation,) * self.members
        return tuple(views.index(rule) for rule in own)

    def refuse(self, *, s2_bands: tuple[str, ...], simulated: bool, force: bool) -> None:
        """Raise unless a cube with these bands and this origin is what the network was made for.

        A cube without a radar band is accepted: the networks treat radar as a modality that can be
        absent, and the maps say where it was.

        Raises
        ------
        ModelError
            Naming the bands that are missing, or the training that does not fit.
        """
        missing = [band for band in self.s2_bands if band not in s2_bands]
        if missing:
            raise ModelError(
                explain(
                    f"model {self.name} cannot read this cube",
                    expected=f"bands {', '.join(self.s2_bands)}",
                    got=f"a cube without {', '.join(missing)}",
                    do="Add the bands to the spec, or choose another model.",
                )
            )
        if self.training.simulated and not simulated and not force:
            raise ModelError(
                explain(
                    f"model {self.name} was trained on simulated data only and refuses real scenes",
                    do="Set `force: true` beside the model in the spec to map with it all the "
                    "same; every product will then say so.",
                )
            )

    def refuse_precision(self, precision: Precision, *, force: bool) -> None:
        """Raise unless the network may map in this precision: by its card, or because it is forced.

        Raises
        ------
        ModelError
            When bfloat16 decides more than one pixel in ten thousand otherwise, or nobody has
            measured how many.
        """
        if precision == "float32" or force:
            return
        found = self.bfloat16
        if found is None or found.argmax_disagreement > MOST_DISAGREEMENT:
            share = "none stated" if found is None else f"{found.argmax_disagreement:.2g}"
            raise ModelError(
                explain(
                    f"model {self.name} may not map in bfloat16: share of pixels that it decides "
                    "otherwise than float32",
                    expected=f"at most {MOST_DISAGREEMENT:g} in its card",
                    got=share,
                    do="Map in float32, or, in a spec, set `force: true` beside the model; "
                    "`python -m benchmarks.precision` measures the share.",
                )
            )

    def write(self, path: Path) -> None:
        """Write the card as YAML, whole or not at all."""
        part = path.with_name(path.name + ".part")
        plain = self.model_dump(mode="json")
        text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)


def card_path(folder: Path, name: str) -> Path:
    """Where the card of a model stands."""
    return folder / f"{name}.card.yaml"
