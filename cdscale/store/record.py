"""The record of a run: its spec and cards in ``job.json``, its scenes in one file a month.

A run over a continent has a hundred thousand scenes, a worker needs those of one month. The files
of the months are named by what they hold, and ``job.json``, written last, names them: whoever is
killed in between leaves the old record whole. Records of older releases, with all scenes in
``job.json``, are read as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from cdscale.errors import StoreError, explain
from cdscale.months import Month
from cdscale.spec.base import Frozen
from cdscale.spec.card import ModelCard
from cdscale.spec.job import Job
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import Scene, SceneTable, SetAside, TableByMonth
from cdscale.store.ledger import write_text
from cdscale.store.places import Place

JOB = "job.json"
SCENES = "scenes"
OTHER = "other"
"""Part of a table with the scenes that serve no month of the period."""


class _Part(Frozen):
    """Some scenes of a table."""

    places: tuple[int, ...]
    """Of each its place in the table: fingerprints depend on the order."""
    scenes: tuple[Scene, ...]


class _Aside(Frozen):
    items: tuple[SetAside, ...]


class _Contents(Frozen):
    """What ``job.json`` says of the scenes."""

    search: str
    simulated: bool
    parts: dict[str, str]
    """File of each month."""
    set_aside: str
    """File of what was set aside."""


class _Record(Frozen):
    spec: RunSpec
    scenes: _Contents | SceneTable
    cards: dict[str, ModelCard]


def keep_job(job: Job) -> None:
    """Write the record of a run into its folder; nothing is written that is there already.

    Raises
    ------
    OSError
        When the folder cannot be written.
    """
    folder, job = job.spec.folder / "run", job.public
    parts = {name: _keep_part(folder, name, part) for name, part in _parts(job)}
    aside = _keep_part(folder, "aside", _Aside(items=job.scenes.set_aside))
    contents = _Contents(
        search=job.scenes.search, simulated=job.scenes.simulated, parts=parts, set_aside=aside
    )
    text = _Record(spec=job.spec, scenes=contents, cards=job.cards).model_dump_json(indent=1)
    _write(folder / JOB, text)
    named = {*parts.values(), aside}
    for path in (folder / SCENES).glob("*.json"):
        if path.name not in named:
            path.unlink()


def read_job(folder: Place) -> Job:
    """The job that a run's folder holds, with all of its scenes.

    Parameters
    ----------
    folder : Place
        ``run`` in the output folder.

    Raises
    ------
    OSError
        When there is none, or it may not be read.
    ValueError
        When it does not read.
    StoreError
        When a file of it is not what it was.
    """
    record = _read_record(folder)
    table = record.scenes
    if isinstance(table, _Contents):
        parts = [_Part.model_validate_json(_checked(folder, n)) for n in table.parts.values()]
        known = {i: s for part in parts for i, s in zip(part.places, part.scenes, strict=True)}
        aside = _Aside.model_validate_json(_checked(folder, table.set_aside)).items
        scenes = tuple(known[i] for i in sorted(known))
        table = SceneTable(
            search=table.search,
            scenes=scenes,
            set_aside=aside,
            window=record.spec.cube.window_months,
        )
    return Job(spec=record.spec, scenes=table, cards=record.cards)


def read_job_by_month(folder: Place) -> Job:
    """The same for who does tasks: the scenes of a month are read when one is first asked for.

    Raises
    ------
    OSError, ValueError
        As :func:`read_job`; its :class:`StoreError` comes from whoever asks for a month.
    """
    record = _read_record(folder)
    table = record.scenes
    if isinstance(table, _Contents):
        names = table.parts

        def read(month: Month) -> tuple[Scene, ...]:
            name = names.get(str(month))
            return () if name is None else _Part.model_validate_json(_checked(folder, name)).scenes

        table = TableByMonth.reading(
            table.search,
            read,
            simulated=table.simulated,
            window=record.spec.cube.window_months,
        )
    return Job(spec=record.spec, scenes=table, cards=record.cards)


def _read_record(folder: Place) -> _Record:
    return _Record.model_validate_json((folder / JOB).read_text(encoding="utf-8"))


def _parts(job: Job) -> Iterator[tuple[str, _Part]]:
    """A table cut into months; a scene that serves several is in each of them."""
    every, left = job.scenes.scenes, set(range(len(job.scenes.scenes)))
    for month in job.spec.period:
        here = [i for i, scene in enumerate(every) if scene.serves(month, job.scenes.window)]
        left.difference_update(here)
        yield str(month), _Part(places=tuple(here), scenes=tuple(every[i] for i in here))
    if left:
        rest = tuple(sorted(left))
        yield OTHER, _Part(places=rest, scenes=tuple(every[i] for i in rest))


def _keep_part(folder: Path, name: str, part: Frozen) -> str:
    """Write a part of a table under a name that says what it holds; that name."""
    text = part.model_dump_json()
    file = f"{name}-{_digest(text)}.json"
    _write(folder / SCENES / file, text)
    return file


def _write(path: Path, text: str) -> None:
    try:
        same = path.read_text(encoding="utf-8") == text + "\n"
    except (OSError, ValueError):
        same = False
    if not same:
        write_text(path, text)


def _checked(folder: Place, name: str) -> str:
    """Text of a part of a table.

    Raises
    ------
    StoreError
        When it is not there, or not what it was.
    """
    path = folder / SCENES / Path(name).name
    try:
        text = path.read_text(encoding="utf-8").removesuffix("\n")
        got = "other scenes"
    except (OSError, ValueError) as err:
        text, got = "", str(getattr(err, "strerror", None) or "what does not read")
    if Path(name).stem.rpartition("-")[2] != _digest(text):
        raise StoreError(
            explain(
                f"the record of the run is damaged: {path}",
                expected="the scenes that its name stands for",
                got=got,
                do="Run again: the driver searches anew for what it cannot read.",
            )
        )
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
