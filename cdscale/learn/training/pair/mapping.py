"""Whole pairs through a network under training.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cdscale.learn.training.mapping import Mapping, map_scene
from cdscale.models.inputs import Pair, change_inputs


@torch.inference_mode()
def map_pair(network: nn.Module, s2: Tensor, s1: Tensor, how: Mapping) -> NDArray[np.float32]:
    """Probability of change of a whole scene, (Y, X); NaN where no sensor saw both dates.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    s2, s1 : Tensor
        Reflectance (2, B, Y, X) and linear power (2, P, Y, X), NaN where absent, on the network's
        device.
    how : Mapping
        Moments, if of the image, are those of this scene.
    """
    dates = [x[None] for x in (s2[0], s2[1], s1[0], s1[1])]

    def say(*inputs: Tensor) -> Tensor:
        logits_BCYX: Tensor = network(*inputs)
        return logits_BCYX.float().softmax(dim=1)[0, 1]

    probability = map_scene(say, change_inputs(Pair(*dates), how.rule).tensors(), how)
    seen = [torch.isfinite(x[0]).all(dim=0) & (x.shape[1] > 0) for x in dates]
    absent = ~((seen[0] & seen[1]) | (seen[2] & seen[3]))
    found: NDArray[np.float32] = probability.masked_fill(absent, torch.nan).cpu().numpy()
    return found
