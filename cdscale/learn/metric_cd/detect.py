"""Metric-CD over a scene: colours of the whole, one optimisation per tile, one map.

Shape suffixes: B band, Y row, X column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cdscale.errors import ModelError, explain
from cdscale.learn.losses.unlabelled import otsu
from cdscale.learn.metric_cd.colour import Colours, learn_colours
from cdscale.learn.metric_cd.fitting import Dates, Step, fit
from cdscale.learn.metric_cd.recipe import RECIPES, MetricCd
from cdscale.learn.metric_cd.scene import (
    Blend,
    Booleans,
    Floats,
    Images,
    Scene,
    seen,
    tiles,
)
from cdscale.models.extractors import FilterBank
from cdscale.models.vgg import Vgg, level_layers, load_vgg

Progress = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Found:
    """What Metric-CD says of a scene.

    Parameters
    ----------
    probability_YX : array of float32
        P of change, in [0, 1]; the larger the likelier, but no frequency of anything. NaN where
        either date is absent.
    threshold : float
        Change is a probability above it.
    """

    probability_YX: Floats
    threshold: float

    @property
    def change_YX(self) -> Booleans:
        """Where there is change; False where absent."""
        # NaN compares as False.
        return np.asarray(self.probability_YX > self.threshold)


def silent(step: Step) -> None:
    """Tell nobody."""


def metric_cd(
    scene: Scene,
    recipe: MetricCd = RECIPES["centred"],
    extractor: nn.Module | None = None,
    progress: Progress = silent,
) -> Found:
    """Map change between two images by an optimisation that sees nothing but these images.

    Tiles are images of their own: each has its own network, and its own statistics in the
    normalisations, the z-scores, the distances and their reference. Only the colours are those of
    the whole scene. A scene of one tile is therefore what the paper means; a tile without change
    in a scene that has some is held to its own, smaller differences.

    Parameters
    ----------
    scene : Scene
        Both dates, any bands and units.
    recipe : MetricCd
        One of :data:`~cdscale.learn.metric_cd.recipe.RECIPES`, or with other options.
    extractor : nn.Module, optional
        A :class:`cdscale.models.extractors.Extractor` for the bands of the scene, on the device
        where to compute; it is left as it is. None: the filter bank, which needs no weights.
    progress : callable
        Is told every iteration.

    Returns
    -------
    Found
        The same, bit for bit, for the same scene, recipe and machine.

    Raises
    ------
    ModelError
        When the recipe cannot be run, no pixel is seen by both dates, a tile is too small for the
        extractor, the extractor or the kernel needs other bands, or the loss is lost.
    """
    extractor = extractor or FilterBank(scene.bands)
    colours = learn_colours(scene, recipe.checked().colour)
    windows = tiles(scene, recipe.side, recipe.overlap)
    blend = Blend(scene)
    for number, window in enumerate(windows, start=1):
        dates = _dates(scene.read(window), colours, recipe, _device(extractor))
        # Statistics of a single pixel are none.
        if int(dates.seen_YX.sum()) < 2:
            continue

        def report(iteration: int, loss: float, tile: int = number) -> None:
            progress(Step(tile, len(windows), iteration, recipe.iterations, loss))

        probability_YX = fit(dates, recipe, extractor, report).cpu().numpy()
        blend.add(window, probability_YX, recipe.overlap)
    probability_YX = blend.mean()
    return Found(probability_YX, threshold_of(probability_YX, recipe))


def extractor_for(bands: int, recipe: MetricCd, weights: Path | None = None) -> nn.Module:
    """The feature extractor of a recipe.

    Parameters
    ----------
    bands : int
        Of each date; three, red, green and blue, with weights.
    recipe : MetricCd
        Says which levels: the first two blocks of VGG, and the third as well in the notebook.
    weights : Path or None
        ImageNet weights of VGG-16 (torchvision's state dict, safetensors or .pth). None: the
        filter bank.

    Raises
    ------
    ModelError
        When the weights do not fit, or are given for other than three bands.
    """
    if weights is None:
        return FilterBank(bands)
    if bands != 3:
        raise ModelError(
            explain(
                "Metric-CD with the weights of VGG",
                expected="3 bands: red, green and blue",
                got=bands,
                do="Choose three bands, or leave the weights out: the filter bank takes any.",
            )
        )
    levels = (1, 2, 3) if recipe.rule.mode == "notebook" else (1, 2)
    # As the filter bank's, so that haze and gain count for nothing; as printed in `paper`.
    network = Vgg(level_layers(16, levels), standardise=recipe.rule.mode == "centred")
    return load_vgg(network, weights)


def threshold_of(probability_YX: Floats, recipe: MetricCd) -> float:
    """The recipe's threshold of a map, which takes no label.

    Otsu's, or a number. With the rule ``centred`` no less than :func:`floor_of`.

    Raises
    ------
    ModelError
        When the map says nothing of any pixel.
    """
    values = probability_YX[np.isfinite(probability_YX)]
    if not values.size:
        raise ModelError(
            explain(
                "Metric-CD: the map",
                expected="a tile with two pixels or more that both dates show",
                got="none",
                do="Look whether the images overlap and what they call no data.",
            )
        )
    cut = recipe.threshold
    found = float(otsu(torch.from_numpy(values))) if cut == "otsu" else cut
    return max(found, floor_of(probability_YX, recipe))


def floor_of(probability_YX: Floats, recipe: MetricCd) -> float:
    """What no threshold of a map may be below.

    The median with the rule ``centred``: no more than half of the pixels lie above it, whatever
    the optimisation came to. Other rules have none.
    """
    if recipe.rule.mode != "centred":
        return -np.inf
    return float(np.nanmedian(probability_YX))


def _dates(images: Images, colours: Colours, recipe: MetricCd, device: torch.device) -> Dates:
    """A tile as the optimisation takes it: one colour space, one unit, nothing absent."""
    before_BYX, after_BYX = images
    seen_YX = seen(before_BYX, after_BYX)
    before, after = (
        # The middle of the range, the same in both: where nothing is seen nothing differs.
        torch.from_numpy(np.where(seen_YX, _scaled(image_BYX, colours, recipe), 0.5))
        for image_BYX in (colours.corrected(before_BYX), after_BYX)
    )
    there = torch.from_numpy(seen_YX).to(device)
    return Dates(before.float().to(device), after.float().to(device), there)


def _scaled(image_BYX: Any, colours: Colours, recipe: MetricCd) -> Any:
    """In units of date 2; a band that it has flat is left at its size."""
    if recipe.unit == "range":
        low_B, width_B = colours.low_B, colours.high_B - colours.low_B
    else:
        low_B, width_B = colours.mean_B - 2.5 * colours.spread_B, 5 * colours.spread_B
    width_B = np.where(width_B > 0, width_B, 1.0)
    return (image_BYX - low_B[:, None, None]) / width_B[:, None, None]


def _device(extractor: nn.Module) -> torch.device:
    held = [*extractor.parameters(), *extractor.buffers()]
    return held[0].device if held else torch.device("cpu")
