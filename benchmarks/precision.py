"""``python -m benchmarks.precision [CARD ...] [--write]``: what mapping in bfloat16 costs.

Every image goes through the network twice, in float32 and in bfloat16. Counted are the pixels that
lie on the other side of the card's threshold, of all that have a probability; and the time. Cards
trained on real pairs read the cities of OSCD (``CDSCALE_DATA``, else ``../shared/data`` beside the
checkout), those trained on simulated months a simulated region that no training has seen.
``--write`` puts the figures into the cards.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated_regions import write_regions
from cdscale import models
from cdscale.evaluation.scenes import Mapper, Way
from cdscale.inference import best_device
from cdscale.learn.data import DataSet, Sample, data_set
from cdscale.models import ModelCard, Precision
from cdscale.spec.card import Rounding, card_path

Floats = NDArray[np.float32]

DATA = Path(os.environ.get("CDSCALE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SEED = 113
"""Of the simulated region; 101 to 112 belong to the training of what ships."""


@dataclass
class Tally:
    """Two maps of the same images, compared pixel by pixel."""

    threshold: float
    pixels: int = 0
    turned: int = 0
    largest: float = 0.0

    def add(self, exact_YX: Floats, rough_YX: Floats) -> None:
        """Count one image.

        Raises
        ------
        ValueError
            When the two say something of different pixels.
        """
        said = np.isfinite(exact_YX)
        if not np.array_equal(said, np.isfinite(rough_YX)):
            raise ValueError("one precision says something where the other says nothing")
        exact, rough = exact_YX[said], rough_YX[said]
        self.pixels += len(exact)
        self.turned += int(((exact >= self.threshold) != (rough >= self.threshold)).sum())
        self.largest = max(self.largest, float(np.abs(exact - rough).max(initial=0)))

    def rounding(self, data: str, command: str) -> Rounding:
        """As a card states it."""
        return Rounding(
            argmax_disagreement=float(f"{self.turned / self.pixels:.3g}"),
            largest_difference=float(f"{self.largest:.3g}"),
            pixels=self.pixels,
            data=data,
            command=command,
        )


@dataclass(frozen=True)
class Images:
    """What a card is asked about."""

    data: DataSet
    samples: Sequence[Sample]
    title: str


@contextmanager
def images_of(card: ModelCard, size: int) -> Iterator[Images]:
    """Images of the kind that a card was trained on."""
    real = not card.training.simulated
    if real and card.task == "change":
        data = data_set("oscd")
        root = DATA / "oscd"
        samples = (*data.samples(root, "train"), *data.samples(root, "test"))
        yield Images(data, samples, f"OSCD, {len(samples)} cities, radar of every orbit")
    elif not real and card.task == "urban":
        with tempfile.TemporaryDirectory() as folder:
            data = data_set("spacenet7")
            seeds = {"train": (), "val": (), "test": (SEED,)}
            root = write_regions(Path(folder) / "regions", seeds, size)
            samples = data.samples(root, "test")
            yield Images(data, samples, f"simulated region {SEED}, {len(samples)} months")
    else:
        raise SystemExit(f"{card.name}: no images for task {card.task}, simulated {not real}")


def ask(model: str, images: Images, most: int = 0) -> tuple[Tally, dict[Precision, float]]:
    """Map images both ways; seconds of each on the processor or the device."""
    exact = Mapper.open(model, images.data, Way())
    card, home = exact.card, models.folder_of(model)
    rough = replace(exact, network=models.load(card, best_device(), "bfloat16", home))
    tally, seconds = Tally(card.threshold), {"float32": 0.0, "bfloat16": 0.0}
    for sample in images.samples[: most or None]:
        maps = []
        for name, mapper in (("float32", exact), ("bfloat16", rough)):
            started = time.process_time()
            maps.append(one_map(mapper, sample))
            seconds[name] += time.process_time() - started
        tally.add(*maps)
        print(sample.key, tally, flush=True)
    return tally, {"float32": seconds["float32"], "bfloat16": seconds["bfloat16"]}


def one_map(mapper: Mapper, sample: Sample) -> Floats:
    """Probability of one image or pair."""
    if mapper.card.task == "change":
        return mapper.change(sample)
    return mapper.urban(sample).probability_YX


def main() -> None:
    """Ask the cards that the command line names, or all that ship."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cards", nargs="*", metavar="CARD", help="names, or paths of card files")
    parser.add_argument("--size", type=int, default=512, help="pixels along a simulated region")
    parser.add_argument("--write", action="store_true", help="put the figures into the cards")
    options = parser.parse_args()
    for model in options.cards or [card.name for card in models.list_cards()]:
        card = models.load_card(model)
        with images_of(card, options.size) as images:
            tally, seconds = ask(model, images)
        found = tally.rounding(images.title, f"python -m benchmarks.precision {card.name}")
        ratio = seconds["float32"] / seconds["bfloat16"]
        print(f"{card.name} on {best_device()}: {found!r}")
        print(f"{card.name}: float32 takes {ratio:.2f} times as long as bfloat16 ({seconds})")
        if options.write:
            path = card_path(models.folder_of(model), card.name)
            card.model_copy(update={"bfloat16": found}).write(path)


if __name__ == "__main__":
    main()
