"""Recipes from files.

``extends: NAME`` (one that ships, or a file beside it) takes another as the start: what a recipe
says replaces what the other says, mapping by mapping, so that a row of a table is a few lines. A
recipe whose name begins with ``base-`` is there to be extended alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdscale.errors import SpecError, explain
from cdscale.learn.training.kinds import KINDS, course_of
from cdscale.learn.training.recipe import Recipe
from cdscale.spec.base import read_yaml

RECIPES = Path(__file__).parents[1] / "recipes"
"""Folder of the recipes that come with the package."""

_BASE = "base-"


def shipped(*kinds: str) -> tuple[str, ...]:
    """Names of the recipes that come with the package: of some kinds, or of all."""
    wanted = kinds or tuple(KINDS)
    names = (path.stem for path in sorted(RECIPES.glob("*.yaml")))
    return tuple(
        name
        for name in names
        if not name.startswith(_BASE) and _extended(RECIPES / f"{name}.yaml").get("kind") in wanted
    )


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe, by the name of one that ships or by its path.

    Returns
    -------
    Recipe
        Of the class of its kind.

    Raises
    ------
    SpecError
        When there is none of that name, it does not read, or nothing can be trained with it.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{Path(name_or_path).name}.yaml"
        if name_or_path.startswith(_BASE) or not path.is_file():
            raise SpecError(
                explain(
                    "no such recipe",
                    expected=f"one of {', '.join(shipped())}, or a path to *.yaml",
                    got=name_or_path,
                )
            )
    data = _extended(path)
    kind: type[Recipe] = course_of(data.get("kind"), str(path)).recipe
    return kind.check(data, where=str(path)).checked(str(path))


def _extended(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Plain data of a recipe, laid over that of the one that it extends."""
    if path.resolve() in seen:
        raise SpecError(explain(f"{path}: it extends itself", got=" > ".join(p.name for p in seen)))
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SpecError(explain(f"{path} is no recipe", expected="a mapping of YAML"))
    own = dict(data)
    base = own.pop("extends", None)
    if base is None:
        return own
    if not isinstance(base, str):
        raise SpecError(explain(f"{path}: extends", expected="a name or a path", got=base))
    beside = path.parent / base
    where = beside if beside.suffix in (".yaml", ".yml") else RECIPES / f"{base}.yaml"
    return _laid_over(_extended(where, (*seen, path.resolve())), own)


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values of ``over`` where it has any; mappings are merged."""
    merged = dict(under)
    for name, value in over.items():
        old = merged.get(name)
        # The options of another family are none of this one.
        whole = name == "network"
        both = isinstance(old, dict) and isinstance(value, dict) and not whole
        merged[name] = _laid_over(old or {}, value) if both else value
    return merged
