"""Training of the missing-optical urban network on months of regions.

::

    python -m cdscale.learn.urban RECIPE.yaml --regions DIR [DIR ...] --out DIR [--weights DIR]

A region is an ``.npz`` file with ``s1_TPYX`` (linear power), ``s2_TBYX`` (reflectance), both NaN
where absent, ``seen_TYX`` (True: optical pixel is valid) and ``label_TYX`` (1 urban, 0 not, 255
unknown). Regions are held out whole, as the recipe says.

Shape suffixes: T month, B band or sample, P polarisation, C channel, Y row, X column.
"""

from __future__ import annotations

import argparse
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cdscale.errors import ReadError, explain
from cdscale.learn.export import Result, ship
from cdscale.learn.losses import IGNORED, Branches, MissingOpticalRule, missing_optical_loss
from cdscale.learn.metrics import Curve
from cdscale.learn.recipe import Optimiser, Split
from cdscale.learn.state import Run, descend, log_row, write_tensors
from cdscale.learn.whole import centre, surrounded
from cdscale.models.inputs import s1_input, s2_input
from cdscale.models.missing_optical import HALO, STRIDE, MissingOptical
from cdscale.spec.base import Frozen
from cdscale.spec.card import ModelCard, Normalisation, Training


class UrbanLoss(MissingOpticalRule):
    """The loss of System C, by default as the paper has it, and its mean over samples."""

    reduction: Literal["sum", "mean"] = "mean"


class UrbanAugment(Frozen):
    """Random crop, flips and quarter turns, and jitter of what sensors say."""

    crop: int = 64
    season: float = 0.05
    """Standard deviation of the gain of reflectance, over all bands; half of it per band."""
    s1_gain_db: float = 0.5
    s2_drop: float = 0.0
    """Probability that a complete sample is taken as missing altogether."""


class UrbanRecipe(Frozen):
    """Training of a missing-optical network. Names in ``split`` are stems of region files."""

    name: str
    version: str
    title: str
    s2_bands: tuple[str, ...]
    s1_bands: tuple[str, ...]
    network: dict[str, Any]
    s2_clip: tuple[float, float] = (0.0, 1.0)
    s1_db_clip: tuple[float, float] = (-25.0, 0.0)
    split: Split
    optimiser: Optimiser
    loss: UrbanLoss = UrbanLoss()
    augment: UrbanAugment = UrbanAugment()
    seed: int
    validate_every: int = 200
    simulated: bool
    data: str
    licence: str
    limits: tuple[str, ...]


@dataclass(frozen=True)
class Region:
    """Months of one place; see the head of the module."""

    name: str
    s1_TPYX: NDArray[np.float32]
    s2_TBYX: NDArray[np.float32]
    seen_TYX: NDArray[np.bool_]
    label_TYX: NDArray[np.uint8]

    def masked(self) -> NDArray[np.float32]:
        """Reflectance with NaN wherever it was not validly seen."""
        masked: NDArray[np.float32] = np.where(self.seen_TYX[:, None], self.s2_TBYX, np.nan)
        return masked


@dataclass(frozen=True)
class Sample:
    """A batch of physical crops: (B, P or B, Y, X), with label (B, Y, X)."""

    s1: Tensor
    s2: Tensor
    label: Tensor


def read_region(path: Path) -> Region:
    """Read one region.

    Raises
    ------
    ReadError
        When the file is absent, damaged, lacks an array, or shapes disagree.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            region = Region(
                path.stem,
                file["s1_TPYX"].astype(np.float32),
                file["s2_TBYX"].astype(np.float32),
                file["seen_TYX"].astype(bool),
                file["label_TYX"].astype(np.uint8),
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as err:
        raise ReadError(explain(f"region {path}", got=str(err)), permanent=True) from None
    months, _, height, width = region.s1_TPYX.shape
    expected = (months, height, width)
    got = [region.seen_TYX.shape, region.label_TYX.shape, region.s2_TBYX[:, 0].shape]
    if any(shape != expected for shape in got):
        raise ReadError(
            explain(f"region {path}: shapes", expected=expected, got=got), permanent=True
        )
    return region


def read_regions(folders: Sequence[Path], names: tuple[str, ...]) -> list[Region]:
    """Regions of a split, wherever they stand.

    Raises
    ------
    ReadError
        When one is in none of the folders.
    """
    regions = []
    for name in names:
        found = [folder / f"{name}.npz" for folder in folders if (folder / f"{name}.npz").exists()]
        if not found:
            places = ", ".join(str(folder) for folder in folders)
            raise ReadError(explain(f"region {name}", expected=f"in {places}"), permanent=True)
        regions.append(read_region(found[0]))
    return regions


def measure(recipe: UrbanRecipe, regions: Sequence[Region]) -> Normalisation:
    """Clip ranges of the recipe, with mean and standard deviation of what was seen in training."""
    bands = len(recipe.s2_bands)
    total, square, count = np.zeros(bands), np.zeros(bands), 0
    for region in regions:
        for image, seen in zip(region.s2_TBYX, region.seen_TYX, strict=True):
            pixels = np.clip(image[:, seen], *recipe.s2_clip).astype(np.float64)
            pixels = pixels[:, np.isfinite(pixels).all(axis=0)]
            total += pixels.sum(axis=1)
            square += (pixels**2).sum(axis=1)
            count += pixels.shape[1]
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(square / max(count, 1) - mean**2, 1e-8))
    return Normalisation(
        s2_clip=recipe.s2_clip,
        s2_mean=tuple(round(float(v), 5) for v in mean),
        s2_std=tuple(round(float(v), 5) for v in std),
        s1_db_clip=recipe.s1_db_clip,
    )


def draw(regions: Sequence[Region], rule: UrbanAugment, size: int) -> Sample:
    """Random crops of random months, augmented; from torch's global generator."""
    parts = [_crop(regions[_integer(len(regions))], rule) for _ in range(size)]
    s1, s2, label = (torch.stack(column) for column in zip(*parts, strict=True))
    bands = s2.shape[1]
    gain = 1 + rule.season * torch.randn(size, 1, 1, 1)
    gain = gain * (1 + rule.season / 2 * torch.randn(size, bands, 1, 1))
    dropped = (torch.rand(size) < rule.s2_drop)[:, None, None, None]
    decibel = rule.s1_gain_db * torch.randn(size, 1, 1, 1)
    return Sample(s1 * 10 ** (decibel / 10), (s2 * gain).masked_fill(dropped, torch.nan), label)


def _crop(region: Region, rule: UrbanAugment) -> tuple[Tensor, Tensor, Tensor]:
    months, height, width = region.label_TYX.shape
    month = _integer(months)
    top, left = _integer(height - rule.crop + 1), _integer(width - rule.crop + 1)
    rows, columns = slice(top, top + rule.crop), slice(left, left + rule.crop)
    seen = region.seen_TYX[month, rows, columns]
    s2 = np.where(seen, region.s2_TBYX[month, :, rows, columns], np.float32(np.nan))
    label = region.label_TYX[month, rows, columns].astype(np.int64)
    planes = (region.s1_TPYX[month, :, rows, columns], s2, label)
    turns, mirror = _integer(4), _integer(2)
    turned = [torch.rot90(torch.from_numpy(np.array(x)), turns, (-2, -1)) for x in planes]
    parts = [x.flip(-1) if mirror else x for x in turned]
    return parts[0], parts[1], parts[2]


def urban_loss(
    network: MissingOptical, sample: Sample, norm: Normalisation, rule: UrbanLoss
) -> Tensor:
    """The loss of a batch, seen and missing decided per pixel.

    The paper knows complete and missing samples only. Here the fused prediction of a sample takes
    real features where a pixel was seen and reconstructed ones elsewhere, which is the paper's
    first term for complete samples and its term for missing ones; the simulated-missing term
    is added for samples with any seen pixel, and the similarity is that of seen pixels.
    """
    seen = torch.isfinite(sample.s2).all(dim=1, keepdim=True)
    found = network.features(s1_input(sample.s1, norm), s2_input(sample.s2, norm), seen)
    chosen = torch.where(seen, found.s2, found.s2_from_s1)
    branches = Branches(
        fused=network.fuse(found.s1, chosen),
        blind=network.fuse(found.s1, found.s2_from_s1),
        s2=found.s2,
        s2_from_s1=found.s2_from_s1,
    )
    return missing_optical_loss(branches, sample.label, seen[:, 0], rule)


@torch.inference_mode()
def map_month(
    network: torch.nn.Module,
    s1_PYX: NDArray[np.float32],
    s2_BYX: NDArray[np.float32],
    norm: Normalisation,
) -> NDArray[np.float32]:
    """Map a whole region in one pass: urban probability (Y, X)."""
    s1, s2 = (surrounded(x, HALO, STRIDE) for x in (s1_PYX, s2_BYX))
    seen = torch.isfinite(s2).all(dim=1, keepdim=True)
    logits_BCYX: Tensor = network(s1_input(s1, norm), s2_input(s2, norm), seen)
    probability: NDArray[np.float32] = centre(logits_BCYX[0, 0].sigmoid(), HALO, s1_PYX.shape)
    return probability


def validate(
    network: torch.nn.Module,
    norm: Normalisation,
    regions: Sequence[Region],
    threshold: float | None,
) -> dict[str, Any]:
    """Pooled accuracy over all months.

    "all" pixels; those "seen" optically; those "reconstructed"; and all pixels with optical
    withheld ("s1_only"). ``threshold=None`` takes the one of highest F1 over all pixels.
    """
    curves = {"all": Curve(), "seen": Curve(), "reconstructed": Curve(), "s1_only": Curve()}
    for region in regions:
        masked = region.masked()
        for month, label in enumerate(region.label_TYX):
            s1, s2 = region.s1_TPYX[month], masked[month]
            found = map_month(network, s1, s2, norm)
            blind = map_month(network, s1, np.full_like(s2, np.nan), norm)
            known, optical = label != IGNORED, np.isfinite(s2).all(axis=0)
            for name, probability, where in (
                ("all", found, known),
                ("seen", found, known & optical),
                ("reconstructed", found, known & ~optical),
                ("s1_only", blind, known),
            ):
                curves[name].add(probability[where], label[where] == 1)
    chosen = curves["all"].best()[0] if threshold is None else threshold
    figures: dict[str, Any] = {name: curve.at(chosen).figures() for name, curve in curves.items()}
    return {"threshold": chosen} | figures


def train(recipe: UrbanRecipe, folders: Sequence[Path], out: Path) -> Result:
    """Train, or go on training; the best averaged weights by validation F1.

    Raises
    ------
    ReadError
        When a region of the split is absent or damaged.
    """
    torch.set_num_threads(recipe.optimiser.threads)
    torch.manual_seed(recipe.seed)
    network = MissingOptical(len(recipe.s2_bands), len(recipe.s1_bands), **recipe.network)
    run = Run.start(network.to(memory_format=torch.channels_last), recipe.optimiser)  # type: ignore[call-overload]
    if (out / "last.safetensors").exists():
        run.load(out / "last.safetensors")
    regions = read_regions(folders, recipe.split.train)
    held_out = read_regions(folders, recipe.split.val)
    norm = measure(recipe, regions)
    begun, losses = time.monotonic(), []
    while run.step < recipe.optimiser.steps:
        losses.append(_step(run, recipe, regions, norm))
        if run.step % recipe.validate_every and run.step != recipe.optimiser.steps:
            continue
        figures = validate(run.average.network, norm, held_out, None)
        seconds = round(time.monotonic() - begun, 1)
        row = {"step": run.step, "seconds": seconds, "loss": round(float(np.mean(losses)), 4)}
        flat = {name: figures[name]["f1"] for name in ("all", "seen", "reconstructed", "s1_only")}
        log_row(out / "curve.csv", row | flat | {"threshold": figures["threshold"]})
        losses.clear()
        if figures["all"]["f1"] > run.best:
            run.best = figures["all"]["f1"]
            notes = {"step": str(run.step), "threshold": str(figures["threshold"])}
            notes["normalisation"] = norm.model_dump_json()
            write_tensors(out / "best.safetensors", run.average.network.state_dict(), notes)
        run.save(out / "last.safetensors")
    return Result.read(out / "best.safetensors")


def _step(run: Run, recipe: UrbanRecipe, regions: Sequence[Region], norm: Normalisation) -> float:
    """One batch; the loss before the step. Its randomness depends on seed and step alone."""
    torch.manual_seed(recipe.seed * 1_000_003 + run.step)
    sample = draw(regions, recipe.augment, recipe.optimiser.batch)
    run.network.train()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.optimiser.bf16):
        if not isinstance(run.network, MissingOptical):
            raise TypeError("this loop trains the missing-optical network")
        loss = urban_loss(run.network, sample, norm, recipe.loss)
    descend(run, loss.float(), recipe.optimiser)
    return float(loss.detach())


def draft_card(recipe: UrbanRecipe, norm: Normalisation, threshold: float) -> ModelCard:
    """Card of a recipe before its weights and figures are known."""
    split = f"train: {', '.join(recipe.split.train)}; val: {', '.join(recipe.split.val)}"
    if recipe.split.show:
        split += f"; show: {', '.join(recipe.split.show)}"
    return ModelCard(
        name=recipe.name,
        version=recipe.version,
        title=recipe.title,
        task="urban",
        family="missing-optical",
        network=recipe.network,
        weights=f"{recipe.name}.safetensors",
        weights_sha256="",
        s2_bands=recipe.s2_bands,
        s1_bands=recipe.s1_bands,
        normalisation=norm,
        halo=HALO,
        stride=STRIDE,
        threshold=threshold,
        classes={0: "not urban", 1: "urban"},
        training=Training(
            data=recipe.data,
            split=split,
            recipe=f"{recipe.name}.yaml",
            steps=0,
            licence=recipe.licence,
            simulated=recipe.simulated,
        ),
        accuracy={},
        limits=recipe.limits,
    )


def evaluate(recipe: UrbanRecipe, folders: Sequence[Path], result: Result) -> ModelCard:
    """The finished card: threshold from the validation regions, figures of val and show."""
    card = draft_card(recipe, result.normalisation, result.threshold)
    network = MissingOptical(len(recipe.s2_bands), len(recipe.s1_bands), **recipe.network)
    network.load_state_dict(result.weights)
    accuracy: dict[str, Any] = {"command": f"python -m cdscale.learn.urban {recipe.name}.yaml"}
    for split, names in (("val", recipe.split.val), ("show", recipe.split.show)):
        if names:
            regions = read_regions(folders, names)
            accuracy[split] = validate(
                network.eval(), card.normalisation, regions, result.threshold
            )
    training = card.training.model_copy(update={"steps": result.step})
    return card.model_copy(update={"accuracy": accuracy, "training": training})


def _integer(bound: int) -> int:
    return int(torch.randint(bound, ()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the missing-optical urban network.")
    parser.add_argument("recipe", type=Path, help="recipe in YAML")
    parser.add_argument("--regions", type=Path, nargs="+", required=True, help="folders of .npz")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept")
    parser.add_argument("--weights", type=Path, help="write weights and card to this folder")
    options = parser.parse_args()
    recipe = UrbanRecipe.read(options.recipe)
    result = train(recipe, options.regions, options.out).rounded()
    if options.weights:
        print(ship(evaluate(recipe, options.regions, result), result, options.weights))  # noqa: T201


if __name__ == "__main__":
    main()
