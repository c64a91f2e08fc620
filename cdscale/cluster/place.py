"""``Place``: a cluster in use, as the run sees it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from distributed import Client

from cdscale.cluster.gpus import Gpu, own_gpu, refuse_shared
from cdscale.errors import PlanError, explain

GPU = {"GPU": 1.0}
"""What a task that needs a GPU asks for, on a cluster that has them. A worker has as many of these
as it has lanes: its tasks take turns on the one GPU."""
ANSWER_SECONDS = 300.0
"""How long a scheduler may take to answer. It may be busy for a while, with thousands of workers or
on a machine that has other work; one that has stopped keeps its connections and never answers."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A cluster in use."""

    client: Client
    gpu: bool
    """Whether tasks with a network must ask for a GPU."""
    wait: float = 600.0
    """Seconds that a run waits while there is no worker for its tasks."""
    _gpus: dict[str, Gpu] = field(default_factory=dict)
    """GPUs of the workers that have been asked, by address."""

    def ask(self, question: Callable[[], Any], seconds: float = ANSWER_SECONDS) -> Any:
        """What a method of the client says, if it says it in time.

        Raises
        ------
        TimeoutError
            When it does not.
        """

        async def asked() -> Any:
            answer: Awaitable[Any] = question()  # within the client's own loop
            return await answer

        return self.client.sync(asked, callback_timeout=seconds)

    def threads(self) -> dict[str, int]:
        """Tasks that can run at once: threads of each worker, by its address.

        Workers on GPUs that have come since are asked which ones theirs are.

        Raises
        ------
        PlanError
            When two have the same.
        TimeoutError
            When the scheduler does not answer.
        """
        threads: dict[str, int] = dict(self.ask(self.client.nthreads))
        if self.gpu and not threads.keys() <= self._gpus.keys():
            self.tell_gpus_apart()
        return threads

    @property
    def slots(self) -> int:
        """Tasks that can run at once, on all workers together; 1 where nobody is there yet."""
        return max(1, sum(self.threads().values()))

    def with_gpu(self, workers: Iterable[str]) -> set[str]:
        """Those of some workers that have a GPU."""
        return self._gpus.keys() & set(workers)

    def tell_gpus_apart(self) -> None:
        """Ask workers on GPUs which ones theirs are, each once.

        Raises
        ------
        PlanError
            When two have the same.
        """
        there = self.client.scheduler_info(n_workers=-1)["workers"]
        for gone in self._gpus.keys() - there.keys():
            del self._gpus[gone]
        asked = [
            address
            for address, worker in there.items()
            if address not in self._gpus and worker.get("resources", {}).get("GPU")
        ]
        if not asked:
            return
        answers = self.client.run(own_gpu, workers=asked, on_error="ignore")
        self._gpus.update(answers)
        refuse_shared(self._gpus)
        unknown = sum(not gpu.uuid for gpu in answers.values())
        if unknown:
            _log.warning("%d workers cannot tell which GPU is theirs: no nvidia-smi", unknown)

    @property
    def dashboard(self) -> str:
        """Address of the dashboard as the scheduler names it, even one that serves none."""
        return str(self.client.dashboard_link or "")


def gone(said: str) -> PlanError:
    """The error for a cluster that is lost, with all that was in flight."""
    return PlanError(
        explain(
            "the cluster does not answer any more",
            got=said,
            do="What is done is kept: start the cluster again, and run again.",
        )
    )
