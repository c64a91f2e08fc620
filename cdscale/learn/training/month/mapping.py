"""Whole months through a network under training.

Shape suffixes: B band, P polarisation, C channel, Y row, X column.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cdscale.learn.training.mapping import Mapping, map_scene
from cdscale.models.inputs import s1_input, s2_input


@torch.inference_mode()
def map_month(
    network: nn.Module, s1_PYX: Tensor, s2_BYX: Tensor, seen_YX: Tensor, how: Mapping
) -> NDArray[np.float32]:
    """Urban probability of a whole month, (Y, X); NaN where no sensor saw anything.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    s1_PYX, s2_BYX : Tensor
        Linear power and reflectance, NaN where absent, on the network's device.
    seen_YX : Tensor
        Where the network may take optical as seen.
    how : Mapping
        Tiles and copies.
    """

    def say(*inputs: Tensor) -> Tensor:
        logits_BCYX: Tensor = network(*inputs)
        return logits_BCYX.float().sigmoid()[0, 0]

    inputs = s1_input(s1_PYX[None], how.rule), s2_input(s2_BYX[None], how.rule)
    probability = map_scene(say, (*inputs, seen_YX[None, None]), how)
    radar_YX = torch.isfinite(s1_PYX).all(dim=0)
    optical_YX = seen_YX & bool(len(s2_BYX))
    found: NDArray[np.float32] = (
        probability.masked_fill(~(radar_YX | optical_YX), torch.nan).cpu().numpy()
    )
    return found
