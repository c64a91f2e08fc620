"""Detectors that need no training: from image differencing to IRMAD, and deep features.

::

    found = classical.detect(before_BYX, after_BYX, classical.METHODS["irmad"])
    found.score_YX, found.change_YX

All of them but DeepCVA and CNNF also take a mosaic block by block: see :func:`fit`.
"""

from __future__ import annotations

from cdscale.classical.blocks import Pair, cut
from cdscale.classical.components import Dpca, Pcda
from cdscale.classical.deep import Cnnf, DeepCva, Features
from cdscale.classical.detect import METHODS, Difference, Fitted, compare, detect, fit, method_named
from cdscale.classical.local import Adaptive, clean
from cdscale.classical.mad import Irmad, Mad
from cdscale.classical.method import Detector, Method
from cdscale.classical.pca_kmeans import PcaKmeans
from cdscale.classical.simple import Cva, ImageDiff, ImageRatio, ImageRegr
from cdscale.classical.threshold import Fixed, KMeans, Layer, Otsu, Threshold, threshold_named

__all__ = [
    "METHODS",
    "Adaptive",
    "Cnnf",
    "Cva",
    "DeepCva",
    "Detector",
    "Difference",
    "Dpca",
    "Features",
    "Fitted",
    "Fixed",
    "ImageDiff",
    "ImageRatio",
    "ImageRegr",
    "Irmad",
    "KMeans",
    "Layer",
    "Mad",
    "Method",
    "Otsu",
    "Pair",
    "PcaKmeans",
    "Pcda",
    "Threshold",
    "clean",
    "compare",
    "cut",
    "detect",
    "fit",
    "method_named",
    "threshold_named",
]
