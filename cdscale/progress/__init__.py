"""How far a run is, as its receipts tell: what is done, can start, waits, or failed and why."""

from __future__ import annotations

from cdscale.progress.receipts import Agenda, Progress
from cdscale.progress.selection import EVERYTHING, Selection
from cdscale.progress.status import StageStatus, Status, status, status_of, unpublished

__all__ = [
    "EVERYTHING",
    "Agenda",
    "Progress",
    "Selection",
    "StageStatus",
    "Status",
    "status",
    "status_of",
    "unpublished",
]
