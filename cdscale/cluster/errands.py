"""Calls on workers for work whose result lies on disk: a bounded number in flight.

For steps that are many, alike, and idempotent, and that need neither receipts nor a plan. Nothing
comes back from a worker but that it is done, so that neither the scheduler nor the driver remembers
more than what is in flight.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from distributed import CancelledError, Future, KilledWorker

from cdscale.cluster.place import ANSWER_SECONDS, Place, gone
from cdscale.cluster.slots import Slots

WINDOW = 2
"""Calls in flight for each slot of the cluster."""
LOOK_SECONDS = 0.5
"""How often the cluster is looked at while nothing comes back."""

Item = TypeVar("Item")

_log = logging.getLogger(__name__)


def each(
    place: Place,
    function: Callable[[Item], None],
    items: Sequence[Item],
    held: Callable[[str], None] = _log.warning,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Call a function with each of several values on the workers of a cluster; wait for all.

    A call under which workers died several times is made here instead.

    Parameters
    ----------
    place : Place
        The cluster.
    function : callable
        What to do; idempotent, for a call may be made more than once.
    items : sequence
        A value for each call.
    held : callable
        Is told when there is no worker to make the calls.
    done : callable
        Is called after each call that is made.

    Raises
    ------
    PlanError
        When the cluster is gone, or has had no worker for as long as the spec lets a run wait.
    Exception
        What a call raised; the others are called off.
    """
    waiting, flying = iter(items), dict[Future[None], Item]()
    arrived: queue.SimpleQueue[Future[None]] = queue.SimpleQueue()
    slots = Slots(place, held)
    try:
        while True:
            with _answers():
                room = WINDOW * slots.now(lambda: False) - len(flying)
                flying |= _send(place, function, list(islice(waiting, max(0, room))), arrived)
            if not flying:
                return
            try:
                future = arrived.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if place.client.status not in {"running", "connecting"}:
                    raise gone(f"a client that is {place.client.status}") from None
                continue
            if future.status == "pending":  # its worker died just then: it is made again
                future.add_done_callback(arrived.put)
                continue
            _settle(future, function, flying.pop(future))
            done()
    except BaseException:
        place.client.cancel(list(flying), force=True)
        raise


def _send(
    place: Place,
    function: Callable[[Item], None],
    items: list[Item],
    arrived: queue.SimpleQueue[Future[None]],
) -> dict[Future[None], Item]:
    if not items:
        return {}
    futures = place.client.map(function, items, pure=False, retries=0)
    for future in futures:
        future.add_done_callback(arrived.put)
    return dict(zip(futures, items, strict=True))


def _settle(future: Future[None], function: Callable[[Item], None], item: Item) -> None:
    if future.status == "finished":
        return
    error = future.exception(timeout=ANSWER_SECONDS) if future.status == "error" else None
    if error is None:
        raise gone(f"a call that is {future.status}")
    if not isinstance(error, KilledWorker):
        raise error
    function(item)


@contextmanager
def _answers() -> Iterator[None]:
    """An error of the connection tells that the cluster is gone; those of calls come later."""
    try:
        yield
    except (CancelledError, OSError) as err:
        raise gone(" ".join(str(err).split())[:200] or type(err).__name__) from None
