"""Files of weights: safetensors, whole or not at all, the same tensors always the same bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cdscale.errors import ModelError, explain


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Notes are kept as one JSON text: safetensors writes several in no fixed order, and the same
    weights should be the same bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    text = json.dumps(dict(notes), sort_keys=True)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, part, {"notes": text})
    part.chmod(0o644)
    os.replace(part, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes of a safetensors file.

    Raises
    ------
    ModelError
        When the file is absent or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads((file.metadata() or {}).get("notes", "{}"))
    except (OSError, ValueError, SafetensorError) as err:
        raise ModelError(explain(f"cannot read weights from {path}", got=str(err))) from None
