"""What a check found: findings by file, counts, and whether the folder is whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal[
    "missing", "surplus", "unreadable", "bands", "dtype", "shape", "crs", "codes", "name", "count",
    "empty", "differs",
]  # fmt: skip

MARKER = "MINIATURE.json"
"""In a folder that was made up: says so, which places it has, and units of its own, if any."""


@dataclass(frozen=True)
class Finding:
    """One thing about one file."""

    kind: Kind
    path: str
    """From the root of the data set; ``.`` is the whole."""
    reason: str
    severe: bool = True
    """Whether the folder is not whole because of it."""

    def __str__(self) -> str:
        return f"{'error' if self.severe else 'note '}  {self.kind:<10}  {self.path}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """Whether a folder is a whole copy of a data set.

    ``counts`` are things by name ("cities", "labels"), in the order in which they are to be shown.
    """

    data: str
    root: Path
    deep: bool
    simulated: bool
    """Whether the folder says that it is a made-up miniature."""
    counts: tuple[tuple[str, int], ...]
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing severe was found."""
        return not any(finding.severe for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "data": self.data,
            "root": str(self.root),
            "whole": self.whole,
            "deep": self.deep,
            "simulated": self.simulated,
            "counts": dict(self.counts),
            "findings": [
                {"severe": f.severe, "kind": f.kind, "path": f.path, "reason": f.reason}
                for f in self.findings
            ],
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts)
        depth = "all pixels read" if self.deep else "headers only"
        kind = " (a made-up miniature)" if self.simulated else ""
        verdict = "whole" if self.whole else "NOT whole"
        head = f"{self.data} at {self.root}{kind}: {verdict}; {counts or 'nothing'} ({depth})"
        return "\n".join([head, *(str(finding) for finding in self.findings)])


@dataclass
class Inspection:
    """A report in the making."""

    data: str
    root: Path
    deep: bool
    findings: dict[Finding, None] = field(default_factory=dict)
    """In the order in which they were made; a file that serves two samples is reported once."""
    counts: dict[str, int] = field(default_factory=dict)

    def error(self, kind: Kind, path: Path, reason: str) -> None:
        """Something for which the folder is not whole."""
        self._add(Finding(kind, self._name(path), reason))

    def note(self, kind: Kind, path: Path, reason: str) -> None:
        """Something worth knowing."""
        self._add(Finding(kind, self._name(path), reason, severe=False))

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count; 0 shows it."""
        self.counts[name] = self.counts.get(name, 0) + number

    def surplus(self, folder: Path, known: Iterable[str]) -> None:
        """Note what lies in a folder and belongs to no layout; hidden files do not count."""
        expected = {*known, MARKER}
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name not in expected and not path.name.startswith("."):
                self.note("surplus", path, "not part of the published layout; it is not read")

    def done(self) -> Report:
        """The report: errors first, each part in the order of files."""
        findings = sorted(self.findings, key=lambda f: (not f.severe, f.path, f.kind))
        simulated = (self.root / MARKER).is_file()
        counts = tuple(self.counts.items())
        return Report(self.data, self.root, self.deep, simulated, counts, tuple(findings))

    def _add(self, finding: Finding) -> None:
        self.findings.setdefault(finding)

    def _name(self, path: Path) -> str:
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return str(path)


def made_up_places(root: Path) -> dict[str, list[str]] | None:
    """Places by split that a made-up miniature is to have; None for any other folder."""
    if not (root / MARKER).is_file():
        return None
    try:
        said = _marker(root)["places"]
        return {str(split): [str(place) for place in own] for split, own in said.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def made_up_decibel(root: Path, published: tuple[float, float]) -> tuple[float, float]:
    """Backscatter in dB that 0 and 1 stand for: as published, or as a made-up folder says."""
    try:
        low, high = _marker(root)["s1_db"]
        return float(low), float(high)
    except (OSError, ValueError, KeyError, TypeError):
        return published


def _marker(root: Path) -> Any:
    return json.loads((root / MARKER).read_text("utf-8"))
