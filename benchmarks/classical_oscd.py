"""The detectors that need no training, on the OSCD cities that have labels.

    python -m benchmarks.classical_oscd [--method NAME ...] [CITY ...]

All 13 bands, date 1 against date 2, default options. For each method: the area under the ROC
curve of the score (mean over channels), and F1 by Otsu's threshold and by k-means, each the plain
mean over cities; beside it the area that W. G. C. Bandara and V. M. Patel (Metric-CD) state for
the ten test cities. Without a city, all fourteen that have labels.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np

from cdscale.classical import METHODS, KMeans, Otsu, Threshold, compare
from cdscale.learn.data import oscd
from cdscale.learn.metrics import Confusion, auc

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CDSCALE_DATA", ROOT.parent / "shared" / "data")) / "oscd"

PUBLISHED = {
    "image-diff": 0.752, "image-ratio": 0.697, "image-regr": 0.821, "cva": 0.751, "dpca": 0.823,
    "pcda": 0.805, "mad": 0.857, "irmad": 0.864,
}  # fmt: skip
"""AUC on the ten test cities; there is none for PCA-k-means."""
THRESHOLDS: tuple[Threshold, ...] = (Otsu(), KMeans())


class Figures(NamedTuple):
    """Of one method on one city."""

    auc: float
    f1_otsu: float
    f1_kmeans: float
    seconds: float


def score(city: oscd.City, name: str) -> Figures:
    """A method on a city, whose label must be there."""
    if city.label is None:
        raise SystemExit(f"{city.name} has no label")
    started = time.perf_counter()
    layer = compare(city.s2_before, city.s2_after, METHODS[name])
    seconds = time.perf_counter() - started
    seen_YX = np.isfinite(layer.score_YX)
    truth = city.label[seen_YX]
    otsu, kmeans = (
        Confusion.of(threshold.fit([layer]).change(layer)[seen_YX], truth).f1
        for threshold in THRESHOLDS
    )
    return Figures(auc(layer.score_YX[seen_YX], truth), otsu, kmeans, seconds)


def main() -> None:
    """Score the methods and cities that the command line names, and print the table."""
    plain = sorted(set(METHODS) - {"deepcva", "cnnf"}, key=list(METHODS).index)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cities", nargs="*")
    parser.add_argument("--method", nargs="+", choices=plain, default=plain)
    options = parser.parse_args()
    found: dict[str, list[Figures]] = {name: [] for name in options.method}
    for place in options.cities or oscd.CITIES["train"]:
        city = oscd.read_city(DATA, place, oscd.BANDS)
        for name, figures in found.items():
            figures.append(score(city, name))
            record = {key: round(value, 3) for key, value in figures[-1]._asdict().items()}
            print(json.dumps({"city": place, "method": name, **record}), flush=True)
    print(f"\n{'method':12} {'AUC':>6} {'published':>9} {'F1 Otsu':>8} {'F1 k-means':>10} {'s':>6}")
    for name, figures in found.items():
        mean = Figures(*(fmean(column) for column in zip(*figures, strict=True)))
        published = f"{PUBLISHED[name]:.3f}" if name in PUBLISHED else ""
        print(
            f"{name:12} {mean.auc:6.3f} {published:>9} {mean.f1_otsu:8.3f} "
            f"{mean.f1_kmeans:10.3f} {mean.seconds:6.2f}"
        )


if __name__ == "__main__":
    main()
