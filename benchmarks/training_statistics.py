"""``python -m benchmarks.training_statistics [CARD ...] [--write]``: what cards were trained on.

Of each band the quantiles of all values of all training places, a value for each n-th pixel; and
how far the second strangest of the places lies from all others, which is from where on a run says
that its scenes are unlike those of the training. Cards of real pairs read the training cities of
OSCD (``CDSCALE_DATA``, else ``../shared/data`` beside the checkout), those of simulated months
smaller siblings of the training's regions. The places that were kept from the training are then
asked, to see how often one of the same kind is called strange. ``--write`` puts the figures into
the cards.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulated_regions import SEEDS, write_regions
from cdscale import models
from cdscale.drift import Band, Drift
from cdscale.kernels.spread import distance, spread_of
from cdscale.learn.data import Sample, data_set
from cdscale.models import ModelCard
from cdscale.spec.card import Seen, card_path

Floats = NDArray[np.float64]
Place = dict[str, Floats]
"""Values of each band of one place."""

DATA = Path(os.environ.get("CDSCALE_DATA", Path(__file__).parents[2] / "shared" / "data"))
STEP = 7
"""Every n-th pixel along rows and columns: neighbours say the same."""


@dataclass(frozen=True)
class Places:
    """What a card was trained on, and places of the same kind that it has not seen."""

    title: str
    trained: dict[str, Place]
    others: dict[str, Place]


@contextmanager
def places_of(card: ModelCard, size: int, regions: int) -> Iterator[Places]:
    """Values of the places of a card's training; of simulated ones the first so many."""
    if not card.training.simulated and card.task == "change":
        data, root = data_set("oscd"), DATA / "oscd"
        trained, others = (values_of(card, data.samples(root, s)) for s in ("train", "test"))
        yield Places(f"OSCD, {len(trained)} training cities, both dates", trained, others)
    elif card.training.simulated and card.task == "urban":
        with tempfile.TemporaryDirectory() as folder:
            seeds = {"train": SEEDS["train"][:regions], "val": (), "test": ()}
            root = write_regions(Path(folder) / "regions", seeds, size)
            data = data_set("spacenet7")
            trained = values_of(card, data.samples(root, "train"))
            title = f"simulated regions of {size} pixels a side, {regions} of the seeds of training"
            yield Places(title, trained, {})
    else:
        raise SystemExit(f"{card.name}: no training data for its task here")


def values_of(card: ModelCard, samples: tuple[Sample, ...]) -> dict[str, Place]:
    """Values of each band of each place, in reflectance and dB."""
    found: dict[str, defaultdict[str, list[Floats]]] = {}
    for sample in samples:
        place = found.setdefault(sample.place, defaultdict(list))
        for name in (name for name in sample.names if sample.has(name)):
            if name in {"before", "after", "image"}:
                bands, image = card.s2_bands, sample.read(name, card.s2_bands)
            elif name.startswith("s1"):
                bands, image = card.s1_bands, decibel(sample.read(name, card.s1_bands))
            else:
                continue
            for band, plane in zip(bands, image, strict=True):
                values = plane[::STEP, ::STEP]
                place[band].append(values[np.isfinite(values)].astype(np.float64))
    return {
        place: {band: np.concatenate(parts) for band, parts in bands.items()}
        for place, bands in found.items()
    }


def decibel(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of linear power; NaN where there is none."""
    return 10 * np.log10(np.where(power > 0, power, np.float32(np.nan)))


def seen(card: ModelCard, places: Places, command: str) -> Seen:
    """As the card states it."""
    spreads: dict[str, tuple[float, ...]] = {}
    limit: dict[str, float] = {}
    for band in (*card.s2_bands, *card.s1_bands):
        own = {name: p[band] for name, p in places.trained.items() if len(p.get(band, ()))}
        spreads[band] = tuple(round(q, 4) for q in spread_of(pooled(own.values())))
        apart = {
            name: distance(
                spread_of(values), spread_of(pooled(v for n, v in own.items() if n != name))
            )
            for name, values in own.items()
        }
        strange = sorted(apart, key=lambda name: -apart[name])[:2]
        limit[band] = round(apart[strange[1]], 3)
        said = ", ".join(f"{name} lies {apart[name]:.3f} away" for name in strange)
        print(f"{band}: {spreads[band]}; {said}", flush=True)
    return Seen(
        s2={band: spreads[band] for band in card.s2_bands},
        s1={band: spreads[band] for band in card.s1_bands},
        limit=limit,
        places=len(places.trained),
        data=places.title,
        command=command,
    )


def pooled(parts: Iterable[Floats]) -> Floats:
    """The same number of values of each place, so that a large one does not speak for all."""
    arrays = list(parts)
    number = min(len(part) for part in arrays)
    return np.concatenate(
        [part[np.linspace(0, len(part) - 1, number, dtype=int)] for part in arrays]
    )


def strangers(card: ModelCard, known: Seen, places: dict[str, Place]) -> None:
    """Say which of the places that were kept from training a run would warn of."""
    spreads = known.s2 | known.s1
    for name, place in places.items():
        bands = tuple(
            Band(
                name=band,
                distance=distance(spread_of(place[band]), spreads[band]),
                limit=limit,
                found=spread_of(place[band]),
                trained=spreads[band],
            )
            for band, limit in known.limit.items()
            if len(place.get(band, ()))
        )
        found = Drift(
            role="", model=card.name, data="", places=0, pieces=0, pixels=0, bands=bands
        )  # fmt: skip
        print(f"{name}: {found.verdict}. {found.text}", flush=True)


def main() -> None:
    """Measure the cards that the command line names, or all that ship."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cards", nargs="*", metavar="CARD", help="names, or paths of card files")
    parser.add_argument("--size", type=int, default=192, help="pixels along a simulated region")
    parser.add_argument(
        "--regions", type=int, default=len(SEEDS["train"]), help="of the simulated ones"
    )
    parser.add_argument("--write", action="store_true", help="put the figures into the cards")
    options = parser.parse_args()
    for model in options.cards or [card.name for card in models.list_cards()]:
        card = models.load_card(model)
        with places_of(card, options.size, options.regions) as places:
            command = f"python -m benchmarks.training_statistics {card.name}"
            found = seen(card, places, command)
            strangers(card, found, places.others)
        if options.write:
            path = card_path(models.folder_of(model), card.name)
            card.model_copy(update={"seen": found}).write(path)


if __name__ == "__main__":
    main()
