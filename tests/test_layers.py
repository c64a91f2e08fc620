"""The house holds: imports go downward only, and each foreign library has its owners.

A new module goes into ``LAYERS``; a new foreign library that deserves an owner into ``OWNERS``.
Imports under ``if TYPE_CHECKING:`` need no owner, but do have a direction.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "cdscale"

LAYERS = {
    "__init__": 0, "grid": 0, "months": 0, "errors": 0,
    "spec": 1, "kernels": 1,
    "scenes": 2, "pixels": 2, "store": 2, "models": 2, "inference": 2, "classical": 2, "learn": 2,
    "stages": 3, "progress": 3, "publication": 3, "drift": 3,
    "completeness": 3, "detection": 3, "integrity": 3, "evaluation": 3, "plan": 3, "query": 3,
    "export": 3, "accuracy": 3, "maps": 3, "survey": 3, "seams": 3, "mosaic": 3, "mosaic_check": 3,
    "cluster": 4, "display": 4, "run": 4, "window": 4,
    "cli": 5, "serve": 5, "__main__": 5,
}  # fmt: skip
SIBLINGS = {("inference", "models"), ("learn", "models")}
"""Who may import whom within layer 2; the others there do not know each other."""
FACADE = {"maps", "query"}
"""What the package itself offers, as ``cdscale.predict``; imported when it is asked for."""
OUTSIDE = {"simulate", "testing"}
"""They may import everything; in the layers only ``cli`` imports them."""

OWNERS = {
    "antimeridian": {"grid"},
    "dask": {"cluster", "maps", "pixels"},
    "dask_cuda": {"cluster"},
    "dask_jobqueue": {"cluster"},
    "dask_kubernetes": {"cluster"},
    "distributed": {"cluster", "window"},
    "exactextract": {"query"},
    "fastapi": {"serve"},
    "geopandas": {"export"},
    "jinja2": {"export"},
    "kr8s": {"cluster"},
    "matplotlib": {"export"},
    "numcodecs": {"store"},
    "obstore": {"store"},
    "odc.geo": {"grid"},
    "odc.loader": {"pixels"},
    "odc.stac": {"pixels"},
    "prefect": set(),
    "pyarrow": {"export", "query"},
    "pydantic": {"spec"},
    "pystac": {"scenes"},
    "pystac_client": {"scenes"},
    "pytorch_lightning": {"learn"},
    "rioxarray": {"export"},
    "rich": {"cli", "display"},
    "safetensors": {"models", "inference", "learn", "testing"},
    "skimage": {"classical"},
    "sklearn": {"classical"},
    "stackstac": {"pixels"},
    "torch": {"models", "inference", "learn", "testing"},
    "typer": {"cli"},
    "xarray": {"store", "pixels", "maps", "query", "export", "simulate", "testing"},
    "yaml": {"spec", "testing"},
    "zarr": {"store"},
}  # fmt: skip


def imported(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Dotted names that a file imports, wherever it does, each with: is it so at runtime?"""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        runtime = id(node) not in typing_only
        if isinstance(node, ast.Import):
            yield from ((alias.name, runtime) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (f"{node.module}." if node.module else "")
            yield from ((prefix + alias.name, runtime) for alias in node.names)


def breaches(module: str, source: str) -> list[str]:
    """What a file of a top module (``spec`` for ``cdscale/spec/card.py``) may not import."""
    if module not in LAYERS.keys() | OUTSIDE:
        return [f"{module} has no layer: add it to LAYERS"]
    found = []
    for name, runtime in imported(ast.parse(source)):
        top, _, rest = name.partition(".")
        inner = rest.partition(".")[0]
        if not top:
            found.append(f"{module} imports {name} relatively")
        elif top == "cdscale":
            if inner in LAYERS.keys() | OUTSIDE and not may_import(module, inner):
                found.append(f"{module} imports {inner}, which is not below it")
        elif runtime and module not in (owners := owners_of(name, module)):
            belongs = ", ".join(sorted(owners)) or "flows/"
            found.append(f"{module} imports {top}, which belongs to {belongs}")
    return found


def owners_of(name: str, module: str) -> set[str]:
    """Who may import a dotted name: a rule for part of a library goes before one for all of it."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((OWNERS[prefix] for prefix in prefixes if prefix in OWNERS), {module})


def may_import(module: str, other: str) -> bool:
    if module == other or module in OUTSIDE:
        return True
    if module == "__init__":
        return other in FACADE
    if other in OUTSIDE:
        return module == "cli"
    if LAYERS[module] == LAYERS[other] == 2:
        return (module, other) in SIBLINGS
    return LAYERS[other] <= LAYERS[module]


def top_module(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=str(p.relative_to(PACKAGE))) for p in PACKAGE.rglob("*.py")]
)
def test_a_file_keeps_to_its_layer_and_leaves_libraries_to_their_owners(path: Path) -> None:
    assert breaches(top_module(path), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        ("kernels", "from cdscale.store import open_cube", "kernels imports store"),
        ("grid", "def f():\n    from cdscale import spec", "grid imports spec"),
        ("scenes", "import cdscale.pixels", "scenes imports pixels"),
        ("models", "from cdscale.inference import Tiling", "models imports inference"),
        ("stages", "from cdscale.testing import FakeReader", "stages imports testing"),
        ("plan", "from . import run", "plan imports .run relatively"),
        ("plan", "import torch.nn as nn", "plan imports torch, which belongs to inference"),
        ("pixels", "import odc.geo.geobox", "pixels imports odc, which belongs to grid"),
        ("grid", "import odc.loader", "grid imports odc, which belongs to pixels"),
        ("run", "from prefect import task", "run imports prefect, which belongs to flows/"),
        ("grids", "", "grids has no layer"),
    ],
)
def test_a_breach_is_caught(module: str, source: str, said: str) -> None:
    (found,) = breaches(module, source)
    assert found.startswith(said)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("learn", "from cdscale.models import load"),
        ("cli", "from cdscale import __version__, simulate"),
        ("query", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import zarr"),
        ("store", "import numpy, zarr\nfrom cdscale.errors import StoreError"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert breaches(module, source) == []
