"""What tests of networks share: weights that show the reach, numbers that do not round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cdscale.models.blocks import Interval

Call = Callable[[Sequence[Tensor]], Tensor]
"""A network over images (1, C, Y, X) that come as a list; what it gives has their size."""

GRID = 2.0**-20
LARGEST = 2.0**18
"""Beyond this, sums over the grid might round."""


def randomise(network: Any, seed: int = 0) -> Any:
    """Batch statistics that are not those of a fresh network, evaluation mode."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.1 * torch.randn(module.num_features)
            module.running_var = 0.5 + torch.rand(module.num_features)
    return network.eval()


def positive(network: Any) -> Any:
    """Weights above zero and no bias: whatever can be reached by a one among zeros is above 0."""
    torch.manual_seed(0)
    for module in network.double().eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(module.weight, 0.05, 0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def exact(network: Any, gain: float = 2.0) -> Any:
    """Numbers on a grid so coarse that no sum in float64 rounds, in whatever order it is taken.

    What a layer gives is rounded to multiples of 2^-20, weights are multiples of 2^-12: a sum of
    products below 2^20 is exact. So two ways of computing agree in every bit, on every machine,
    or do not compute the same.

    ``gain`` is that of each normalisation; features from afar would fade on their way through
    random weights, or grow beyond the grid.
    """
    torch.manual_seed(0)
    for module in network.double().eval().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.eps = 0.0
            module.bias.data = torch.randint(-8, 9, (module.num_features,)).double() / 32
            module.weight.data = torch.full((module.num_features,), gain, dtype=torch.float64)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data = (module.weight.data * 2**12).round() / 2**12
        if not isinstance(module, nn.Sequential | nn.ModuleList):
            module.register_forward_hook(_round)
    return network


def _round(_module: nn.Module, _inputs: Any, output: Any) -> Any:
    if isinstance(output, Tensor):
        return on_grid(output)
    return [on_grid(x) for x in output] if isinstance(output, list) else output


def on_grid(x: Tensor) -> Tensor:
    """Rounded to the grid."""
    if x.abs().max() > LARGEST:
        raise OverflowError(f"{float(x.abs().max())} is off the grid: lower the gain")
    return (x / GRID).round() * GRID


def reached_rows(call: Call, images: int, at: int, shape: tuple[int, int]) -> list[int]:
    """Rows of the output that one row of ones among zeros reaches, in a network of `positive`."""
    x = torch.zeros(1, 1, *shape, dtype=torch.float64)
    x[..., at, :] = 1
    with torch.inference_mode():
        out = call([x] * images)
    return torch.nonzero(out[0].amax(dim=(0, 2)))[:, 0].tolist()


def furthest(reads: Callable[[int], Interval], stride: int, radius: int) -> tuple[int, Interval]:
    """A row whose window has the radius, and its window, far from the border."""
    middle = -(-(radius + 2) // stride) * stride
    rows = range(middle, middle + stride)
    row = max(rows, key=lambda r: max(r - reads(r).low, reads(r).high - r))
    return row, reads(row)


def tiles_are_whole(call: Call, images: Sequence[Tensor], core: int, halo: int) -> bool:
    """Whether every tile of a column of tiles is, bit for bit, what one pass over all gives."""
    length = images[0].shape[-2]
    with torch.inference_mode():
        whole = call(images)
        for start in range(0, length, core):
            low = max(0, start - halo)
            window = call([x[..., low : start + core + halo, :] for x in images])
            tile = window[..., start - low : start - low + core, :]
            if not torch.equal(tile, whole[..., start : start + core, :]):
                return False
    return True
