"""The convolutions of VGG-16 and VGG-19 as feature extractor, with weights that the user brings.

K. Simonyan, A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
ICLR 2015. Metric-CD compares features of VGG-16, CNNF (A. M. El Amin, Q. Liu, Y. Wang, 2016) those
of VGG-19. Names and shapes of the tensors are those of torchvision's state dicts ``vgg16`` and
``vgg19``. None are shipped: they are half a gigabyte each, and not this project's to give.

Shape suffixes: B sample, C channel, Y row, X column.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cdscale.errors import ModelError, explain
from cdscale.models.blocks import Interval, check_size, require, run
from cdscale.models.extractors import check_levels, zscored

Depth = Literal[16, 19]
Scaling = Literal["imagenet", "caffe"]

_BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
_CLASSIFIER = {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
# Before 2.10 a crafted file could corrupt memory in spite of weights_only (CVE-2026-24747).
_SAFE_TORCH = (2, 10)


def level_layers(depth: Depth, levels: tuple[int, ...] = (1, 2)) -> tuple[str, ...]:
    """Names of the last ReLU of blocks 1 to 5, before their pooling.

    Levels 1 to 4 of VGG-16, from which Metric-CD chooses, are relu1_2, relu2_2, relu3_3, relu4_3.

    Raises
    ------
    ModelError
        When there is no such depth or level.
    """
    _check_depth(depth)
    check_levels("VGG", levels)
    return tuple(f"relu{level}_{_BLOCKS[depth][level - 1]}" for level in levels)


class Vgg(nn.Module):
    """Outputs of some layers of VGG, for RGB images; nothing below the last one is built.

    Made by its constructor it has random weights; :func:`load_vgg` gives it a user's.

    Parameters
    ----------
    layers : tuple of str
        ``relu<block>_<i>``, in ascending order; see :func:`level_layers`.
    depth : {16, 19}
        Convolutions and dense layers of the network.
    scaling : {"imagenet", "caffe"}
        How RGB in [0, 1] enters. "imagenet": less the mean, over the standard deviation, as
        torchvision's weights were trained. "caffe": less the mean, times 255, some 57 times as
        large, and with it about all activations: the scale on which CNNF's fixed threshold stands.
    standardise : bool
        Whether to return z-scores over the image, as Metric-CD's notebook does.

    Raises
    ------
    ModelError
        When an option is unknown.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: tuple[str, ...] = ("relu1_2", "relu2_2"),
        *,
        depth: Depth = 16,
        scaling: Scaling = "imagenet",
        standardise: bool = False,
    ) -> None:
        super().__init__()
        require(scaling in get_args(Scaling), "VGG: scaling", "imagenet or caffe", scaling)
        _check_depth(depth)
        self.depth: Depth = depth
        self.layers = layers
        self.standardise = standardise
        self._places = _places(depth, layers)
        self.features = _convolutions(depth, self._places[-1] + 1)
        blocks = [_plan(depth)[place].block for place in self._places]
        self.channels: tuple[int, ...] = tuple(_WIDTHS[block - 1] for block in blocks)
        self.strides: tuple[int, ...] = tuple(2 ** (block - 1) for block in blocks)
        std = _STD if scaling == "imagenet" else (1 / 255,) * 3
        # Not in the state: torchvision's has no such entries.
        for name, value in (("mean", _MEAN), ("std", std)):
            self.register_buffer(name, torch.tensor(value)[:, None, None], persistent=False)

    @property
    def halo(self) -> int:
        """Pixels of the image around a pixel of the last map that it reads."""
        seen = Interval(0, 0)
        for module in reversed(self.features):
            if isinstance(module, nn.Conv2d):
                seen = seen.before("conv3")
            elif isinstance(module, nn.MaxPool2d):
                seen = seen.before("pool2")
        return max(-seen.low, seen.high - self.strides[-1] + 1)

    def forward(self, rgb_BCYX: Tensor) -> list[Tensor]:
        """Feature maps of the layers.

        Parameters
        ----------
        rgb_BCYX : Tensor
            Red, green, blue in [0, 1], (B, 3, Y, X).

        Returns
        -------
        list of Tensor
            (B, channels[i], Y // strides[i], X // strides[i]), not negative unless standardised.

        Raises
        ------
        ModelError
            When there are not three bands, or the image is too small for the layers.
        """
        if rgb_BCYX.shape[1] != len(_MEAN):
            raise ModelError(
                explain(
                    "VGG reads red, green and blue",
                    expected=f"{len(_MEAN)} bands",
                    got=rgb_BCYX.shape[1],
                    do="Choose three bands, or the filter bank, which takes any.",
                )
            )
        check_size(rgb_BCYX, self.strides[-1])
        x = (rgb_BCYX - self.mean) / self.std
        maps = []
        for place, module in enumerate(self.features):
            x = run(module, x)
            if place in self._places:
                maps.append(zscored(x) if self.standardise else x)
        return maps


def load_vgg(network: Vgg, path: Path) -> Vgg:
    """Give a network the weights of a file, which has to fit whole.

    Parameters
    ----------
    network : Vgg
        Gets the weights, in evaluation mode and without gradients.
    path : Path
        Torchvision's state dict of ``vgg16`` or ``vgg19``, with or without its classifier:
        ``.safetensors``, or a ``.pth`` or ``.pt`` file as torchvision publishes it.

    Returns
    -------
    Vgg
        The same network.

    Raises
    ------
    ModelError
        When the file does not read, or a tensor is missing, is one too many, or has another
        shape, another type, or values that are not finite. Nothing is filled in at random.
    """
    state = _read(path)
    _check(state, network.depth, path)
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    return network.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Place:
    """One module of torchvision's ``features``, whose number is its place in the row."""

    kind: Literal["conv", "relu", "pool"]
    block: int
    step: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.block}_{self.step}"


def _plan(depth: Depth) -> list[_Place]:
    """The row of modules of a network."""
    row = []
    for block, steps in enumerate(_BLOCKS[depth], start=1):
        for step in range(1, steps + 1):
            row += [_Place("conv", block, step), _Place("relu", block, step)]
        row.append(_Place("pool", block, steps))
    return row


def _shapes(depth: Depth) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the convolutions' tensors, as in torchvision's state dict."""
    shapes: dict[str, tuple[int, ...]] = {}
    c_in = len(_MEAN)
    for place, found in enumerate(_plan(depth)):
        if found.kind == "conv":
            c_out = _WIDTHS[found.block - 1]
            shapes[f"features.{place}.weight"] = (c_out, c_in, 3, 3)
            shapes[f"features.{place}.bias"] = (c_out,)
            c_in = c_out
    return shapes


def _convolutions(depth: Depth, count: int) -> nn.Sequential:
    """The first ``count`` modules of a network; ReLU not in place, since its input is kept too."""
    shapes = _shapes(depth)
    row: list[nn.Module] = []
    for place, found in enumerate(_plan(depth)[:count]):
        if found.kind == "conv":
            c_out, c_in, side, _ = shapes[f"features.{place}.weight"]
            row.append(nn.Conv2d(c_in, c_out, side, padding=1))
        else:
            row.append(nn.ReLU() if found.kind == "relu" else nn.MaxPool2d(2))
    return nn.Sequential(*row)


def _places(depth: Depth, layers: tuple[str, ...]) -> list[int]:
    """Places of layers in the row, refused unless known and ascending."""
    known = {found.name: place for place, found in enumerate(_plan(depth)) if found.kind == "relu"}
    places = [known.get(name, -1) for name in layers]
    held = bool(places) and -1 not in places and places == sorted(set(places))
    require(held, f"VGG-{depth}: layers", f"some of {', '.join(known)}, in this order", layers)
    return places


def _check_depth(depth: int) -> None:
    require(depth in get_args(Depth), "VGG: depth", "16 or 19", depth)


def _read(path: Path) -> dict[str, Any]:
    """Whatever a file of tensors holds, by name."""
    readers: dict[str, Callable[[Path], object]] = {
        ".safetensors": load_file,
        ".pth": _unpickled,
        ".pt": _unpickled,
    }
    if path.suffix not in readers:
        expected = f"a file named {', '.join(readers)}"
        raise ModelError(explain("VGG weights", expected=expected, got=str(path)))
    if path.suffix != ".safetensors":
        _check_torch(path)
    try:
        state: object = readers[path.suffix](path)
    except FileNotFoundError:
        what = "no such file of VGG weights"
        raise ModelError(explain(what, got=str(path), do="Check the path.")) from None
    # Damaged bytes make an unpickler stumble in any way there is.
    except Exception as err:
        got = f"{type(err).__name__}: {err}"[:200]
        do = "Get torchvision's weights anew, best as safetensors."
        raise ModelError(explain(f"VGG weights: {path} does not read", got=got, do=do)) from None
    if not isinstance(state, dict):
        what = f"VGG weights: {path.name}"
        raise ModelError(explain(what, expected="a state dict", got=type(state).__name__))
    return state


def _check_torch(path: Path) -> None:
    """Refuse to read torch's own format with a torch that is not safe."""
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if release < _SAFE_TORCH:
        raise ModelError(
            explain(
                f"VGG weights: {path.name} is not read with this torch, which has a security hole",
                expected=f"torch {'.'.join(map(str, _SAFE_TORCH))} or later",
                got=torch.__version__,
                do="Update torch, or convert the file to safetensors.",
            )
        )


def _unpickled(path: Path) -> object:
    """What a file in torch's own format holds.

    ``torch.load`` is banned elsewhere because a pickle runs code. With ``weights_only`` the
    unpickler knows tensors and plain containers alone and refuses every other name, so that no code
    of the file runs; the file is one that the user names, never one that cdscale fetched; and every
    entry is checked afterwards. Torchvision publishes in no other format.
    """
    with warnings.catch_warnings():
        # Of files of another pickle protocol; what such a file lacks, the check will say.
        warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
        state: object = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    return state


def _check(state: dict[str, Any], depth: Depth, path: Path) -> None:
    """Refuse anything but the whole of torchvision's state dict, its classifier apart."""
    expected = _shapes(depth)
    if any(str(name).startswith("classifier.") for name in state):
        for place, shape in _CLASSIFIER.items():
            expected[f"classifier.{place}.weight"] = shape
            expected[f"classifier.{place}.bias"] = shape[:1]
    wrong = [f"{name} is missing" for name in expected if name not in state]
    wrong += [f"{name} is none of its tensors" for name in state if name not in expected]
    for name in expected.keys() & state.keys():
        wrong += _wrong(name, state[name], expected[name])
    if wrong:
        more = f" ({len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise ModelError(
            explain(
                f"VGG weights: {path.name} does not fit",
                expected=f"torchvision's vgg{depth}",
                got="; ".join(sorted(wrong)[:3]) + more,
                do="Use the state dict of ImageNet weights, whole.",
            )
        )


def _wrong(name: str, value: Any, shape: tuple[int, ...]) -> list[str]:
    """What is wrong with one tensor."""
    if not isinstance(value, Tensor):
        return [f"{name} is a {type(value).__name__}"]
    if tuple(value.shape) != shape:
        return [f"{name} has shape {tuple(value.shape)} for {shape}"]
    if not value.is_floating_point():
        return [f"{name} holds {value.dtype}"]
    # A sum in float64 cannot overflow, and one value that is not finite spoils it.
    if not bool(torch.isfinite(value.sum(dtype=torch.float64))):
        return [f"{name} has values that are not finite"]
    return []
