"""``python -m benchmarks.gpu OUT.json [--device cuda]``: networks alone on a device, and its bus.

Needs torch, numpy, pydantic, YAML and safetensors, and this folder on ``PYTHONPATH``; neither Dask
nor Zarr. What it tells:

- of each network, million pixels a second, halo included, for tiles of several sizes and each way
  of mapping: as built, channels last, folded, compiled; float32 (with TF32 and without), bfloat16,
  float16;
- beside each rate the roof over it: the lesser of what the device computes (its largest matrix
  products, measured) by the network's operations per pixel, and what its memory moves (a copy,
  measured) by the bytes per pixel that layers read and write one by one;
- copies to the device from pinned and from pageable memory, and how much of a copy hides behind
  computing: step over max(copy, compute), 1 where all of the lesser does;
- maps of a block as it is stored, from host to host, through ``cdscale.inference``.

``--quick`` takes seconds on a CPU, and says nothing but that the script works.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cdscale import models
from cdscale.inference import Block, Tiling, predict_change, predict_urban
from cdscale.inference.compiling import Compiled
from cdscale.inference.device import out_of_memory, send
from cdscale.models.mapping import fold
from cdscale.models.missing_optical import UNet
from cdscale.spec.card import ModelCard

Call = Callable[[], Any]

UNET_CHANNELS = 12


@dataclass(frozen=True)
class Scope:
    """How much is asked."""

    device: torch.device
    tiles: tuple[int, ...]
    pixels: int
    """Of a batch, about."""
    rounds: int
    widths: tuple[int, ...]
    """Of plain U-Nets of four poolings with random weights."""
    matrix: int
    """Side of the matrices that tell the device's speed."""
    compile: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> Scope:
        """By the command line."""
        device = torch.device(options.device)
        if options.quick:
            return cls(device, (32,), 32**2, 1, (), 128, compile=False)
        gpu = device.type == "cuda"
        pixels = 2048**2 if gpu else 512**2
        return cls(device, (256, 512, 1024), pixels, 5, (32, 64), 8192 if gpu else 1024, gpu)

    def seconds(self, call: Call) -> float:
        """Median of a call's time, what it started on the device included; one call is not told."""
        found = []
        for _ in range(self.rounds + 1):
            started = time.perf_counter()
            call()
            self.wait()
            found.append(time.perf_counter() - started)
        return statistics.median(found[1:])

    def wait(self) -> None:
        """For the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Subject:
    """A network with random inputs of its kind."""

    name: str
    network: nn.Module
    inputs: Callable[[int, int], tuple[Tensor, ...]]

    @classmethod
    def of_card(cls, card: ModelCard, device: torch.device) -> Subject:
        """A shipped network; as it is built, in float32."""
        bands, polarisations = len(card.s2_bands), len(card.s1_bands)

        def inputs(batch: int, side: int) -> tuple[Tensor, ...]:
            made = partial(noise, batch, side, device=device)
            if card.task == "change":
                return made(bands), made(bands), made(polarisations), made(polarisations)
            # Some pixels are not seen: both the optical network and its stand-in run.
            return made(polarisations), made(bands), made(1)[:, 0] > -1

        return cls(card.name, models.load(card).to(device), inputs)

    @classmethod
    def of_width(cls, width: int, device: torch.device) -> Subject:
        """A plain U-Net."""
        network = UNet(UNET_CHANNELS, width, 2).eval().to(device)
        return cls(
            f"unet-{width}", network,
            lambda batch, side: (noise(batch, side, UNET_CHANNELS, device=device),),
        )  # fmt: skip


def noise(batch: int, side: int, channels: int, *, device: torch.device) -> Tensor:
    return torch.randn(batch, channels, side, side, device=device)


@dataclass
class Way:
    """One way of mapping: what the network is made, and the arithmetic around it."""

    name: str
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    folded: bool = False
    compiled: bool = False
    tf32: bool = False

    def prepare(self, network: nn.Module) -> Any:
        """A copy of a network for this way."""
        made = copy.deepcopy(network)
        if self.folded:
            fold(made)
        if self.channels_last:
            made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return Compiled(made) if self.compiled else made

    @contextlib.contextmanager
    def around(self, device: torch.device) -> Iterator[None]:
        """Its arithmetic."""
        before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.tf32
        rough = self.dtype is not torch.float32
        try:
            with torch.inference_mode(), torch.autocast(device.type, self.dtype, enabled=rough):
                yield
        finally:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def ways(scope: Scope) -> list[Way]:
    """All that the device has."""
    folded = partial(Way, channels_last=True, folded=True)
    found = [
        Way("float32 eager"),
        Way("float32 channels_last", channels_last=True),
        folded("float32 folded"),
        Way("bfloat16 eager", torch.bfloat16),
        folded("bfloat16", torch.bfloat16),
    ]
    if scope.device.type == "cuda":
        found += [folded("tf32", tf32=True), folded("float16", torch.float16)]
    if scope.compile:
        found += [
            folded("float32 compiled", compiled=True),
            folded("bfloat16 compiled", torch.bfloat16, compiled=True),
        ]
    return found


@dataclass(frozen=True)
class Roof:
    """What the device does at its best, in one kind of arithmetic."""

    flops: float
    bytes_per_s: float
    item: int
    """Bytes of one value."""

    @classmethod
    def of(cls, way: Way, scope: Scope) -> Roof:
        """Measured: a large product, and a copy."""
        side = scope.matrix
        a, b = (torch.randn(side, side, device=scope.device) for _ in range(2))
        with way.around(scope.device):
            product = scope.seconds(lambda: a @ b)
        large = torch.empty(side * side * 4, dtype=torch.uint8, device=scope.device)
        other = torch.empty_like(large)
        moved = scope.seconds(lambda: other.copy_(large))
        item = torch.empty(0, dtype=way.dtype).element_size()
        return cls(2 * side**3 / product, 2 * large.numel() / moved, item)


@dataclass(frozen=True)
class Cost:
    """Of one pixel."""

    flop: float
    values: float
    """Read and written by layers one by one, weights left out."""

    @classmethod
    def of(cls, subject: Subject, side: int) -> Cost:
        """Counted in one pass."""
        values = 0

        def count(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            nonlocal values
            parts = [*inputs, output]
            values += sum(x.numel() for x in parts if isinstance(x, Tensor))

        leaves = [m for m in subject.network.modules() if not any(m.children())]
        handles = [m.register_forward_hook(count) for m in leaves]
        inputs = subject.inputs(1, side)
        try:
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                subject.network(*inputs)
        finally:
            for handle in handles:
                handle.remove()
        return cls(counter.get_total_flops() / side**2, values / side**2)


@dataclass(frozen=True)
class Row:
    """One rate."""

    way: str
    tile: int
    batch: int
    mpx_per_s: float
    roof_mpx_per_s: float
    limited_by: str
    share_of_roof: float
    note: str = ""


@dataclass
class Found:
    """All rates of one network."""

    name: str
    kflop_per_px: float
    values_per_px: float
    rows: list[Row] = field(default_factory=list)


def ask(subject: Subject, scope: Scope, roofs: dict[str, Roof]) -> Found:
    """Every way and tile of one network; a tile that memory does not suffice for has no row."""
    cost = Cost.of(subject, scope.tiles[0])
    found = Found(subject.name, round(cost.flop / 1e3, 2), round(cost.values, 1))
    print(f"\n{subject.name}: {found.kflop_per_px} kFLOP/px, {found.values_per_px} values/px")
    print(f"{'way':22} {'tile':>5} {'batch':>5} {'Mpx/s':>10} {'roof':>10}  of it")
    for way in ways(scope):
        run = way.prepare(subject.network)
        for tile in scope.tiles:
            try:
                row = one_row(way, run, subject, tile, (scope, roofs[way.name], cost))
            except RuntimeError as err:
                if not out_of_memory(err):
                    raise
                print(f"{way.name:22} {tile:5} too little memory", flush=True)
                continue
            found.rows.append(row)
            print(
                f"{row.way:22} {row.tile:5} {row.batch:5} {row.mpx_per_s:10.2f} "
                f"{row.roof_mpx_per_s:10.2f}  {row.share_of_roof:.0%} ({row.limited_by})",
                row.note,
                flush=True,
            )
    return found


def one_row(
    way: Way, run: Any, subject: Subject, tile: int, terms: tuple[Scope, Roof, Cost]
) -> Row:
    """Time one way on one size of tile."""
    scope, roof, cost = terms
    batch = max(1, scope.pixels // tile**2)
    inputs = subject.inputs(batch, tile)
    with way.around(scope.device):
        seconds = scope.seconds(lambda: run(*inputs))
    rate = batch * tile**2 / seconds
    by_flops = roof.flops / cost.flop
    by_bytes = roof.bytes_per_s / (cost.values * roof.item)
    limit = min(by_flops, by_bytes)
    gave_up = isinstance(run, Compiled) and not run.compiled
    return Row(
        way.name, tile, batch, round(rate / 1e6, 3), round(limit / 1e6, 3),
        "computing" if by_flops <= by_bytes else "memory", round(rate / limit, 4),
        "the compiler failed: as it is" if gave_up else "",
    )  # fmt: skip


def copies(scope: Scope) -> dict[str, float]:
    """Rates of the bus in GB/s, and what of a copy hides behind computing."""
    side = scope.matrix // 2
    stored = np.zeros((20, side, side), np.int16)
    gigabytes = stored.nbytes / 1e9
    found = {
        "staged_gb_per_s": gigabytes / scope.seconds(lambda: send(stored, scope.device)),
        "pageable_gb_per_s": gigabytes
        / scope.seconds(lambda: torch.from_numpy(stored).to(scope.device, copy=True)),
    }
    if scope.device.type == "cuda":
        pinned = torch.from_numpy(stored).pin_memory()
        target = torch.empty(stored.shape, dtype=torch.int16, device=scope.device)
        stream = torch.cuda.Stream(scope.device)
        a = torch.randn(side, side, device=scope.device)

        def carry() -> None:
            with torch.cuda.stream(stream):
                target.copy_(pinned, non_blocking=True)

        def compute(times: int) -> None:
            for _ in range(times):
                torch.mm(a, a)

        copying = scope.seconds(carry)
        times = max(1, round(copying / scope.seconds(lambda: compute(1))))
        computing = scope.seconds(lambda: compute(times))

        def at_once() -> None:
            carry()
            compute(times)

        both = scope.seconds(at_once)
        found["pinned_gb_per_s"] = gigabytes / copying
        found["step_over_larger"] = both / max(copying, computing)
    return {name: round(value, 3) for name, value in found.items()}


def blocks(card: ModelCard, scope: Scope) -> dict[str, float]:
    """Mpx/s of maps from host to host, of pixels as they are stored, halo left out."""
    side = 32 if scope.matrix < 1024 else 2048 if scope.device.type == "cuda" else 512
    full = side + 2 * card.halo
    rng = np.random.default_rng(0)

    def block() -> Block:
        s2 = rng.integers(0, 6000, (len(card.s2_bands), full, full)).astype(np.int16)
        s1 = rng.gamma(2, 0.05, (len(card.s1_bands), full, full)).astype(np.float32)
        return Block(s2, s1, scale=1e-4, fill=-32768)

    before, after = block(), block()
    found: dict[str, float] = {}
    precisions: Sequence[models.Precision] = ("float32", "bfloat16")
    for precision in precisions[: 1 if scope.matrix < 1024 else 2]:
        network = models.load(card, str(scope.device), precision)
        if card.task == "change":
            call: Call = partial(predict_change, network, card, before, after, Tiling())
        else:
            call = partial(predict_urban, network, card, before, Tiling())
        found[precision] = round(side**2 / 1e6 / scope.seconds(call), 3)
    return found


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask, print, keep."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("out", type=Path, help="JSON file that the figures go to")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu ...")
    parser.add_argument("--cards", nargs="*", help="names; by default all that ship")
    parser.add_argument(
        "--quick", action="store_true", help="small and fast: a trial of the script"
    )
    options = parser.parse_args(arguments)
    scope = Scope.of(options)
    if scope.device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device; --device cpu runs the same without one")
    cards = [models.load_card(name) for name in options.cards or ()] or list(models.list_cards())
    cards = cards[-1:] if options.quick else cards
    print(f"{device_name(scope.device)}, torch {torch.__version__}")
    roofs = {way.name: Roof.of(way, scope) for way in ways(scope)}
    subjects = [Subject.of_card(card, scope.device) for card in cards]
    subjects += [Subject.of_width(width, scope.device) for width in scope.widths]
    found = [ask(subject, scope, roofs) for subject in subjects]
    bus = copies(scope)
    print(f"\nto the device: {bus}")
    mapped = {card.name: blocks(card, scope) for card in cards}
    print(f"blocks to maps, Mpx/s without halo: {mapped}")
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(scope.device),
        "torch": torch.__version__,
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *(arguments or sys.argv[1:])]),
        "roofs": {name: asdict(roof) for name, roof in roofs.items()},
        "networks": [asdict(one) for one in found],
        "copies": bus,
        "maps_mpx_per_s": mapped,
    }
    options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
