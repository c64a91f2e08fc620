"""Scenes of any size through a network of kind "images", window by window.

A scene is filled up with absent pixels, on the right and at the bottom, to whole strides of the
network. Windows have the halo of the card on every side where the scene goes on, and end with the
scene where it ends: whatever the windows, the map is that of one pass over the filled-up scene
(but for up-sampling that knows the size of the image, see :func:`cdscale.models.attention.halo`).
No more than one window of each date is in memory.

Shape suffixes: B band, C channel, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from cdscale.learn.data import Sample, Window, windows
from cdscale.learn.data.files import header
from cdscale.learn.images.reading import Reading, SemanticMap
from cdscale.learn.labels import IGNORED
from cdscale.models.inputs import FLAT, Moments, Pair, PairMoments, absent, change_inputs
from cdscale.spec.card import ModelCard, Normalisation

CORE = 512
"""Side, in pixels, of what one window yields; of networks of a large halo, twice the halo."""

WHOLE = 1024
"""The same, of networks whose up-sampling knows the size of the image: a scene of DynamicEarthNet
goes through them in one piece, as published."""


@dataclass(frozen=True)
class SceneMapper:
    """A network, how its images are prepared, and how its outputs are read.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on any device and in any precision.
    reading : Reading
        Of its outputs.
    bands : tuple of str
        Of both dates.
    rule : Normalisation
        Of the card.
    halo, stride : int
        Of the card.
    orientations : int
        1, or 8 for the mean over the orientations of a square.
    core : int
        Side of what one window yields; 0: by the halo. It decides memory, not the map.
    """

    network: nn.Module
    reading: Reading
    bands: tuple[str, ...]
    rule: Normalisation
    halo: int
    stride: int
    orientations: int = 1
    core: int = 0

    @classmethod
    def of(
        cls, card: ModelCard, network: nn.Module, threshold: float, orientations: int = 1
    ) -> SceneMapper:
        """As a card has it.

        Raises
        ------
        ModelError
            When the family is none of semantic change.
        """
        return cls(
            network,
            Reading.of(card.family, card.classes, threshold),
            card.s2_bands,
            card.normalisation,
            card.halo,
            card.stride,
            orientations,
            WHOLE if card.network.get("up") == "bilinear" else 0,
        )

    def maps(self, sample: Sample, most: int = 0) -> Iterator[tuple[Window, SemanticMap]]:
        """Windows of a scene, and what the network says of each.

        Parameters
        ----------
        sample : Sample
            The scene.
        most : int
            Windows at most, spread over the scene; 0: all, so that each pixel comes once.

        Raises
        ------
        ReadError
            When an image cannot be read.
        """
        shape = header(sample.grid_file).shape
        moments = pair_moments(sample, self.bands, self.rule)
        for window in spread(windows(shape, self._core()), most):
            yield window, self._map(sample, window, moments)

    def _core(self) -> int:
        wanted = self.core or max(CORE, 2 * self.halo)
        return -(-wanted // self.stride) * self.stride

    @torch.inference_mode()
    def _map(self, sample: Sample, window: Window, moments: PairMoments) -> SemanticMap:
        part = self._surrounded(window, header(sample.grid_file).shape)
        like = next(self.network.parameters())
        images = [read_filled(sample, date, self.bands, part) for date in ("before", "after")]
        before, after = (torch.from_numpy(x)[None].to(like.device) for x in images)
        nothing = before[:, :0]
        inputs = change_inputs(Pair(before, after, nothing, nothing), self.rule, moments)
        dates = (inputs.s2_before.to(like.dtype), inputs.s2_after.to(like.dtype))
        said = self.reading.mean_over(self.network, dates, self.orientations)
        top, left = window.top - part.top, window.left - part.left
        inner = (slice(top, top + window.height), slice(left, left + window.width))
        gone = (absent(before) | absent(after))[0, 0][inner].cpu().numpy()
        kept = (x if x is None else x[..., *inner] for x in (said.change, said.before, said.after))
        return self.reading.maps(type(said)(*kept), gone)

    def _surrounded(self, window: Window, shape: tuple[int, int]) -> Window:
        """The window with its halo, as far as the filled-up scene goes."""
        height, width = (-(-n // self.stride) * self.stride for n in shape)
        top, left = max(0, window.top - self.halo), max(0, window.left - self.halo)
        # Edges lie on whole strides, so that a turned window does too.
        down, right = (
            -(-(start + size) // self.stride) * self.stride + self.halo
            for start, size in ((window.top, window.height), (window.left, window.width))
        )
        return Window(top, left, min(height, down) - top, min(width, right) - left)


def pair_moments(sample: Sample, bands: tuple[str, ...], rule: Normalisation) -> PairMoments:
    """Moments of both dates of a scene: of the rule, or of each image, read once more for them."""
    none = Moments(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    before, after = (image_moments(sample, date, bands, rule) for date in ("before", "after"))
    return PairMoments(before, after, none, none)


def image_moments(
    sample: Sample, layer: str, bands: tuple[str, ...], rule: Normalisation, *, most: int = 0
) -> Moments:
    """Those by which one image is standardised, from its windows; see ``s2_moments``.

    Sums of float64 in one pass: of values between -10 and 10 they keep ten digits.

    Parameters
    ----------
    sample : Sample
        The scene.
    layer : str
        The image.
    bands : tuple of str
        In this order.
    rule : Normalisation
        Whose moments are taken: stated ones are not measured.
    most : int
        Windows at most, spread over the scene; 0: all.

    Raises
    ------
    ReadError
        When the image cannot be read.
    """
    if rule.s2_standardise == "training":
        return Moments(_planes(rule.s2_mean), _planes(rule.s2_std))
    count, total, square = (np.zeros(len(bands)) for _ in range(3))
    for window in spread(windows(header(sample.grid_file).shape, CORE), most):
        x_BYX = np.clip(sample.read(layer, bands, window), *rule.s2_clip).astype(np.float64)
        count += np.isfinite(x_BYX).sum(axis=(1, 2))
        total += np.nansum(x_BYX, axis=(1, 2))
        square += np.nansum(x_BYX**2, axis=(1, 2))
    if rule.s2_standardise == "image_scalar":
        count, total, square = (x.sum(keepdims=True) for x in (count, total, square))
    many = np.maximum(count, 1)
    mean = total / many
    std = np.sqrt(np.maximum(square / many - mean**2, 0))
    return Moments(_planes(mean), _planes(np.where(std < FLAT, np.inf, std)))


def spread(all_of: Iterable[Window], most: int) -> list[Window]:
    """Evenly spaced ones, so many at most; 0: all of them."""
    found = list(all_of)
    if not 0 < most < len(found):
        return found
    return [found[(2 * k + 1) * len(found) // (2 * most)] for k in range(most)]


def read_filled(
    sample: Sample, layer: str, bands: tuple[str, ...] | None, part: Window
) -> NDArray[Any]:
    """A layer in a window that may reach over the right and bottom edge of the scene.

    Beyond it there is nothing: NaN in an image, 255 in a label (for which ``bands`` is None).
    """
    height, width = header(sample.grid_file).shape
    own = Window(
        part.top, part.left, min(part.height, height - part.top), min(part.width, width - part.left)
    )
    x: NDArray[Any] = sample.read(layer, bands, own)
    if x.shape[-2:] == (part.height, part.width):
        return x
    nothing = IGNORED if bands is None else np.nan
    full = np.full((*x.shape[:-2], part.height, part.width), nothing, x.dtype)
    full[..., : own.height, : own.width] = x
    return full


def _planes(values: ArrayLike) -> Tensor:
    return torch.tensor(np.asarray(values, np.float64))[:, None, None]
