"""How many tasks a cluster can do at once, and for how long it has been able to do none.

Tasks stay with the scheduler while no worker is there: a cluster that grows with its work has to
see some. One that stays without workers would have the run wait for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from cdscale.cluster.place import Place
from cdscale.errors import PlanError, explain

LOOK_SECONDS = 5.0
"""How long what was seen is taken as it was: a cluster may grow and shrink meanwhile."""


class Slots:
    """The slots of a cluster as they were last seen.

    Parameters
    ----------
    place : Place
        The cluster.
    held : callable
        Is told, once, when there is nobody to do the tasks.
    """

    def __init__(self, place: Place, held: Callable[[str], None]) -> None:
        self._place, self._held = place, held
        self._known, self._until = 0, 0.0
        self._absent_since: float | None = None

    def now(self, on_gpu: Callable[[], bool]) -> int:
        """Tasks that can run at once; 1 where nobody is there yet.

        Parameters
        ----------
        on_gpu : callable
            Whether some of the tasks in flight can only be done by workers that have a GPU; asked
            when the cluster is looked at.

        Raises
        ------
        PlanError
            When there has been no worker for them for as long as the spec lets a run wait, or two
            workers have the same GPU.
        OSError
            When the scheduler does not answer.
        """
        now = time.monotonic()
        if now > self._until:
            threads = self._place.threads()
            self._known, self._until = sum(threads.values()), now + LOOK_SECONDS
            gpu = on_gpu()
            there = self._place.with_gpu(threads) if gpu else threads.keys()
            self._wait(now, "worker with a GPU" if gpu else "worker", absent=not there)
        return max(1, self._known)

    def _wait(self, now: float, whom: str, *, absent: bool) -> None:
        if not absent:
            self._absent_since = None
            return
        limit = self._place.wait
        if self._absent_since is None:
            self._absent_since = now
            self._held(f"the cluster has no {whom}: waiting {_said(limit)} for one")
        elif now - self._absent_since >= limit:
            raise PlanError(
                explain(
                    f"the cluster has had no {whom} for {_said(limit)}",
                    expected="workers that do the tasks of this run",
                    do="What is done is kept: start workers, and run again. How long a run waits "
                    "for them is workers.wait_minutes in the spec.",
                )
            )


def _said(seconds: float) -> str:
    return f"{seconds:.3g} seconds" if seconds < 120 else f"{seconds / 60:.3g} minutes"
