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
half of the pixels.

The ways: radar alone; zeros in place of both dates of optical, as this package does it (the DS
U-Net); zeros in place of the missing date alone, the other date shown, which is the paper's
all-zero tensor carried to pairs literally ("zeros-after"); optical features reconstructed from
radar (S. Hafner, Y. Ban, IGARSS 2023); their mean; a learned token. Zeros have no term for a
complete sample treated as missing: the paper's baseline has none, and it is what reconstruction
adds to the loss.

How ways are compared was settled before they were run:

- F1 at 0.5, the paper's threshold for all of its networks, chosen by nobody, and where the power
  Jaccard loss, a smooth IoU, puts the border. A threshold tuned on complete scenes would favour
  the way whose probabilities move least when optical goes.
- "tuned": F1 at the threshold of the highest F1 on training scenes *in that condition*, since a
  network knows where optical is missing. Of the middle of each scene, 256 pixels a side. It can
  mend a way that only calls too much or too little.
- average precision (AP), which needs no threshold.
- each as a share of what radar alone has. It is the ceiling where optical is missing, and with VV
  alone a low one, so that "far above" can only mean far along the way to it.

All figures are of all held-out pixels pooled, over all folds; ``--table`` prints mean and sample
standard deviation over files that differ in their seed.

13 bands and VV, each band of each date standardised by its image; crops are mirrored, turned, and
varied as in the recipe of the shipped weights (``--augment paper``: mirrored and turned alone);
power Jaccard loss of each crop, averaged; AdamW, one cycle.
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
from cdscale.models.inputs import Pair, PairMoments, change_inputs, s2_input
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
MIDDLE = 256
"""Side of the part of a training scene that thresholds are tuned on."""
THRESHOLD = 0.5
FIGURES = {"f1": "F1", "tuned": "F1, tuned", "ap": "AP"}
"""That the table prints."""

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Way = Literal["radar", "zeros", "zeros-after", "reconstructed", "mean", "token"]
Condition = Literal["complete", "missing", "half"]
Withhold = Literal["scenes", "crops"]
Varying = Literal["paper", "recipe"]
WAYS: tuple[Way, ...] = get_args(Way)
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
RECON: dict[Way, Any] = {
    "zeros": "none", "zeros-after": "none", "reconstructed": "separate", "mean": "mean",
    "token": "token",
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
    bf16: bool = False
    loss: MissingOpticalRule = field(default_factory=lambda: MissingOpticalRule(reduction="mean"))

    def rule_of(self, way: Way) -> MissingOpticalRule:
        """The terms that have a meaning for a way to fill the gap."""
        if way == "reconstructed":
            return self.loss
        told: dict[str, float] = {"phi": 0.0}
        if RECON.get(way) == "none":
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

    def middle(self, side: int) -> Place:
        """Its central part."""
        height, width = self.label.shape
        top, left = (max(0, (n - side) // 2) for n in (height, width))
        part = (..., slice(top, top + side), slice(left, left + side))
        return Place(self.name, self.s2[part], tuple(o[part] for o in self.s1), self.label[part])


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


def inputs_of(way: Way, pair: Pair, moments: PairMoments) -> Inputs:
    """What the network of a way is given; only "zeros-after" sees a date whose other is missing."""
    inputs = change_inputs(pair, RULE, moments)
    if way != "zeros-after":
        return inputs.tensors()
    before = s2_input(pair.s2_before, RULE, moments.s2_before)
    after = s2_input(pair.s2_after, RULE, moments.s2_after)
    return before, after, inputs.s1_before, inputs.s1_after


def optical_of(way: Way, inputs: Inputs) -> Tensor:
    """Where a network of optical is to take what it is given as seen, (B, 1, Y, X)."""
    seen = both_seen(inputs[0], inputs[1])
    return torch.ones_like(seen) if way == "zeros-after" else seen


def loss_of(
    way: Way, network: nn.Module, inputs: Inputs, label_BYX: Tensor, rule: MissingOpticalRule
) -> Tensor:
    """That of System C; of radar alone the power Jaccard of each crop."""
    if not isinstance(network, MissingOpticalPair):
        said = network(*inputs)[:, 1].float().sigmoid()
        counted = label_BYX != IGNORED
        return power_jaccard_each(said * counted, (label_BYX == 1).float()).mean()
    seen = optical_of(way, inputs)
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
        inputs = inputs_of(way, batch.pair, batch.moments)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.bf16):
            loss = loss_of(way, network, inputs, batch.label, plan.rule_of(way))
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
def probability(way: Way, network: nn.Module, place: Place) -> NDArray[np.float32]:
    """Map (Y, X) of a place by its first orbit, in one pass."""
    s1 = place.s1[0]
    pair = Pair(*(x[None] for x in (place.s2[0], place.s2[1], s1[0], s1[1])))
    inputs = inputs_of(way, pair, PairMoments.of(pair, RULE))
    if isinstance(network, MissingOpticalPair):
        logits_BCYX: Tensor = network(*inputs, seen=optical_of(way, inputs))
    else:
        logits_BCYX = network(*inputs)
    said: NDArray[np.float32] = logits_BCYX.softmax(dim=1)[0, 1].numpy()
    return said


def withheld(place: Place, condition: Condition, seed: int) -> tuple[Place, NDArray[np.bool_]]:
    """A place in a condition, and the mask (Y, X) of what is withheld of it."""
    hidden = torch.full(place.label.shape, condition == "missing")
    if condition == "half":
        hidden = cloud(place.label.shape, seed)
    return place.without(hidden), hidden.numpy()


def thresholds_of(way: Way, network: nn.Module, scenes: list[Place]) -> dict[Condition, float]:
    """Of each condition that of the highest F1, pooled over the middle of scenes."""
    found: dict[Condition, float] = {}
    for condition in CONDITIONS[:1] if way == "radar" else CONDITIONS:
        curve = Curve()
        for k, place in enumerate(scenes):
            shown_so, _ = withheld(place.middle(MIDDLE), condition, k)
            curve.add(probability(way, network, shown_so), shown_so.label.numpy())
        found[condition] = curve.best()[0]
    # Radar alone says the same in all of them.
    return {condition: found.get(condition, found["complete"]) for condition in CONDITIONS}


@dataclass(frozen=True)
class Pixels:
    """Pixels of a city that radar saw: what is said, is true, is above the tuned threshold, is
    under the cloud."""

    said: NDArray[np.float32]
    true: NDArray[np.bool_]
    tuned: NDArray[np.bool_]
    hidden: NDArray[np.bool_]


def pixels(
    way: Way, network: nn.Module, place: Place, seed: int, thresholds: dict[Condition, float]
) -> dict[Condition, Pixels]:
    """What a network says of a held-out city in the three conditions."""
    # The same pixels in all conditions: without radar nothing is said where optical is missing.
    known = (torch.isfinite(place.s1[0]).all(dim=(0, 1)) & (place.label != IGNORED)).numpy()
    true = place.label.numpy()[known] == 1
    found: dict[Condition, Pixels] = {}
    said = np.empty(0, np.float32)
    for condition in CONDITIONS:
        shown_so, hidden = withheld(place, condition, seed)
        if way != "radar" or condition == CONDITIONS[0]:
            said = probability(way, network, shown_so)[known]
        found[condition] = Pixels(said, true, said >= thresholds[condition], hidden[known])
    return found


def pooled(parts: list[Pixels], under: bool | None = None) -> dict[str, float]:
    """Figures of all pixels, or of those under the cloud or beside it."""
    said, true, tuned, hidden = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("said", "true", "tuned", "hidden")
    )
    if under is not None:
        said, true, tuned = (x[hidden == under] for x in (said, true, tuned))
    truth = true.astype(np.uint8)
    told = Confusion.of((said >= THRESHOLD).astype(np.uint8), truth).figures()
    better = Confusion.of(tuned.astype(np.uint8), truth).figures()["f1"]
    area = float(average_precision_score(true, said))
    return {**told, "tuned": better, "ap": round(area, 4), "changed": round(float(true.mean()), 4)}


def figures_of(found: dict[str, dict[Condition, Pixels]]) -> dict[str, Any]:
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
    return {key: told[key] for key in FIGURES}


def held_out(names: list[str]) -> list[list[str]]:
    """Cities of each fold."""
    return [names[k::FOLDS] for k in range(FOLDS)]


def measure(way: Way, cities: dict[str, Place], plan: Plan) -> dict[str, Any]:
    """Train a way once for each fold; figures over the cities that were held out."""
    names = sorted(cities)
    found: dict[str, dict[Condition, Pixels]] = {}
    runs = []
    for out in held_out(names):
        training = [cities[name] for name in names if name not in out]
        since = time.perf_counter()
        network = train(way, training, plan)
        seconds = round(time.perf_counter() - since)
        tuned = thresholds_of(way, network, training)
        mapped = {n: pixels(way, network, cities[n], names.index(n), tuned) for n in out}
        runs.append({"out": out, "thresholds": tuned, "seconds": seconds})
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
    names = [f"{condition}: {name}" for condition in CONDITIONS for name in FIGURES.values()]
    names += [f"of radar alone, missing: {name}" for name in FIGURES.values()]
    rows = [f"| | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for way in WAYS:
        told = [one["ways"][way] for one in files if way in one["ways"]]
        if len(told) < len(files):
            continue
        cells = [_spread([x[c][key] for x in told]) for c in CONDITIONS for key in FIGURES]
        if all("radar" in one["ways"] for one in files):
            alone = [one["ways"]["radar"]["missing"] for one in files]
            pairs = list(zip(told, alone, strict=True))
            cells += [
                _spread([x["missing"][k] / max(y[k], 1e-9) for x, y in pairs]) for k in FIGURES
            ]
        rows.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _spread(values: list[float]) -> str:
    x = np.array(values)
    return f"{x.mean():.3f}" + (f" ± {x.std(ddof=1):.3f}" if len(x) > 1 else "")


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
    parser.add_argument("--bf16", action="store_true", help="faster with AMX, slower without")
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
