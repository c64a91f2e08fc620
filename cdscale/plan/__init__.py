"""``RunSpec`` and receipts to the tasks still to do, with bytes, memory and seconds.

A plan is data: it can be printed, priced and refused before the first byte is read.
"""

from __future__ import annotations

from cdscale.plan.freezing import freeze
from cdscale.plan.memory import REMOTE_BYTES_PER_PIXEL, WORKER_BYTES, task_memory
from cdscale.plan.pricing import Plan, StagePlan, check, price

__all__ = [
    "REMOTE_BYTES_PER_PIXEL",
    "WORKER_BYTES",
    "Plan",
    "StagePlan",
    "check",
    "freeze",
    "price",
    "task_memory",
]
