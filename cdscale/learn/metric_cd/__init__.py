"""Metric-CD: change between two images by one optimisation per pair, without any label.

::

    found = metric_cd(ArrayScene(before_BYX, after_BYX), RECIPES["centred"])
    found.probability_YX, found.change_YX

W. G. C. Bandara, V. M. Patel, "Deep metric learning for unsupervised remote sensing change
detection". Three recipes: ``centred``, ours and the one to use; ``paper`` as printed and
``notebook`` as published, for comparison.
"""

from cdscale.learn.metric_cd.colour import ColourRule
from cdscale.learn.metric_cd.detect import (
    Found,
    extractor_for,
    floor_of,
    metric_cd,
    silent,
    threshold_of,
)
from cdscale.learn.metric_cd.fitting import Step
from cdscale.learn.metric_cd.recipe import RECIPES, MetricCd, recipe_named
from cdscale.learn.metric_cd.scene import ArrayScene, Scene, Window

__all__ = [
    "RECIPES",
    "ArrayScene",
    "ColourRule",
    "Found",
    "MetricCd",
    "Scene",
    "Step",
    "Window",
    "extractor_for",
    "floor_of",
    "metric_cd",
    "recipe_named",
    "silent",
    "threshold_of",
]
