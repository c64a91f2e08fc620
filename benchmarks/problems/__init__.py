"""Named problems of real shape; ``python -m benchmarks`` times them, the tests run them small.

Each answers one question by a ratio of two ways timed in turn, because a ratio holds on a busy
machine where seconds do not. Those of ``SMALL`` are asked in this process alone.
"""

from __future__ import annotations

from benchmarks.problems.asking import Answer, Problem, in_turn
from benchmarks.problems.making import ComposeMonth, Ingestion, MapSplit, Peers, TiledPrediction
from benchmarks.problems.running import EmptyTasks, NothingToDo, TwoWorkers
from benchmarks.problems.storing import CheckedWrite, PixelSeries

__all__ = ["PROBLEMS", "SMALL", "Answer", "Problem", "in_turn"]

SMALL: dict[str, Problem] = {
    "CheckedWrite": CheckedWrite(),
    "ComposeMonth": ComposeMonth(),
    "MapSplit": MapSplit(),
    "NothingToDo": NothingToDo(),
}
"""Asked by the tests, too."""
PROBLEMS: dict[str, Problem] = SMALL | {
    "Ingestion": Ingestion(),
    "TiledPrediction": TiledPrediction(),
    "Peers": Peers(),
    "TwoWorkers": TwoWorkers(),
    "EmptyTasks": EmptyTasks(),
    "PixelSeries": PixelSeries(),
}
