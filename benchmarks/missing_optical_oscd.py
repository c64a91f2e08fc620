"""System C on real pairs: OSCD with the second optical image withheld.

    python -m benchmarks.missing_optical_oscd OUT.json [--steps N] [--width N] [--seed N]
        [--way WAY ...] [--share X] [--withhold scenes|crops] [--phi X] [--detach]
    python -m benchmarks.missing_optical_oscd --table FILE.json ...

Ways that OUT.json holds already are not repeated.

The twelve labelled cities that have radar, in three folds of whole cities. In training the second
optical image of a share of the scenes, seeded, is withheld for good: of one in eight, since the
paper trains on samples of which "approx. 90 %" have both (``--withhold crops``: every scene is
there with it and without). Every held-out city is mapped three times: ``complete``;
``missing``, its second optical image withheld; ``half``, withheld under a made-up cloud that covers
half of the pixels. The ways: radar alone; zeros in place of optical (the DS U-Net); its features
reconstructed from radar (S. Hafner, Y. Ban, IGARSS 2023); their mean; a learned token. One
threshold for each network, that of the highest F1 over its training scenes as it was shown them.
F1 and average precision are of all held-out pixels pooled, over all folds.

13 bands and VV, each band of each date standardised by its image; crops are mirrored, turned, and
varied as in the recipe of the shipped weights (``--augment paper``: mirrored and turned alone);
power Jaccard loss of each crop, averaged; AdamW, one cycle. ``--table`` prints mean and sample
standard deviation over files that differ in their seed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from cdscale.learn.augment import Augment, Drawing, Sampling, Scene, draw_batch
from cdscale.learn.data import oscd
from cdscale.learn.losses import (
    IGNORED,
    Branches,
    MissingOpticalRule,
    missing_optical_loss,
    power_jaccard_each,
)
from cdscale.learn.metrics import Confusion, Curve
from cdscale.models.ds_unet import DSUNet
from cdscale.models.inputs import Pair, change_inputs
from cdscale.models.missing_optical_pair import MissingOpticalPair, both_seen
from cdscale.spec.card import Normalisation

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CDSCALE_DATA", ROOT.parent / "shared" / "data")) / "oscd"
FOLDS = 3
RULE = Normalisation(s2_standardise="image", s1_standardise="image", s1_db_clip=(-25.0, 5.0))
STILL = Augment(
    resample=0, atmosphere=0, season=0, noise=0, swap=0, hole=0, s1_drop=0, s1_gain_db=0,
    s1_speckle=0,
)  # fmt: skip
"""Mirrored and turned, and nothing else, as in the paper."""
VARIED = STILL.model_copy(update={"swap": 0.5, "jitter": 0.1, "phenology": 0.5})
"""As the recipe of the shipped weights has it, on the images' own grid."""
CLOUD = 24.0
"""Pixels over which a made-up cloud is smooth."""

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Way = Literal["radar", "zeros", "reconstructed", "mean", "token"]
Condition = Literal["complete", "missing", "half"]
Withhold = Literal["scenes", "crops"]
Varying = Literal["paper", "recipe"]
WAYS: tuple[Way, ...] = get_args(Way)
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
RECON: dict[Way, Any] = {
    "zeros": "none", "reconstructed": "separate", "mean": "mean", "token": "token"
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """One training, the same for all ways."""

    steps: int = 300
    width: int = 16
    batch: int = 8
    crop: int = 64
    rate: float = 2e-3
    seed: int = 0
    share: float = 0.125
    """Of the training scenes, without their second optical image."""
    withhold: Withhold = "scenes"
    augment: Varying = "recipe"
    bf16: bool = True
    loss: MissingOpticalRule = field(default_factory=lambda: MissingOpticalRule(reduction="mean"))

    def rule_of(self, way: Way) -> MissingOpticalRule:
        """The terms that have a meaning for a way to fill the gap."""
        if way == "reconstructed":
            return self.loss
        told: dict[str, float] = {"phi": 0.0}
        if way == "zeros":
            told["simulated"] = 0.0
        return self.loss.model_copy(update=told)


@dataclass(frozen=True)
class Place:
    """A city in memory: S2 (2, B, Y, X), S1 of each orbit (2, P, Y, X), label (Y, X)."""

    name: str
    s2: Tensor
    s1: tuple[Tensor, ...]
    label: Tensor

    @classmethod
    def read(cls, root: Path, name: str) -> Place:
        """Read one that has radar and a label."""
        city = oscd.read_city(root, name, oscd.BANDS)
        if city.label is None or not city.orbits:
            raise SystemExit(f"{name} has no label or no radar")
        s2 = torch.from_numpy(np.stack((city.s2_before, city.s2_after)))
        s1 = tuple(torch.from_numpy(np.stack((o.before, o.after))) for o in city.orbits)
        return cls(name, s2, s1, torch.from_numpy(city.label))

    def without(self, where_YX: Tensor | None = None) -> Place:
        """The same with the second optical image withheld, all of it or somewhere."""
        s2 = self.s2.clone()
        if where_YX is None:
            s2[1] = torch.nan
        else:
            s2[1, :, where_YX] = torch.nan
        return replace(self, s2=s2)


def places(root: Path) -> list[str]:
    """Labelled cities that have radar, in the order of their names."""
    found = oscd.OSCD.samples(root, "train")
    return sorted(s.key for s in found if s.has("change") and s.has("s1_before"))


def cloud(shape: tuple[int, ...], seed: int) -> Tensor:
    """A smooth mask (Y, X) that is True for half of the pixels."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    smooth = gaussian_filter(noise, CLOUD, mode="reflect")
    return torch.from_numpy(smooth > np.median(smooth))


def shown(training: list[Place], plan: Plan) -> list[Place]:
    """The training scenes as they are shown: some without their second optical image."""
    if plan.withhold == "crops":
        return [*training, *(place.without() for place in training)]
    order = np.random.default_rng(plan.seed).permutation(len(training))
    hidden = set(order[: round(len(training) * plan.share)].tolist())
    return [p.without() if i in hidden else p for i, p in enumerate(training)]


def network_of(way: Way, place: Place, width: int) -> nn.Module:
    """An untrained network."""
    bands, polarisations = place.s2.shape[1], place.s1[0].shape[1]
    if way == "radar":
        return DSUNet(0, polarisations, width=width)
    return MissingOpticalPair(bands, polarisations, width=width, recon=RECON[way])


def loss_of(
    network: nn.Module, inputs: Inputs, label_BYX: Tensor, rule: MissingOpticalRule
) -> Tensor:
    """That of System C; of radar alone the power Jaccard of each crop."""
    if not isinstance(network, MissingOpticalPair):
        said = network(*inputs)[:, 1].float().sigmoid()
        counted = label_BYX != IGNORED
        return power_jaccard_each(said * counted, (label_BYX == 1).float()).mean()
    seen = both_seen(inputs[0], inputs[1])
    found = network.features(*inputs, seen=seen)
    branches = Branches(
        fused=network.net.fuse(found.s1, torch.where(seen, found.s2, found.s2_from_s1)),
        blind=network.net.fuse(found.s1, found.s2_from_s1),
        s2=found.s2,
        s2_from_s1=found.s2_from_s1,
    )
    return missing_optical_loss(branches, label_BYX, seen[:, 0], rule)


def train(way: Way, training: list[Place], plan: Plan) -> nn.Module:
    """A network of a way after its one cycle; crops are the same for all ways."""
    torch.manual_seed(plan.seed)
    network = network_of(way, training[0], plan.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scenes = [Scene.of(p.s2, p.s1, p.label, RULE) for p in shown(training, plan)]
    sampling = Sampling(crop=plan.crop, batch=plan.batch, near_change=0.75)
    how = Drawing(oscd.BANDS, sampling, STILL if plan.augment == "paper" else VARIED, RULE)
    optimiser = torch.optim.AdamW(network.parameters(), plan.rate, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, total_steps=plan.steps)
    recent: list[float] = []
    for step in range(plan.steps):
        torch.manual_seed(plan.seed * 1_000_003 + step)
        batch = draw_batch(scenes, how)
        inputs = batch.inputs(RULE).tensors()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.bf16):
            loss = loss_of(network, inputs, batch.label, plan.rule_of(way))
        optimiser.zero_grad()
        loss.float().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        cycle.step()
        recent.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"  {way} {step + 1}: {np.mean(recent[-50:]):.4f}", flush=True)
    return network.eval()


@torch.inference_mode()
def probability(network: nn.Module, place: Place) -> NDArray[np.float32]:
    """Map (Y, X) of a place by its first orbit, in one pass."""
    s1 = place.s1[0]
    dates = [x[None] for x in (place.s2[0], place.s2[1], s1[0], s1[1])]
    inputs = change_inputs(Pair(*dates), RULE).tensors()
    logits_BCYX: Tensor = network(*inputs)
    said: NDArray[np.float32] = logits_BCYX.softmax(dim=1)[0, 1].numpy()
    return said


def threshold_of(network: nn.Module, scenes: list[Place]) -> float:
    """That of the highest pooled F1."""
    curve = Curve()
    for place in scenes:
        curve.add(probability(network, place), place.label.numpy())
    return curve.best()[0]


@dataclass(frozen=True)
class Pixels:
    """Pixels of a city that radar saw: what is said, what is true, the map, and the cloud."""

    said: NDArray[np.float32]
    true: NDArray[np.bool_]
    change: NDArray[np.bool_]
    hidden: NDArray[np.bool_]


def pixels(network: nn.Module, place: Place, seed: int, threshold: float) -> dict[str, Pixels]:
    """What a network says of a held-out city in the three conditions."""
    nothing = torch.zeros(place.label.shape, dtype=torch.bool)
    clouds = {"complete": nothing, "missing": ~nothing, "half": cloud(nothing.shape, seed)}
    # The same pixels in all conditions: without radar nothing is said where optical is missing.
    known = (torch.isfinite(place.s1[0]).all(dim=(0, 1)) & (place.label != IGNORED)).numpy()
    true = place.label.numpy()[known] == 1
    found: dict[str, Pixels] = {}
    for condition in CONDITIONS:
        said = probability(network, place.without(clouds[condition]))[known]
        hidden = clouds[condition].numpy()[known]
        found[condition] = Pixels(said, true, said >= threshold, hidden)
    return found


def pooled(parts: list[Pixels], under: bool | None = None) -> dict[str, float]:
    """Figures of all pixels, or of those under the cloud or beside it."""
    said, true, change, hidden = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("said", "true", "change", "hidden")
    )
    if under is not None:
        said, true, change = (x[hidden == under] for x in (said, true, change))
    told = Confusion.of(change.astype(np.uint8), true.astype(np.uint8)).figures()
    area = float(average_precision_score(true, said))
    return {**told, "ap": round(area, 4), "changed": round(float(true.mean()), 4)}


def figures_of(found: dict[str, dict[str, Pixels]]) -> dict[str, Any]:
    """Of one way: pooled figures of each condition, and those of each city."""
    told: dict[str, Any] = {c: pooled([city[c] for city in found.values()]) for c in CONDITIONS}
    halves = [city["half"] for city in found.values()]
    told["under the cloud"] = pooled(halves, under=True)
    told["beside the cloud"] = pooled(halves, under=False)
    told["cities"] = {
        name: {c: _short(pooled([part])) for c, part in city.items()}
        for name, city in found.items()
    }
    return told


def _short(told: dict[str, float]) -> dict[str, float]:
    return {"f1": told["f1"], "ap": told["ap"]}


def held_out(names: list[str]) -> list[list[str]]:
    """Cities of each fold."""
    return [names[k::FOLDS] for k in range(FOLDS)]


def measure(way: Way, cities: dict[str, Place], plan: Plan) -> dict[str, Any]:
    """Train a way once for each fold; figures over the cities that were held out."""
    names = sorted(cities)
    found: dict[str, dict[str, Pixels]] = {}
    runs = []
    for out in held_out(names):
        training = [cities[name] for name in names if name not in out]
        since = time.perf_counter()
        network = train(way, training, plan)
        seconds = round(time.perf_counter() - since)
        threshold = threshold_of(network, shown(training, plan))
        mapped = {n: pixels(network, cities[n], names.index(n), threshold) for n in out}
        runs.append({"out": out, "threshold": threshold, "seconds": seconds})
        now = {c: pooled([city[c] for city in mapped.values()]) for c in CONDITIONS}
        short = {c: _short(one) for c, one in now.items()}
        print(json.dumps({"way": way, **runs[-1], **short}), flush=True)
        found |= mapped
    return {**figures_of(found), "runs": runs}


def table_of_seeds(files: list[dict[str, Any]]) -> str:
    """Markdown: mean and sample standard deviation over seeds, of ways that every file holds."""
    first = {**files[0]["plan"], "seed": None}
    if any({**one["plan"], "seed": None} != first for one in files):
        raise SystemExit("files differ in more than their seed: a mean of them says nothing")
    rows = ["| | " + " | ".join(f"{c} F1 | AP" for c in CONDITIONS) + " |", "|---" * 7 + "|"]
    for way in WAYS:
        told = [one["ways"][way] for one in files if way in one["ways"]]
        if len(told) < len(files):
            continue
        cells = []
        for condition in CONDITIONS:
            for key in ("f1", "ap"):
                x = np.array([one[condition][key] for one in told])
                spread = f" ± {x.std(ddof=1):.3f}" if len(x) > 1 else ""
                cells.append(f"{x.mean():.3f}{spread}")
        rows.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(rows)


def plan_of(options: argparse.Namespace) -> Plan:
    """What the command line says of the training."""
    loss = MissingOpticalRule(phi=options.phi, detach_target=options.detach, reduction="mean")
    names = ("steps", "width", "rate", "crop", "seed", "share", "withhold", "augment", "bf16")
    return Plan(**{name: getattr(options, name) for name in names}, loss=loss)


def kept(out: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Ways that a file holds already, if it is of this plan."""
    if not out.exists():
        return {}
    found = json.loads(out.read_text())
    if found["plan"] != told:
        raise SystemExit(f"{out} is of another plan: name another file, or the same options")
    ways: dict[str, Any] = found["ways"]
    return ways


def main() -> None:
    """Run what the command line names and the file does not hold yet; it grows way by way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--table", type=Path, nargs="+", help="print a table of these, train none")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--width", type=int, default=Plan.width)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--crop", type=int, default=Plan.crop)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--share", type=float, default=Plan.share, help="scenes without optical")
    parser.add_argument("--augment", choices=get_args(Varying), default=Plan.augment)
    parser.add_argument("--withhold", choices=get_args(Withhold), default=Plan.withhold)
    parser.add_argument("--phi", type=float, default=1e-2, help="weight of the similarity")
    parser.add_argument("--detach", action="store_true", help="the target of the similarity")
    parser.add_argument("--float32", dest="bf16", action="store_false", help="not in bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.table:
        print(table_of_seeds([json.loads(path.read_text()) for path in options.table]))
        return
    if options.out is None:
        parser.error("name OUT.json, or --table FILE.json ...")
    torch.set_num_threads(options.threads)
    plan = plan_of(options)
    told = {**vars(plan), "loss": plan.loss.model_dump()}
    ways = kept(options.out, told)
    cities = {name: Place.read(DATA, name) for name in places(DATA)}
    for way in options.way:
        if way not in ways:
            ways[way] = measure(way, cities, plan)
            options.out.write_text(json.dumps({"plan": told, "ways": ways}, indent=1) + "\n")
    print(table_of_seeds([{"plan": told, "ways": ways}]), flush=True)


if __name__ == "__main__":
    main()
