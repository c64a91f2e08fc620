"""``Place``: a cluster in use, as the run sees it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from distributed import Client

from cdscale.cluster.gpus import Gpu, own_gpu, refuse_shared

GPU = {"GPU": 1.0}
"""What a task that needs a GPU asks for, on a cluster that has them. A worker has as many of these
as it has lanes: its tasks take turns on the one GPU."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A cluster in use."""

    client: Client
    gpu: bool
    """Whether tasks with a network must ask for a GPU."""
    _gpus: dict[str, Gpu] = field(default_factory=dict)
    """GPUs of the workers that have been asked, by address."""

    @property
    def slots(self) -> int:
        """Tasks that can run at once: threads of all workers.

        Workers on GPUs that have come since are asked which ones theirs are.

        Raises
        ------
        PlanError
            When two have the same.
        """
        threads = self.client.nthreads()
        if self.gpu and not threads.keys() <= self._gpus.keys():
            self.tell_gpus_apart()
        return max(1, int(sum(threads.values())))

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
