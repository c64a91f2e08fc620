"""Networks made ready to map: layers folded, channels last, arithmetic in bfloat16.

None of it is for training, and none of it for float32 on a CPU, where a map is the same bit for bit
whoever makes it: each of these changes the last bits of what a network says.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cdscale.spec.card import Precision

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


class Bfloat16(nn.Module):
    """A network whose convolutions run in bfloat16; its weights stay, and it says, float32.

    Parameters
    ----------
    network : nn.Module
        On its device, in float32.
    """

    precision: Precision = "bfloat16"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        """What the network says of these inputs."""
        with torch.autocast(inputs[0].device.type, torch.bfloat16):
            return self.network(*inputs)


def ready(network: nn.Module, device: str, precision: Precision) -> nn.Module:
    """A network in evaluation mode on its device, as it maps fastest there.

    Parameters
    ----------
    network : nn.Module
        With its weights; it is changed.
    device : str
        As torch names it.
    precision : {"float32", "bfloat16"}
        Of its arithmetic. In float32 on a CPU the network stays as it was built.
    """
    network = network.to(device=torch.device(device), dtype=torch.float32).eval()
    if precision == "float32" and torch.device(device).type == "cpu":
        return network
    fold(network)
    # Tensor cores, and the CPU's matrix units, take pixels with all their channels side by side.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Bfloat16(network) if precision == "bfloat16" else network


def precision_of(network: nn.Module) -> str:
    """``float32`` or ``bfloat16``, of a network's arithmetic."""
    own = getattr(network, "precision", None)
    return str(own) if own else str(next(network.parameters()).dtype).removeprefix("torch.")


@torch.no_grad()
def fold(network: nn.Module) -> int:
    """Put batch normalisation into the convolution before it, where both stand in one row.

    Only an ``nn.Sequential`` proves that nothing but the one reads what the other says, and only
    where the convolution stands in no other place.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode; it is changed.

    Returns
    -------
    int
        Layers of batch normalisation that are gone.
    """
    # Each place by itself: a layer that two rows share is not one row's to change.
    places = Counter(id(child) for module in network.modules() for child in module.children())
    rows = [module for module in network.modules() if type(module) is nn.Sequential]
    folded = 0
    for row in rows:
        for (_, conv), (name, norm) in pairwise(list(row.named_children())):
            if _folds(conv, norm) and places[id(conv)] == places[id(norm)] == 1:
                transposed = type(conv) is nn.ConvTranspose2d
                fused = fuse_conv_bn_eval(cast(Any, conv), cast(Any, norm), transpose=transposed)
                conv.weight, conv.bias = fused.weight, fused.bias
                row.register_module(name, nn.Identity())
                folded += 1
    return folded


def _folds(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether these are a plain convolution and a batch normalisation with its own statistics."""
    plain = type(conv) in CONVOLUTIONS and type(norm) is nn.BatchNorm2d
    hooked = conv._forward_hooks or conv._forward_pre_hooks
    return plain and not hooked and not norm.training and norm.running_var is not None
