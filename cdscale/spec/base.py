"""The base of all validated data, and the one way to fingerprint it."""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from cdscale.errors import SpecError, explain


class _Twice(ValueError):
    """A key that stands twice in one mapping: readers would silently take the last."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses what YAML itself forbids: a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            # Several merges (`<<`) in one mapping are no contradiction.
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if key.value in seen:
                raise _Twice(f"{key.value!r} a second time at line {key.start_mark.line + 1}")
            seen.add(key.value)
        return node


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(f"{next(k for k in keys if keys.count(k) > 1)!r} a second time")
    return found


class Frozen(BaseModel):
    """Data that cannot change once made, and that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a value from a YAML or JSON file.

        Parameters
        ----------
        path : Path
            The file; JSON is read as the subset of YAML that it is.

        Raises
        ------
        SpecError
            When the file is absent or unreadable, is not YAML, or does not validate; the message
            names the field.
        """
        return cls.check(read_yaml(path), where=str(path))

    @classmethod
    def check(cls, data: Any, *, where: str) -> Self:
        """Validate plain data, and say in one sentence what is wrong with it.

        Raises
        ------
        SpecError
            Naming ``where``, the first wrong field, and what came.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as err:
            every = err.errors(include_url=False)
            # A field that nobody knows first: it is often why another one is missing.
            first = next((one for one in every if one["type"] == "extra_forbidden"), every[0])
            field = ".".join(str(part) for part in first["loc"]) or "the file"
            more = f" ({err.error_count() - 1} more)" if err.error_count() > 1 else ""
            message = first["msg"].removeprefix("Value error, ").rstrip(".")
            if first["type"] == "extra_forbidden":
                message += _instead(cls, first["loc"])
            raise SpecError(f"{where}: {field}: {message}{more}.") from None


def _instead(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """What may stand where a field that nobody knows was given; the likeliest by itself."""
    for part in place[:-1]:
        field = model.model_fields.get(str(part))
        given = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = [one for one in given if isinstance(one, type) and issubclass(one, BaseModel)]
        if len(inner) != 1:
            return ""
        model = inner[0]
    meant = get_close_matches(str(place[-1]), model.model_fields, 1, 0.75)
    if meant:
        return f"; did you mean {meant[0]}"
    return f"; expected one of {', '.join(model.model_fields)}"


def read_yaml(path: Path) -> Any:
    """Plain data from a YAML or JSON file.

    Raises
    ------
    SpecError
        When the file is absent or unreadable, is not YAML, or gives a key twice.
    """
    try:
        return _plain(path)
    except _Twice as twice:
        raise SpecError(
            explain(
                f"{path} gives a key twice", expected="each once", got=twice, do="Take one out."
            )
        ) from None


def _plain(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        reason = getattr(err, "strerror", None) or "it is not UTF-8 text"
        raise SpecError(explain(f"cannot read {path}: {reason}", do="Check the path.")) from None
    try:
        # JSON is tried first: to PyYAML 1e-05 is text, and a tab an error.
        return json.loads(text, object_pairs_hook=_pairs)
    except _Twice:
        raise
    except (ValueError, RecursionError):
        pass
    try:
        return _Loader(text).get_single_data()
    except _Twice:
        raise
    # PyYAML says of a date such as 2017-13-01 only ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        mark = getattr(err, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        raise SpecError(explain(f"{path} is not YAML{line}", do="Mend the syntax.")) from None


def fingerprint(value: Any) -> str:
    """Sha256 of the canonical JSON form of plain data or of a :class:`Frozen` value."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
