"""The device that a network runs on: which, how arrays get there, and what its errors mean."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cdscale.errors import BrokenDeviceError, explain

SLOTS = 2
"""Pinned buffers of a thread, each of one channel: one is filled while the other one is sent."""

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
_BROKEN = (
    "illegal memory access", "illegal address", "illegal instruction", "misaligned address",
    "launch failure", "device-side assert", "ecc error", "unknown error", "hardware stack error",
    "invalid program counter", "unspecified",
)  # fmt: skip


def best_device() -> str:
    """The GPU that this process was given, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device had too little memory; the type alone does not say it in all releases."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(part in text for part in _NO_MEMORY)


def broken(error: RuntimeError) -> bool:
    """Whether a GPU is lost to this process.

    An illegal address, a failed launch or assertion, an uncorrectable ECC error: after any of them
    every later call fails in the same way. Running out of memory is none of them.
    """
    text = str(error).lower()
    return "cuda error" in text and any(part in text for part in _BROKEN)


@contextmanager
def watched() -> Iterator[None]:
    """Tell a lost GPU from other errors.

    Raises
    ------
    BrokenDeviceError
        When the GPU is lost to this process.
    """
    try:
        yield
    except RuntimeError as err:
        if not broken(err):
            raise
        raise BrokenDeviceError(
            explain(
                "the GPU is lost to this process",
                got=" ".join(str(err).split())[:300],
                do="A fresh process may use it again; where that fails too, look at the GPU with "
                "nvidia-smi.",
            )
        ) from err


class Slot(Protocol):
    """A buffer between this program's memory and a device's."""

    def send(self, source: Tensor, target: Tensor) -> None:
        """Start to copy, once what this slot sent before has arrived."""
        ...


class PinnedSlot:
    """A page-locked buffer, which a GPU reads by itself while the program goes on."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream, self._sent = stream, torch.cuda.Event()
        self._bytes = torch.empty(0, dtype=torch.uint8)

    def send(self, source: Tensor, target: Tensor) -> None:
        """See :class:`Slot`."""
        self._sent.synchronize()
        if self._bytes.numel() < source.nbytes:
            self._bytes = torch.empty(source.nbytes, dtype=torch.uint8, pin_memory=True)
        buffer = self._bytes[: source.nbytes].view(source.dtype).view(source.shape)
        buffer.copy_(source)
        with torch.cuda.stream(self._stream):
            target.copy_(buffer, non_blocking=True)
            self._sent.record(self._stream)


def send_by(slots: list[Slot], array_CYX: NDArray[Any], target_CYX: Tensor) -> Tensor:
    """Copy an array channel by channel through slots in turn; the last may be under way."""
    for channel, plane_YX in enumerate(array_CYX):
        source = torch.from_numpy(np.ascontiguousarray(plane_YX))
        slots[channel % len(slots)].send(source, target_CYX[channel])
    return target_CYX


class _Bus(threading.local):
    """Of each thread: its slots, and the stream of its copies, for the device last used."""

    device: torch.device | None = None

    def to(self, device: torch.device) -> tuple[list[Slot], torch.cuda.Stream]:
        if self.device != device:
            self.stream = torch.cuda.Stream(device)
            self.slots: list[Slot] = [PinnedSlot(self.stream) for _ in range(SLOTS)]
            self.device = device
        return self.slots, self.stream


_bus = _Bus()


def send(array_CYX: NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device, in its own type.

    On a CPU it is the same memory. To a GPU it goes through pinned buffers, on a stream of its own:
    copies run beside what the GPU computes for other threads, and what this thread asks of it
    afterwards waits for them.
    """
    if device.type != "cuda":
        return torch.from_numpy(array_CYX).to(device)
    slots, stream = _bus.to(device)
    kind = torch.from_numpy(array_CYX[:0]).dtype
    with torch.cuda.stream(stream):
        target = torch.empty(array_CYX.shape, dtype=kind, device=device)
    send_by(slots, array_CYX, target)
    torch.cuda.current_stream(device).wait_stream(stream)
    target.record_stream(torch.cuda.current_stream(device))
    return target
