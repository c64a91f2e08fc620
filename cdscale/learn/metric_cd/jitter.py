"""Random changes of colour, against which Metric-CD's context term holds features steady.

The paper names brightness, contrast, saturation, hue and noise, and no strengths: these are ours.

Shape suffixes: C band, Y row, X column.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BRIGHTNESS = CONTRAST = SATURATION = 0.2
"""Factors are drawn evenly from 1 less this to 1 plus this."""
HUE = 0.05
"""Share of a full turn about the grey axis, either way."""
NOISE = 0.02
"""Standard deviation of the noise, in units of the image's [0, 1]."""


def jittered(image_CYX: Tensor, draws: torch.Generator) -> Tensor:
    """The image with other colours and noise.

    Parameters
    ----------
    image_CYX : Tensor
        Values of about [0, 1]. Hue is turned where there are three bands.
    draws : torch.Generator
        On the CPU, so that a seed draws the same on every device.
    """
    bright, contrast, saturation = (
        1 + strength * _even(draws) for strength in (BRIGHTNESS, CONTRAST, SATURATION)
    )
    image = image_CYX * bright
    level = image.mean()
    image = level + contrast * (image - level)
    grey_YX = image.mean(dim=0)
    image = grey_YX + saturation * (image - grey_YX)
    if len(image) == 3:
        turn = _hue_turn(2 * math.pi * HUE * _even(draws)).to(image)
        image = torch.einsum("dc,cyx->dyx", turn, image)
    noise = torch.randn(image.shape, generator=draws).to(image)
    return image + NOISE * noise


def _even(draws: torch.Generator) -> float:
    """From -1 to 1."""
    return 2 * float(torch.rand((), generator=draws)) - 1


def _hue_turn(angle: float) -> Tensor:
    """Rotation of red, green and blue about the grey axis, which keeps greys (Rodrigues)."""
    share, side = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    across = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    return math.cos(angle) * torch.eye(3) + share * torch.ones(3, 3) + side * across
