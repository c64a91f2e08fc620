"""Families: a card of each builds, answers in its form, and is refused where it contradicts it."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from cdscale import models
from cdscale.errors import ModelError
from cdscale.models.families import FAMILIES
from cdscale.models.hrscd import SemanticChange
from cdscale.spec.card import ModelCard, Normalisation, Training

TRAINING = Training(data="none", split="", recipe="", steps=0, licence="", simulated=True)
SMALL: dict[str, dict[str, Any]] = {
    "missing-optical": {"width": 2},
    "missing-optical-pair": {"width": 2},
    "radar-unet": {"width": 2},
    "ds-unet": {"width": 2},
    "fc-ef-res": {"width": 2},
    "hrscd-1": {"width": 2},
    "hrscd-2": {"width": 2},
    "hrscd-3": {"width": 2},
    "hrscd-4": {"width": 2},
    "siamese-attention": {"widths": (2, 4, 4, 4, 4), "classes": 3},
}
"""Options that keep the larger ones small."""


def card_of(family: str, /, **changes: Any) -> ModelCard:
    kind = FAMILIES[family].kind
    made = {
        "name": f"a-{family}", "version": "1", "title": "", "family": family,
        "task": {"pair": "change", "month": "urban", "images": "semantic-change"}[kind],
        "network": SMALL.get(family, {}), "weights": "none", "weights_sha256": "",
        "s2_bands": ("B04", "B03", "B02"), "s1_bands": () if kind == "images" else ("vv",),
        "normalisation": Normalisation(), "halo": 576, "stride": 32, "threshold": 0.5,
        "classes": {0: "no", 1: "yes"}, "training": TRAINING, "accuracy": {}, "limits": (),
    }  # fmt: skip
    return ModelCard(**(made | changes))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_card_of_each_family_builds_and_answers_in_its_form(family: str) -> None:
    card = card_of(family)
    network = models.build(card).eval()
    s2, s1 = torch.rand(2, 1, 3, 32, 40), torch.rand(2, 1, 1, 32, 40)
    with torch.inference_mode():
        match FAMILIES[family].kind:
            case "pair":
                assert network(s2[0], s2[1], s1[0], s1[1]).shape == (1, 2, 32, 40)
            case "month":
                assert network(s1[0], s2[0], torch.tensor([True])).shape == (1, 1, 32, 40)
            case "images":
                found = network(s2[0], s2[1])
                maps = vars(found).values() if isinstance(found, SemanticChange) else [found]
                shapes = [tuple(x.shape[-2:]) for x in maps if x is not None]
                assert shapes
                assert set(shapes) == {(32, 40)}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_card_that_promises_too_little_halo_is_refused(family: str) -> None:
    with pytest.raises(ModelError, match=r"halo at least \d+ and both multiples of"):
        models.build(card_of(family, halo=0))


def test_options_that_a_family_does_not_have_are_named() -> None:
    with pytest.raises(ModelError, match=r"a-fc-ef: network options.*'depth'"):
        models.build(card_of("fc-ef", network={"depth": 3}))
    with pytest.raises(ModelError, match=r"expected.*'s1_channels': 1.*got.*'s1_channels': 2"):
        models.build(card_of("fc-ef", network={"s1_channels": 2}))


def test_an_unknown_family_lists_the_known() -> None:
    with pytest.raises(ModelError, match=r"one of two-branch, .*; got vision-transformer"):
        models.build(card_of("fc-ef", family="vision-transformer"))


def test_bilinear_attention_needs_the_wider_halo() -> None:
    options = {**SMALL["siamese-attention"], "up": "bilinear"}
    with pytest.raises(ModelError, match="halo at least 144"):
        models.build(card_of("siamese-attention", network=options, halo=128, stride=16))


def test_reading_cards_imports_no_torch() -> None:
    import subprocess

    program = "import sys; from cdscale import models; models.list_cards(); assert models.FAMILIES"
    program += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
