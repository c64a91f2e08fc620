"""Calls on workers for work whose result lies on disk: a bounded number in flight.

For steps that are many, alike, and idempotent, and that need neither receipts nor a plan. Nothing
comes back from a worker but that it is done, so that neither the scheduler nor the driver remembers
more than what is in flight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

from distributed import Future, KilledWorker, as_completed

from cdscale.cluster.place import Place
from cdscale.errors import PlanError, explain

WINDOW = 2
"""Calls in flight for each slot of the cluster."""

Item = TypeVar("Item")


def each(place: Place, function: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Call a function with each of several values on the workers of a cluster; wait for all.

    A call under which workers died several times is made here instead.

    Raises
    ------
    PlanError
        When the cluster is gone.
    Exception
        What a call raised; the others are called off.
    """
    waiting, flying = iter(items), dict[Future[None], Item]()
    landing = as_completed(loop=place.client.loop)
    try:
        while True:
            sent = _send(place, function, list(islice(waiting, _room(place, len(flying)))))
            flying |= sent
            landing.update(sent)
            if not flying:
                return
            for future in landing.next_batch():
                _settle(future, function, flying.pop(future))
    except BaseException:
        place.client.cancel(list(flying), force=True)
        raise


def _room(place: Place, flying: int) -> int:
    return max(0, WINDOW * place.slots - flying)


def _send(
    place: Place, function: Callable[[Item], None], items: list[Item]
) -> dict[Future[None], Item]:
    if not items:
        return {}
    futures = place.client.map(function, items, pure=False, retries=0)
    return dict(zip(futures, items, strict=True))


def _settle(future: Future[None], function: Callable[[Item], None], item: Item) -> None:
    if future.status == "finished":
        return
    error = future.exception() if future.status == "error" else None
    if error is None:
        raise PlanError(
            explain(
                "the cluster does not answer any more",
                got=f"a call that is {future.status}",
                do="What is done is kept: start the cluster again, and run again.",
            )
        )
    if not isinstance(error, KilledWorker):
        raise error
    function(item)
