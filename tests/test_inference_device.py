"""Prediction and its device: sizes, memory, compiler, a lost GPU, pixels as they are stored."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import gpu
from cdscale.errors import BrokenDeviceError, DeviceError, ModelError
from cdscale.grid import Tile
from cdscale.inference import (
    Block,
    Tiling,
    compiling,
    device,
    predict_change,
    predict_urban,
    windows,
)
from cdscale.inference.blocks import Sent
from cdscale.inference.compiling import Compiled
from cdscale.inference.sizes import Limits, Memory, Sizes, best_batch, fitting
from cdscale.months import Month
from cdscale.spec.card import ModelCard, Normalisation
from cdscale.spec.task import Stage, Task
from cdscale.stages import ending
from tests.regions import a_card

IDENTITY = Normalisation(s2_clip=(-9.0, 9.0), s2_mean=(0.0, 0.0), s2_std=(1.0, 1.0))
CARD = a_card("change", halo=16, stride=16, normalisation=IDENTITY)
FILL = -32768


class Brightness(nn.Module):
    """Logits of change: the first band of date 1. It notes what it is asked."""

    def __init__(self, complain: Callable[[torch.Size], None] = lambda shape: None) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.complain, self.shapes = complain, list[torch.Size]()

    def forward(self, s2: Tensor, *_: Tensor) -> Tensor:
        self.shapes.append(s2.shape)
        self.complain(s2.shape)
        return torch.cat((torch.zeros_like(s2[:, :1]), s2[:, :1]), dim=1)


def a_block(seed: int, shape: tuple[int, int], card: ModelCard = CARD) -> Block:
    """As it is stored, a tenth of it absent."""
    random = np.random.default_rng(seed)
    full = tuple(n + 2 * card.halo for n in shape)
    stored = random.integers(-50, 9000, (len(card.s2_bands), *full)).astype(np.int16)
    stored[:, random.random(full) < 0.1] = FILL
    s1 = random.gamma(2, 0.05, (len(card.s1_bands), *full)).astype(np.float32)
    s1[:, random.random(full) < 0.1] = np.nan
    return Block(stored, s1, scale=1e-4, fill=FILL)


def plain(block: Block) -> Block:
    """The same in reflectance, by the arithmetic of one line of numpy."""
    s2 = block.s2_BYX.astype(np.float32) * np.float32(1e-4)
    s2[block.s2_BYX == FILL] = np.nan
    return Block(s2, block.s1_PYX)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No limits from other tests, and a cache of its own."""
    monkeypatch.setattr(windows, "limits", Limits())
    monkeypatch.setattr(windows, "memory", Memory(tmp_path / "cache" / "batches.json"))
    monkeypatch.delenv(compiling.VARIABLE, raising=False)


# ------------------------------------------------------------------------------- stored pixels


@pytest.mark.parametrize("kind", ["int16", "uint16"])
def test_stored_integers_become_what_a_cpu_made_of_them_bit_for_bit(kind: str) -> None:
    """Every integer there is, with scales that are no power of two."""
    every = np.arange(65536, dtype=np.uint16).view(np.dtype(kind)).reshape(1, 256, 256)
    radar = np.zeros((1, 256, 256), np.float32)
    for scale in (1e-4, 0.00275, 1 / 3):
        fill = int(every[0, 7, 7])
        block = Block(every, radar, scale=scale, fill=fill)
        expected = every.astype(np.float32) * np.float32(scale)
        expected[every == fill] = np.nan
        sent = Sent.of(block, torch.from_numpy)
        found, _ = sent.window((0, 0), 256)
        np.testing.assert_array_equal(found.numpy().view(np.int32), expected.view(np.int32))
        np.testing.assert_array_equal(block.reflectance_BYX, expected)
        assert np.isnan(expected).sum() == 1
        assert (~block.lit()).sum() == 1


@pytest.mark.parametrize("standardise", ["training", "image", "image_scalar"])
def test_maps_of_stored_pixels_are_those_of_reflectance_bit_for_bit(standardise: Any) -> None:
    rule = Normalisation(
        s2_standardise=standardise, s1_standardise="image", s2_mean=(0.1, 0.2), s2_std=(0.1, 0.1)
    )
    card = CARD.model_copy(update={"normalisation": rule})
    before, after = a_block(0, (40, 70)), a_block(1, (40, 70))
    maps = [
        predict_change(Brightness(), card, one, two, Tiling(core=32))
        for one, two in ((before, after), (plain(before), plain(after)), (before, plain(after)))
    ]
    assert np.isfinite(maps[0]).any()
    assert np.isnan(maps[0]).any()
    for other in maps[1:]:
        np.testing.assert_array_equal(maps[0], other)


def test_types_that_no_cube_holds_are_refused() -> None:
    block = a_block(0, (32, 32))
    for wrong in (
        Block(block.s2_BYX.astype(np.int32), block.s1_PYX),
        Block(block.s2_BYX, np.zeros_like(block.s1_PYX, np.int16)),
    ):
        with pytest.raises(ModelError, match="types of S2 and S1.*integers of 16 bits"):
            predict_change(Brightness(), CARD, wrong, wrong)


# --------------------------------------------------------------------------------- memory


def too_large(largest: int, most: int = 64) -> Callable[[torch.Size], None]:
    """Complain as CUDA does of windows above a side, or of more than some at once."""

    def complain(shape: torch.Size) -> None:
        if shape[0] > most or shape[-1] > largest:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    return complain


def test_out_of_memory_halves_the_batch_then_the_core_and_changes_no_pixel() -> None:
    before, after = a_block(0, (200, 300)), a_block(1, (200, 300))
    whole = predict_change(Brightness(), CARD, before, after, Tiling(core=256, batch=1))
    small = Brightness(too_large(64 + 2 * 16, most=2))
    found = predict_change(small, CARD, before, after, Tiling(core=256, batch=4))
    np.testing.assert_array_equal(found, whole)
    tried = list(dict.fromkeys((shape[0], shape[-1] - 2 * 16) for shape in small.shapes))
    assert tried == [(4, 256), (2, 256), (1, 256), (1, 128), (1, 64)]
    # The next block does not try again what failed.
    small.shapes.clear()
    predict_change(small, CARD, before, after, Tiling(core=256, batch=4))
    assert {(shape[0], shape[-1] - 2 * 16) for shape in small.shapes} == {(1, 64)}
    # Another card is not held to it.
    other = CARD.model_copy(update={"weights_sha256": "1" * 64})
    free = Brightness()
    predict_change(free, other, before, after, Tiling(core=256, batch=4))
    assert free.shapes[0][0] == 4


def test_where_nothing_smaller_is_left_an_error_says_so() -> None:
    before, after = a_block(0, (200, 100)), a_block(1, (200, 100))
    with pytest.raises(DeviceError, match=r"too little memory for one window of 80 pixels.*GiB"):
        predict_change(
            Brightness(lambda shape: fail("CUDA error: out of memory (2 GiB)")),
            CARD, before, after, Tiling(core=160),
        )  # fmt: skip


def fail(message: str) -> Any:
    raise RuntimeError(message)


def test_smaller_sizes_stay_on_the_stride_and_end_at_64() -> None:
    assert Sizes(512, 3).smaller(16) == Sizes(512, 1)
    assert Sizes(336, 1).smaller(32) == Sizes(160, 1)
    assert Sizes(127, 1).smaller(1) is None
    assert Sizes(128, 1).smaller(16) == Sizes(64, 1)
    assert Sizes(96, 1).smaller(16) is None


# -------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("per_window", "expected"),
    [
        ({1: 1.0, 2: 0.8, 4: 0.6, 8: 0.58, 16: 0.1}, 4),
        ({1: 1.0, 2: 0.96}, 1),
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: None}, 4),
        ({1: None, 2: 1.0}, 1),
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.1, 16: 0.05, 32: 0.02, 64: 0.01, 128: 0.001}, 64),
    ],
)
def test_a_batch_is_doubled_while_that_pays(
    per_window: dict[int, float | None], expected: int
) -> None:
    def seconds_of(batch: int) -> float:
        seconds = per_window[batch]
        if seconds is None:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return batch * seconds

    assert best_batch(seconds_of) == expected


def test_a_search_that_fails_otherwise_fails() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        best_batch(lambda batch: fail("shapes do not fit"))


def test_few_windows_take_a_small_batch() -> None:
    assert [fitting(16, n) for n in (1, 2, 3, 9, 16, 99)] == [1, 2, 4, 16, 16, 16]
    assert fitting(4, 3) == 4


def test_a_batch_is_searched_once_and_remembered_between_processes(tmp_path: Path) -> None:
    file = tmp_path / "a" / "batches.json"
    first = Memory(file)
    assert first.batch("card/H100/512/float32", lambda: 8) == 8
    assert first.batch("card/H100/512/float32", lambda: 1 // 0) == 8
    assert first.batch("card/H100/256/float32", lambda: 16) == 16
    assert Memory(file).batch("card/H100/512/float32", lambda: 1 // 0) == 8
    assert [path.name for path in file.parent.iterdir()] == ["batches.json"]


@pytest.mark.parametrize("content", ["", "[1]", '{"key": "four"}', '{"key": 0}', "\x00", '{"key"'])
def test_a_damaged_cache_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    file = tmp_path / "batches.json"
    file.write_text(content)
    assert Memory(file).batch("key", lambda: 4) == 4
    assert json.loads(file.read_text()) == {"key": 4}


def test_a_cache_that_cannot_be_written_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "batches.json")
    assert memory.batch("key", lambda: 4) == 4
    assert memory.batch("key", lambda: 1 // 0) == 4


def test_a_measured_batch_is_one_on_a_cpu_and_searched_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, after = a_block(0, (64, 64)), a_block(1, (64, 64))
    network = Brightness()
    whole = predict_change(network, CARD, before, after, Tiling(core=32))
    assert {shape[0] for shape in network.shapes} == {1}
    # The device is a pretended one: tensors stay here.
    monkeypatch.setattr(windows.Passes, "_device", SimpleNamespace(type="cpu-twin"))
    monkeypatch.setattr(windows.Passes, "_name", "toy")
    monkeypatch.setattr(windows, "best_batch", lambda seconds_of: 8 if seconds_of(2) > 0 else 0)
    monkeypatch.setattr(torch, "full", lambda *a, device=None, **k: FULL(*a, **k))
    monkeypatch.setattr(torch, "rand", lambda *a, device=None, **k: RAND(*a, **k))
    network.shapes.clear()
    found = predict_change(network, CARD, before, after, Tiling(core=32))
    np.testing.assert_array_equal(found, whole)
    assert [shape[0] for shape in network.shapes] == [2] * (windows.TIMED + 1) + [4]


FULL, RAND = torch.full, torch.rand


# ----------------------------------------------------------------------------- the compiler


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()).eval()


def test_a_compiler_that_fails_leaves_the_network_as_it_is(caplog: Any) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")

    network, x = small_network(), torch.rand(1, 2, 8, 8)
    fast = Compiled(network, backend)
    with torch.inference_mode():
        assert torch.equal(fast(x), network(x))
        assert not fast.compiled
        assert torch.equal(fast(x), network(x))
    # The compiler's own traces stand there too.
    (line,) = [r.getMessage() for r in caplog.records if r.name == compiling.__name__]
    assert line.startswith("torch.compile is left out: BackendCompilerFailed")
    assert "C compiler" in line


def test_what_is_compiled_is_used_where_it_says_the_same() -> None:
    used = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*arguments: Any) -> Any:
            used.append(1)
            return graph.forward(*arguments)

        return run

    network = small_network()
    fast = Compiled(network, backend)
    with torch.inference_mode():
        for side in (8, 8, 12):
            x = torch.rand(1, 2, side, side)
            assert torch.equal(fast(x), network(x))
    assert fast.compiled
    assert len(used) == 3


def test_what_is_compiled_wrongly_is_found_and_left_out(caplog: Any) -> None:
    def backend(graph: Any, inputs: Any) -> Any:
        return lambda *arguments: [x + 1 for x in graph.forward(*arguments)]

    network, x = small_network(), torch.rand(1, 2, 8, 8)
    fast = Compiled(network, backend)
    with torch.inference_mode():
        assert torch.equal(fast(x), network(x))
    assert not fast.compiled
    assert "says something else than the network" in caplog.text


def test_errors_of_the_device_and_of_the_network_go_through_the_compiler() -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    fast = Compiled(Failing(), "eager")
    fast._fast = Failing()
    with pytest.raises(torch.OutOfMemoryError):
        fast(torch.zeros(1))
    assert fast.compiled
    fast._fast = lambda x: raise_model_error()
    with pytest.raises(ModelError, match="the card"):
        fast(torch.zeros(1))


def raise_model_error() -> None:
    raise ModelError("the card does not fit.")


def test_networks_are_compiled_on_gpus_unless_said_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu, cpu = torch.device("cuda:0"), torch.device("cpu")
    assert [compiling.wanted(gpu), compiling.wanted(cpu)] == [True, False]
    network = small_network()
    assert compiling.compiled(network) is network
    for said, expected in (("0", False), ("1", True)):
        monkeypatch.setenv(compiling.VARIABLE, said)
        assert [compiling.wanted(gpu), compiling.wanted(cpu)] == [expected] * 2
    made: list[nn.Module] = []

    def make(network: nn.Module) -> int:
        made.append(network)
        return len(made)

    monkeypatch.setattr(compiling, "Compiled", make)
    assert compiling.compiled(network) is compiling.compiled(network)
    assert made == [network]


# -------------------------------------------------------------------------------- a lost GPU

LOST = (
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure",
    "CUDA error: device-side assert triggered",
    "CUDA error: uncorrectable ECC error encountered",
)


@pytest.mark.parametrize("said", LOST)
def test_a_lost_gpu_is_told_from_other_errors(said: str) -> None:
    block = a_block(0, (32, 32))
    with pytest.raises(BrokenDeviceError, match="lost to this process; got CUDA error"):
        predict_change(Brightness(lambda shape: fail(said)), CARD, block, block)
    urban = a_card("urban", halo=16, stride=16, normalisation=IDENTITY)
    with pytest.raises(BrokenDeviceError):
        predict_urban(Brightness(lambda shape: fail(said)), urban, block)
    assert not device.out_of_memory(RuntimeError(said))


@pytest.mark.parametrize(
    "said", ["CUDA error: out of memory", "CUDA error: no kernel image is available", "shapes"]
)
def test_other_errors_are_no_lost_gpu(said: str) -> None:
    assert not device.broken(RuntimeError(said))


TASK = Task(Stage.CHANGE, Month(2022, 4), Tile(1, 2))


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("nanny", "ends"), [("tcp://127.0.0.1:1", True), (None, False)])
def test_a_worker_with_a_nanny_ends_when_its_gpu_is_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: Any, nanny: str | None, ends: bool
) -> None:
    left: list[int] = []

    def leave(status: int) -> None:
        left.append(status)
        raise Left

    worker = SimpleNamespace(get_worker=lambda: SimpleNamespace(nanny=nanny))
    monkeypatch.setitem(sys.modules, "distributed", worker)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(logging, "shutdown", lambda: None)
    with pytest.raises(Left if ends else BrokenDeviceError), ending.ended_without_gpu(TASK):
        raise BrokenDeviceError("the GPU is lost.")
    assert left == ([ending.STATUS] if ends else [])
    assert caplog.messages == ([f"task {TASK}: this worker ends: the GPU is lost."] if ends else [])


def test_a_notebook_is_not_ended_when_its_gpu_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_worker() -> None:
        raise ValueError("No worker found")

    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("it ended"))
    for loaded in ({"distributed": SimpleNamespace(get_worker=no_worker)}, {}):
        monkeypatch.delitem(sys.modules, "distributed", raising=False)
        for name, module in loaded.items():
            monkeypatch.setitem(sys.modules, name, module)
        with pytest.raises(BrokenDeviceError), ending.ended_without_gpu(TASK):
            raise BrokenDeviceError("the GPU is lost.")
    # What is no lost GPU goes its way, worker or not.
    with pytest.raises(DeviceError), ending.ended_without_gpu(TASK):
        raise DeviceError("too little memory.")


# --------------------------------------------------------------------------------- the bus


def test_arrays_cross_channel_by_channel_through_few_buffers() -> None:
    """Slots as slow as can be: each copies when it is asked for the next time, or at the end."""

    class Slow:
        def __init__(self) -> None:
            self.waiting: tuple[Tensor, Tensor] | None = None
            self.buffer = torch.empty(0, dtype=torch.int16)

        def arrive(self) -> None:
            if self.waiting is not None:
                target, source = self.waiting
                target.copy_(source)

        def send(self, source: Tensor, target: Tensor) -> None:
            self.arrive()
            self.buffer = source.clone()
            self.waiting = (target, self.buffer)

    slots = [Slow() for _ in range(device.SLOTS)]
    stored = np.arange(5 * 6 * 8, dtype=np.int16).reshape(5, 6, 8)[:, ::2, 1:]
    target = torch.zeros(stored.shape, dtype=torch.int16)
    found = device.send_by(list(slots), stored, target)
    assert found is target
    for slot in slots:
        slot.arrive()
    np.testing.assert_array_equal(target.numpy(), stored)


def test_on_a_cpu_nothing_is_copied() -> None:
    block = a_block(0, (32, 32))
    sent = device.send(block.s2_BYX, torch.device("cpu"))
    assert sent.data_ptr() == block.s2_BYX.ctypes.data
    assert sent.dtype == torch.int16


# -------------------------------------------------------------------------- without the rest

WITHOUT = """
import sys
for name in ("dask", "distributed", "zarr", "xarray", "rasterio"):
    sys.modules[name] = None
import benchmarks.gpu
"""


def test_networks_map_on_a_machine_without_dask_and_zarr() -> None:
    made = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "gpu.json"
    gpu.main([str(out), "--device", "cpu", "--quick"])
    record = json.loads(out.read_text())
    assert {"date", "device", "torch", "roofs", "copies", "maps_mpx_per_s"} <= record.keys()
    assert record["command"].endswith(f"{out} --device cpu --quick")
    (network,) = record["networks"]
    rates = {row["way"]: row["mpx_per_s"] for row in network["rows"]}
    assert {"float32 eager", "float32 channels_last", "float32 folded", "bfloat16"} <= rates.keys()
    assert all(rate > 0 for rate in rates.values())
    assert record["copies"]["staged_gb_per_s"] > 0
    assert "Mpx/s" in capsys.readouterr().out


def test_the_cost_of_a_pixel_is_counted() -> None:
    """Of a 3x3 convolution of 2 to 3 channels: 54 products and sums, 5 values in and out."""
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False))
    subject = gpu.Subject("toy", network, lambda batch, side: (torch.zeros(batch, 2, side, side),))
    cost = gpu.Cost.of(subject, 16)
    assert (cost.flop, cost.values) == (2 * 54, 5)
