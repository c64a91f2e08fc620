"""What only a GPU can show; the twins of these on a CPU are in ``test_inference_device.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import gpu
from cdscale import models
from cdscale.errors import DeviceError
from cdscale.inference import Tiling, device, predict_change, predict_urban, sizes, windows
from cdscale.inference.compiling import Compiled
from cdscale.inference.sizes import Limits, Memory
from cdscale.spec.card import ModelCard
from tests.test_inference_device import CARD, Brightness, a_block

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Float32 is float32 here; no limits, no cache, no compiler unless a test asks."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(windows, "limits", Limits())
    monkeypatch.setattr(windows, "memory", Memory(tmp_path / "batches.json"))
    monkeypatch.setenv("CDSCALE_COMPILE", "0")
    yield
    torch.cuda.empty_cache()


def maps(card: ModelCard, network: nn.Module, how: Tiling, side: int = 256) -> Any:
    before, after = a_block(0, (side, side), card), a_block(1, (side, side), card)
    if card.task == "change":
        return predict_change(network, card, before, after, how)
    return predict_urban(network, card, before, how).probability_YX


@pytest.mark.parametrize("card", models.list_cards(), ids=lambda card: card.name)
def test_a_gpu_says_what_a_cpu_says(card: ModelCard) -> None:
    expected = maps(card, models.load(card), Tiling())
    for how in (Tiling(batch=1), Tiling(core=128, batch=4)):
        found = maps(card, models.load(card, "cuda"), how)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
        there = np.isfinite(expected)
        turned = (found >= card.threshold) != (expected >= card.threshold)
        assert turned[there].mean() <= 1e-4
        np.testing.assert_allclose(found[there], expected[there], rtol=0, atol=1e-3)
    rough = maps(card, models.load(card, "cuda", "bfloat16"), Tiling(batch=1))
    np.testing.assert_allclose(rough[there], expected[there], rtol=0, atol=0.25)


def test_pixels_cross_the_bus_as_they_are() -> None:
    random = np.random.default_rng(0)
    for shape in ((3, 40, 50), (5, 64, 64), (2, 7, 9), (0, 8, 8)):
        stored = random.integers(-(2**15), 2**15, shape).astype(np.int16)
        floats = random.normal(size=shape).astype(np.float32)
        for x in (stored, floats, stored[:, ::2, 1:]):
            np.testing.assert_array_equal(device.send(x, CUDA).cpu().numpy(), x)


def test_pinned_buffers_are_used_again() -> None:
    x = np.zeros((6, 128, 128), np.float32)
    device.send(x, CUDA)
    slots, _ = device._bus.to(CUDA)
    places = [slot._bytes.data_ptr() for slot in slots]  # type: ignore[attr-defined]
    assert len(places) == device.SLOTS
    device.send(x, CUDA)
    assert [slot._bytes.data_ptr() for slot in device._bus.to(CUDA)[0]] == places  # type: ignore[attr-defined]


class Greedy(Brightness):
    """Asks for more memory than there is when a batch or a window is large."""

    def forward(self, s2: Tensor, *rest: Tensor) -> Tensor:
        if s2.shape[0] > 1 or s2.shape[-1] > 96 + 32:
            torch.empty(2**45, dtype=torch.uint8, device=s2.device)
        return super().forward(s2, *rest)


def test_memory_that_runs_out_is_gone_round() -> None:
    before, after = a_block(0, (200, 200)), a_block(1, (200, 200))
    expected = predict_change(Brightness(), CARD, before, after)
    found = predict_change(Greedy().to(CUDA), CARD, before, after, Tiling(core=192, batch=4))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)

    class Endless(Brightness):
        def forward(self, s2: Tensor, *rest: Tensor) -> Tensor:
            torch.empty(2**45, dtype=torch.uint8, device=s2.device)
            return super().forward(s2, *rest)

    other = CARD.model_copy(update={"weights_sha256": "2" * 64})
    with pytest.raises(DeviceError, match="too little memory"):
        predict_change(Endless().to(CUDA), other, before, after)


def test_a_batch_is_searched_on_the_device(tmp_path: Path) -> None:
    before, after = a_block(0, (512, 512)), a_block(1, (512, 512))
    predict_change(Brightness().to(CUDA), CARD, before, after, Tiling(core=64))
    (found,) = json.loads((tmp_path / "batches.json").read_text()).items()
    key, batch = found
    assert torch.cuda.get_device_name() in key
    assert 1 <= batch <= sizes.MOST_WINDOWS


def test_memory_stays_where_it_is_over_many_blocks() -> None:
    card = models.list_cards()[0]
    network, high = models.load(card, "cuda"), []
    for _ in range(6):
        torch.cuda.reset_peak_memory_stats()
        maps(card, network, Tiling(core=128, batch=2))
        high.append(torch.cuda.max_memory_allocated())
    assert max(high[1:]) <= 1.01 * min(high[1:])


def test_the_compiler_says_what_the_network_says() -> None:
    card = models.load_card("urban-s1s2-sim")
    network = models.load(card, "cuda")
    fast = Compiled(network)
    x = torch.rand(1, 2, 64, 64, device=CUDA), torch.rand(1, 4, 64, 64, device=CUDA)
    seen = torch.ones(1, 1, 64, 64, dtype=torch.bool, device=CUDA)
    with torch.inference_mode():
        torch.testing.assert_close(fast(*x, seen), network(*x, seen), rtol=0, atol=1e-3)


LOSE = """
import numpy as np, torch
from cdscale.errors import BrokenDeviceError
from cdscale.inference import predict_change
from tests.test_inference_device import CARD, Brightness, a_block
class Lost(Brightness):
    def forward(self, s2, *rest):
        torch.zeros(4, device=s2.device)[torch.tensor([99], device=s2.device)]
        return super().forward(s2, *rest)
block = a_block(0, (64, 64))
try:
    predict_change(Lost().cuda(), CARD, block, block)
except BrokenDeviceError:
    print("lost")
"""


def test_a_lost_device_is_known() -> None:
    """In a process of its own, which cannot use the GPU afterwards."""
    import subprocess
    import sys

    root = Path(__file__).parent.parent
    made = subprocess.run(
        [sys.executable, "-c", LOSE], capture_output=True, text=True, check=False, cwd=root
    )
    assert made.stdout.strip().endswith("lost"), made.stderr[-2000:]


def test_the_benchmark_runs(tmp_path: Path) -> None:
    gpu.main([str(tmp_path / "gpu.json"), "--quick"])
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["copies"]["step_over_larger"] > 0
    assert record["device"] == torch.cuda.get_device_name()
