"""Maps of semantic change against labels: counts that add up, and figures of the pooled counts.

===================  =============================================================================
Group of figures     Of what
===================  =============================================================================
``change``           change as such, against the label of change (HRSCD's CD kappa, Dice, OA)
``land cover``       land cover of both dates together, where it is labelled (LCM kappa, OA)
``semantic change``  mean IoU of no change and change, SeK, Fscd (SECOND)
``transitions``      every transition and no change as classes (kappa of strategy 2)
``classes``          classes of change, no change among them (DynamicEarthNet 2021)
``scs``              BC, SC and their mean, of consecutive months (DynamicEarthNet 2022)
===================  =============================================================================

From-to classes count as SECOND has them: each date by itself, its class where there is change and
0 elsewhere, both dates in one table. A pixel that changed, but whose class is unknown, does not
count there.

Shape suffixes: Y row, X column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cdscale.learn.data import DataSet, Sample, Window
from cdscale.learn.data.files import Codes
from cdscale.learn.images.reading import Reading, SemanticMap
from cdscale.learn.labels import IGNORED
from cdscale.learn.metrics import (
    ClassConfusion,
    Confusion,
    MonthlyChange,
    change_miou,
    fscd,
    sek,
)

LAND = ("land_before", "land_after")
CHANGE = ("kappa", "f1", "overall", "precision", "recall", "iou")
"""Figures of change as such; F1 is Dice."""

_PREFIX = {"land cover": "land_", "transitions": "transitions_", "classes": "classes_"}


def classes_of_change(data: DataSet) -> Mapping[int, str]:
    """Classes that a data set's label of change tells apart; empty where it is change or none."""
    many = data.classes.get(0) == "no change" and len(data.classes) > 2
    return data.classes if many else {}


@dataclass(frozen=True)
class Labels:
    """Labels of a window, (Y, X) uint8 each, 255 where unknown.

    Parameters
    ----------
    change_YX : uint8 array
        0 no change, else change, or the class of the newer date.
    land_YX : tuple of uint8 arrays
        Land cover before and after; empty where the data set has none.
    """

    change_YX: Codes
    land_YX: tuple[Codes, ...]

    @classmethod
    def read(cls, sample: Sample, window: Window) -> Labels:
        """Those of a scene.

        Raises
        ------
        ReadError
            When a file is absent, damaged or holds unknown codes.
        """
        land = tuple(sample.read(name, window=window) for name in LAND if name in sample.names)
        return cls(sample.read("change", window=window), land)


@dataclass(frozen=True)
class SemanticCounts:
    """Counts of maps against labels; those of scenes add up.

    Parameters
    ----------
    change : Confusion
        Of change as such.
    tables : mapping
        By group of figures, for those that network and labels allow.
    unseen : int
        Labelled pixels of which the map says nothing.
    """

    change: Confusion = field(default_factory=Confusion)
    tables: Mapping[str, ClassConfusion] = field(default_factory=dict)
    unseen: int = 0

    def __add__(self, other: SemanticCounts) -> SemanticCounts:
        tables = dict(self.tables)
        for name, table in other.tables.items():
            tables[name] = tables[name] + table if name in tables else table
        return SemanticCounts(self.change + other.change, tables, self.unseen + other.unseen)

    def figures(self) -> dict[str, dict[str, float]]:
        """Figures by group, :data:`CHANGE` of ``change``."""
        found = {"change": {name: float(getattr(self.change, name)) for name in CHANGE}}
        if land := self.tables.get("land cover"):
            found["land cover"] = _some(land, "kappa", "overall", "miou")
        if semantic := self.tables.get("semantic change"):
            found["semantic change"] = {
                "change_miou": change_miou(semantic), "sek": sek(semantic), "fscd": fscd(semantic),
            }  # fmt: skip
        if transitions := self.tables.get("transitions"):
            found["transitions"] = _some(transitions, "kappa", "overall")
        if classes := self.tables.get("classes"):
            found["classes"] = _some(classes, "miou", "f1", "kappa", "overall")
        if later := self.tables.get("scs"):
            monthly = MonthlyChange(self.change, later)
            found["scs"] = {"scs": monthly.scs, "bc": monthly.bc, "sc": monthly.sc}
        return found

    def flat(self) -> dict[str, float]:
        """All figures under one name each, such as ``kappa``, ``land_kappa``, ``sek``."""
        groups = self.figures()
        found = groups.pop("change")
        for group, figures in groups.items():
            own = _PREFIX.get(group, "")
            found |= {f"{own}{name}": value for name, value in figures.items()}
        return found


@dataclass(frozen=True)
class Counter:
    """Counts maps of one network against labels of one data set."""

    reading: Reading
    data: DataSet

    def count(self, found: SemanticMap, labels: Labels) -> SemanticCounts:
        """Count one window.

        Raises
        ------
        UserError
            When a label holds a class beyond those of network and data set.
        """
        unseen = found.change_YX == IGNORED
        lost = int(np.count_nonzero(unseen & (labels.change_YX != IGNORED)))
        labels = Labels(
            np.where(unseen, np.uint8(IGNORED), labels.change_YX),
            tuple(np.where(unseen, np.uint8(IGNORED), land) for land in labels.land_YX),
        )
        change = Confusion.of(found.change_YX > 0, _binary(labels.change_YX))
        return SemanticCounts(change, dict(self._tables(found, labels)), lost)

    def _tables(self, found: SemanticMap, labels: Labels) -> Iterator[tuple[str, ClassConfusion]]:
        reading, land = self.reading, bool(labels.land_YX)
        if reading.has_land and land:
            yield "land cover", self._land(found, labels)
        if reading.says == "classes of change":
            if classes_of_change(self.data):
                classes = self._of(found.change_YX, labels.change_YX)
                yield "classes", classes
                yield "semantic change", classes
        elif land:
            yield "semantic change", self._from_to(found, labels)
        if reading.says == "transitions" and land:
            yield "transitions", self._transitions(found, labels)
        if land and classes_of_change(self.data):
            yield "scs", self._later(found, labels)

    def _land(self, found: SemanticMap, labels: Labels) -> ClassConfusion:
        """Both dates together."""
        before, after = (
            self._of(said, true) for said, true in zip(found.land_YX, labels.land_YX, strict=True)
        )
        return before + after

    def _from_to(self, found: SemanticMap, labels: Labels) -> ClassConfusion:
        """Code 0 without change, else land cover + 1, of both dates together."""
        total = self._of(np.zeros(0, np.uint8), np.zeros(0, np.uint8))
        for said, true in zip(found.land_YX, labels.land_YX, strict=True):
            code = np.where(found.change_YX == 1, said.astype(np.int64) + 1, 0)
            truth = np.where(labels.change_YX == 0, 0, true.astype(np.int64) + 1)
            unknown = (labels.change_YX == IGNORED) | ((truth > 0) & (true == IGNORED))
            total += self._of(code, np.where(unknown, IGNORED, truth))
        return total

    def _transitions(self, found: SemanticMap, labels: Labels) -> ClassConfusion:
        """Numbers of transitions; labelled change that is none of them does not count."""
        table = self.reading.transitions
        before, after = (torch.from_numpy(x).long() for x in labels.land_YX)
        changed = torch.from_numpy(labels.change_YX > 0)
        truth = table.encode(before, after, changed, IGNORED).numpy()
        truth[labels.change_YX == IGNORED] = IGNORED
        number = np.zeros(truth.shape, np.int64)
        for place, (a, b) in enumerate(table.pairs, start=1):
            number[(found.land_YX[0] == a) & (found.land_YX[1] == b)] = place
        return ClassConfusion.of(number, truth, table.outputs)

    def _later(self, found: SemanticMap, labels: Labels) -> ClassConfusion:
        """Land cover of the later month where it truly changed; SC of it.

        Where a network of change alone finds none it names no class, which is a miss: the last
        row and column of the table stand for that. Classes of change are land cover + 1.
        """
        none = np.uint8(self._size - 1)
        if found.land_YX:
            later = found.land_YX[1]
            said = np.where(later == IGNORED, none, later)
        else:
            said = np.where(found.change_YX == 0, none, found.change_YX - 1)
        moved = (labels.change_YX > 0) & (labels.change_YX != IGNORED)
        return self._of(said, np.where(moved, labels.land_YX[1], np.uint8(IGNORED)))

    def _of(self, said: NDArray[Any], true: NDArray[Any]) -> ClassConfusion:
        seen = true != IGNORED
        return ClassConfusion.of(said[seen], true[seen], self._size)

    @property
    def _size(self) -> int:
        """Rows that hold every code of network and labels, one more each, and none."""
        return 3 + max(*self.reading.codes, *self.data.classes)


def _some(table: ClassConfusion, *names: str) -> dict[str, float]:
    return {name: float(getattr(table, name)) for name in names}


def _binary(label_YX: Codes) -> Codes:
    """1 for any change, 0 for none, 255 where nothing is known."""
    return np.where(label_YX == IGNORED, label_YX, label_YX > 0).astype(np.uint8)
