"""``torch.compile`` where it pays, and the network as it is where it fails.

The compiler fuses what stands between convolutions, which is what small networks wait for on a GPU.
It needs a C compiler and Triton, takes a minute the first time, and is a large program of its own:
whatever it says, a run goes on.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from cdscale.errors import CdscaleError
from cdscale.inference.device import broken, device_of, out_of_memory
from cdscale.models.mapping import precision_of

VARIABLE = "CDSCALE_COMPILE"
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest difference between what is compiled and what is not, as part of the largest logit."""

log = logging.getLogger(__name__)


def wanted(device: torch.device) -> bool:
    """Whether networks are compiled: on a GPU, unless ``CDSCALE_COMPILE`` is 0 or 1."""
    said = os.environ.get(VARIABLE, "")
    return said == "1" if said in {"0", "1"} else device.type == "cuda"


class Compiled:
    """A network, compiled for each shape when it first comes, or as it is where that fails.

    The first inputs of a shape warm it up and go through the network as it is too: what is compiled
    is used only where both agree.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    backend : str or callable
        As ``torch.compile`` takes it.
    """

    def __init__(self, network: nn.Module, backend: Any = "inductor") -> None:
        self._network = network
        self._fast: Any = None
        self._known: set[tuple[torch.Size, ...]] = set()
        try:
            self._fast = torch.compile(network, backend=backend, dynamic=False)
        except Exception as err:  # of a compiler that is not there at all
            self._give_up(err)

    @property
    def compiled(self) -> bool:
        """Whether nothing has failed so far."""
        return self._fast is not None

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the network says, (N, C, Y, X)."""
        if self._fast is None:
            return self._plain(*inputs)
        try:
            found: Tensor = self._fast(*inputs)
        except Exception as err:
            if isinstance(err, CdscaleError) or _of_the_device(err):
                raise
            # An error of the network itself comes again, and goes its way.
            self._give_up(err)
            return self._plain(*inputs)
        shapes = tuple(x.shape for x in inputs)
        if shapes not in self._known:
            plain = self._plain(*inputs)
            if not self._agree(found, plain):
                self._give_up(ValueError("it says something else than the network"))
                return plain
            self._known.add(shapes)
        return found

    def _plain(self, *inputs: Tensor) -> Tensor:
        found: Tensor = self._network(*inputs)
        return found

    def _agree(self, found: Tensor, plain: Tensor) -> bool:
        part = TOLERANCE.get(precision_of(self._network), 0.1)
        reach = plain.float().abs().max().clamp_min(1.0)
        return bool((found.float() - plain.float()).abs().max() <= part * reach)

    def _give_up(self, err: Exception) -> None:
        self._fast = None
        said = " ".join(str(err).split())[:200]
        log.warning("torch.compile is left out: %s: %s", type(err).__name__, said)


def _of_the_device(err: Exception) -> bool:
    return isinstance(err, RuntimeError) and (out_of_memory(err) or broken(err))


def compiled(network: nn.Module) -> Any:
    """What to call instead of a network: compiled, once for each, where that is wanted."""
    return _kept(network) if wanted(device_of(network)) else network


@lru_cache(maxsize=8)
def _kept(network: nn.Module) -> Compiled:
    return Compiled(network)
