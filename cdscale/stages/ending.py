"""A process that has lost its GPU ends, so that another one takes its place.

After an illegal address or an ECC error every later call to CUDA fails in the same process, and a
worker that stays would fail one task after another.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cdscale.errors import BrokenDeviceError
from cdscale.spec.task import Task

STATUS = 70
"""Of a process that ended for this reason; EX_SOFTWARE of sysexits.h."""

log = logging.getLogger(__name__)


@contextmanager
def ended_without_gpu(task: Task) -> Iterator[None]:
    """End this process, if it is a worker that a nanny starts anew, when its GPU is lost.

    Raises
    ------
    BrokenDeviceError
        Anywhere else: a notebook is not ended.
    """
    try:
        yield
    except BrokenDeviceError as err:
        if not _has_nanny():
            raise
        log.critical("task %s: this worker ends: %s", task, err)
        logging.shutdown()
        os._exit(STATUS)


def _has_nanny() -> bool:
    # Not imported: a process in which nobody has imported Dask is no worker.
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        return bool(distributed.get_worker().nanny)
    except ValueError:
        return False
