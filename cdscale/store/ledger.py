"""The ledger of receipts: what is done, what failed and why, in one small file a task."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cdscale.errors import SpecError
from cdscale.spec.base import Frozen
from cdscale.spec.task import Receipt, Stage, Task
from cdscale.store.places import Place


class Ledger:
    """The receipts of a run: one small file a task, under ``STAGE/MONTH/TILE.json``.

    A task that failed leaves its reason in the same place, as ``TILE.failed``, until it is done.

    Parameters
    ----------
    folder : Path
        Where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, receipt: Receipt) -> None:
        """Keep a receipt, replacing an older one of the same task and the reason of a failure."""
        write_json(self.folder / f"{receipt.task}.json", receipt)
        (self.folder / f"{receipt.task}.failed").unlink(missing_ok=True)

    def void(self, task: Task) -> None:
        """Let the receipt of a task hold no longer: its shards are about to be written again.

        Whoever is killed in between leaves shards of which no receipt tells, whatever spec or
        scenes the next run has. What the receipt says of missing scenes stays.
        """
        receipt = self.read(task)
        if receipt is not None:
            path = self.folder / f"{task}.json"
            write_json(path, receipt.model_copy(update={"fingerprint": ""}))
            flush(path)

    def forget(self, stage: Stage) -> None:
        """Drop the receipts of a stage: what they tell of is gone."""
        shutil.rmtree(self.folder / str(stage), ignore_errors=True)

    def drop(self, tasks: Iterable[Task]) -> None:
        """Drop the receipts of tasks that are to be done again."""
        for task in tasks:
            (self.folder / f"{task}.json").unlink(missing_ok=True)

    def fail(self, task: Task, reason: str) -> None:
        """Keep the reason why a task failed."""
        write_text(self.folder / f"{task}.failed", reason)

    def failure(self, task: Task) -> str:
        """Why a task failed when it was last tried; empty where it did not."""
        try:
            return (self.folder / f"{task}.failed").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def tasks(self, stage: Stage) -> Iterator[Task]:
        """Tasks of a stage that have a receipt, whether it reads or not."""
        for path in sorted((self.folder / str(stage)).glob("*/*.json")):
            try:
                task = Task.parse(f"{stage}/{path.parent.name}/{path.stem}")
            except SpecError:
                continue  # somebody's notes
            yield task

    def read(self, task: Task) -> Receipt | None:
        """The receipt of a task; None where there is none, or a damaged one."""
        return read_receipt(self.folder, task)


def read_receipt(folder: Place, task: Task) -> Receipt | None:
    """The receipt of a task, from receipts on a disk or in a bucket; None as above."""
    try:
        text = (folder / f"{task}.json").read_text(encoding="utf-8")
        return Receipt.model_validate_json(text)
    except (OSError, ValueError):
        return None


def flush(file: Path) -> None:
    """Have the disk keep a file, and its name in its folder, before anything that builds on it.

    Where there is no file, the disk keeps that.
    """
    for path in (file, file.parent):
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, value: Frozen | dict[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, also after a power cut."""
    text = (
        value.model_dump_json(indent=1)
        if isinstance(value, Frozen)
        else json.dumps(value, indent=1, sort_keys=True)
    )
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old one or the new one, whatever happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two lanes of one process may be sent the same task.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
