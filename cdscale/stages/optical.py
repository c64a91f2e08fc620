"""The optical side of ``compose``: passes over a tile, and the composite of a month."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import NamedTuple

import numpy as np

from cdscale.errors import explain
from cdscale.grid import GeoBox
from cdscale.kernels import Bool, Float, UInt8, UInt16, optical
from cdscale.kernels.optical import Look
from cdscale.spec.scene import Scene, passes
from cdscale.stages.sight import Window, reach
from cdscale.stages.work import Work

NO_DAY = 65535
"""In place of a day where no pixel was seen."""


@dataclass
class View:
    """What one pass shows of a tile."""

    scenes: tuple[Scene, ...]
    look_YX: UInt8
    """Codes of :class:`Look`."""
    source_YX: UInt8
    """Which of the scenes shows the pixel."""
    failed_YX: Bool
    """Where a scene could not be read that may have shown the pixel, and no other one does."""

    @property
    def order(self) -> tuple[int, str, str]:
        """The clearest first."""
        clear = int(optical.is_clear(self.look_YX).sum())
        return (-clear, self.scenes[0].start.isoformat(), self.scenes[0].id)

    @property
    def day(self) -> int:
        """Days since 1970."""
        return (self.scenes[0].start.date() - date(1970, 1, 1)).days


class Piece(NamedTuple):
    """What one scene of a pass gave of the wanted pixels."""

    window: Window
    wanted_YX: Bool
    """Within the window."""
    scene: Scene
    block_BYX: Float | None
    """Reflectance in the window; None where it could not be read."""


@dataclass
class Composite:
    """The month, as far as it has come."""

    values_BYX: Float
    day_YX: UInt16
    failed_YX: Bool
    """Where a scene that would or might have decided the pixel could not be read."""
    saturated_YX: Bool
    used: set[str] = field(default_factory=set)

    @classmethod
    def empty(cls, bands: int, geobox: GeoBox) -> Composite:
        """Nothing yet."""
        shape = geobox.shape
        return cls(
            np.full((bands, *shape), np.nan, np.float32),
            np.full(shape, NO_DAY, np.uint16),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
        )


# ------------------------------------------------------------------------------------------- look


def observe(work: Work, scenes: list[Scene], geobox: GeoBox, lanes: int) -> list[View]:
    """What each pass shows of a tile; its granules are fused, and read where they are needed."""
    groups = passes(scenes)
    return list(work.side_by_side(partial(_observe, work, geobox), groups, lanes))


def _observe(work: Work, geobox: GeoBox, group: tuple[Scene, ...]) -> View:
    # Cloud grows by the same pixels however the ground is cut into tiles.
    margin = max(scene.mask_dilate_px for scene in group)
    wide = geobox.pad(margin) if margin else geobox
    view = View(
        # By id, not by what they show of this tile: its neighbour has to take the same one.
        tuple(sorted(group, key=lambda scene: scene.id)),
        np.full(wide.shape, Look.unseen, np.uint8),
        np.zeros(wide.shape, np.uint8),
        np.zeros(wide.shape, bool),
    )
    for i, scene in enumerate(view.scenes):
        _look(work, view, i, scene, wide)
    optical.dilate_cloud(view.look_YX, margin)
    view.failed_YX &= view.look_YX == Look.unseen
    if margin:
        inner = np.s_[margin:-margin, margin:-margin]
        view.look_YX = view.look_YX[inner].copy()
        view.source_YX, view.failed_YX = view.source_YX[inner].copy(), view.failed_YX[inner].copy()
    return view


def _look(work: Work, view: View, i: int, scene: Scene, geobox: GeoBox) -> None:
    """Take in one granule of a pass, where none before it shows the ground."""
    wanted_YX = view.look_YX == Look.unseen
    if len(view.scenes) > 1:
        wanted_YX &= reach(scene, geobox)
    window = Window.around(wanted_YX)
    if window is None:
        work.unused[scene.id] = "others of the same pass show all that it shows here"
        return
    codes_YX = work.attempt(scene, partial(_codes, work, scene, window.of(geobox)))
    if codes_YX is None:
        view.failed_YX |= wanted_YX & reach(scene, geobox)
        return
    new_YX = wanted_YX[window] & (codes_YX != Look.unseen)
    view.look_YX[window][new_YX] = codes_YX[new_YX]
    view.source_YX[window][new_YX] = i


def _codes(work: Work, scene: Scene, geobox: GeoBox) -> UInt8:
    if scene.mask is None:
        first = next(iter(scene.assets))
        seen_YX = np.isfinite(work.reader.bands(scene, (first,), geobox)[0])
        return np.where(seen_YX, np.uint8(Look.clear), np.uint8(Look.unseen))
    look_YX = optical.look_of(
        work.reader.mask(scene, geobox),
        nodata=scene.mask_nodata,
        clear=scene.mask_clear,
        saturated=scene.mask_saturated,
        dark=scene.mask_dark,
    )
    limit = work.job.spec.cube.cloud_probability
    if limit is not None and scene.cloud is not None:
        percent_YX = work.reader.cloud(scene, geobox)
        optical.add_cloud(look_YX, (percent_YX >= limit) & (percent_YX <= 100))
    return look_YX


# ------------------------------------------------------------------------------------------- read


def _read(work: Work, geobox: GeoBox, asked: tuple[View, Bool]) -> list[Piece]:
    """The wanted pixels of a pass, from the scenes that show them, and no more of them."""
    view, wanted_YX = asked
    pieces = []
    for i, scene in enumerate(view.scenes):
        here_YX = wanted_YX if len(view.scenes) == 1 else wanted_YX & (view.source_YX == i)
        window = Window.around(here_YX)
        if window is None:
            continue
        names = work.job.spec.cube.s2_bands
        block = work.attempt(scene, partial(work.reader.bands, scene, names, window.of(geobox)))
        if block is not None and not _offset_fits(work, scene, block, view.look_YX[window]):
            block = None
        pieces.append(Piece(window, here_YX[window], scene, block))
    return pieces


def _offset_fits(work: Work, scene: Scene, block_BYX: Float, look_YX: UInt8) -> bool:
    """Whether dark objects are dark: an offset left in or taken off twice shows on them."""
    names = work.job.spec.cube.s2_bands
    chosen = [names.index(band) for band in optical.DARK_BANDS if band in names]
    dark_YX = look_YX == Look.dark
    if not chosen or not dark_YX.any():
        return True
    level = optical.dark_level(block_BYX[chosen][:, dark_YX])
    if level is None or optical.DARK_LOW <= level <= optical.DARK_HIGH:
        return True
    resolved = scene.assets[names[chosen[0]]].offset
    work.fail(
        scene,
        explain(
            f"scene {scene.id}: its pixels contradict its radiometric offset of {resolved:g}",
            expected=f"vegetation and water between {optical.DARK_LOW} and {optical.DARK_HIGH}",
            got=f"reflectance {level:.3f} in their darkest band",
            do="Mend the offset rules of the profile, or exclude the scene.",
        ),
        may_pass=False,
    )
    return False


def _pieces(
    work: Work, asked: list[tuple[View, Bool]], geobox: GeoBox, lanes: int
) -> Iterator[tuple[View, list[Piece]]]:
    results = work.side_by_side(partial(_read, work, geobox), asked, lanes)
    for (view, _), pieces in zip(asked, results, strict=True):
        yield view, pieces


# ---------------------------------------------------------------------------------------- compose


def least_cloudy(work: Work, views: list[View], geobox: GeoBox, lanes: int) -> Composite:
    """The clearest pass first, holes filled from the next clearest.

    From the masks alone follows which pixel comes from which pass, so that all can be read side
    by side. A pixel that then has no value goes to the next pass, in another round.
    """
    made = Composite.empty(len(work.job.spec.cube.s2_bands), geobox)
    ranked = sorted(views, key=lambda view: view.order)
    left = [optical.is_clear(view.look_YX) for view in ranked]
    empty_YX = np.ones(geobox.shape, bool)
    while True:
        asked, open_YX = [], empty_YX.copy()
        for view, clear_YX in zip(ranked, left, strict=True):
            wanted_YX = clear_YX & open_YX
            if wanted_YX.any():
                asked.append((view, wanted_YX))
                clear_YX &= ~wanted_YX
                open_YX &= ~wanted_YX
        if not asked:
            break
        for view, pieces in _pieces(work, asked, geobox, lanes):
            for piece in pieces:
                _place(made, view, piece, empty_YX)
    for view in views:
        made.failed_YX |= view.failed_YX
    return made


def _place(made: Composite, view: View, piece: Piece, empty_YX: Bool) -> None:
    window, wanted_YX = piece.window, piece.wanted_YX
    if piece.block_BYX is None:
        made.failed_YX[window] |= wanted_YX
        return
    saturated_YX = optical.drop_saturated(piece.block_BYX)
    made.saturated_YX[window] |= saturated_YX & wanted_YX
    filled_YX = optical.fill(made.values_BYX[:, *window], piece.block_BYX, wanted_YX)
    made.day_YX[window][filled_YX] = view.day
    empty_YX[window] &= ~filled_YX
    if filled_YX.any():
        made.used.add(piece.scene.id)


def of_all(work: Work, views: list[View], geobox: GeoBox, lanes: int) -> Composite:
    """Median or medoid of the clear observations, a strip of rows after the other."""
    made = Composite.empty(len(work.job.spec.cube.s2_bands), geobox)
    ordered = sorted(views, key=lambda view: (view.scenes[0].start, view.scenes[0].id))
    rows = work.job.strip_rows(len(ordered))
    for top in range(0, geobox.shape[0], rows):
        _strip(work, ordered, made, geobox, (slice(top, top + rows), lanes))
    for view in views:
        made.failed_YX |= view.failed_YX
    return made


def _strip(
    work: Work, views: list[View], made: Composite, geobox: GeoBox, how: tuple[slice, int]
) -> None:
    rows, lanes = how
    asked = []
    for view in views:
        wanted_YX = np.zeros(geobox.shape, bool)
        wanted_YX[rows] = optical.is_clear(view.look_YX[rows])
        if wanted_YX.any():
            asked.append((view, wanted_YX))
    if not asked:
        return
    shape_YX = made.day_YX[rows].shape
    stack_SBYX = np.full((len(asked), len(made.values_BYX), *shape_YX), np.nan, np.float32)
    for s, (_, pieces) in enumerate(_pieces(work, asked, geobox, lanes)):
        for piece in pieces:
            _stack(made, stack_SBYX[s], piece, rows.start)
    finite_SYX: Bool = np.all(np.isfinite(stack_SBYX), axis=1)
    days = np.array([view.day for view, _ in asked], np.uint16)
    if work.job.spec.cube.s2 == "median":
        made.values_BYX[:, rows] = optical.median(stack_SBYX)
        day_SYX = np.where(finite_SYX, days[:, None, None], np.uint16(NO_DAY))
        made.day_YX[rows] = optical.middle_day(day_SYX, NO_DAY)
        used_SYX = finite_SYX
    else:
        chosen_YX = optical.medoid(stack_SBYX)
        index = np.maximum(chosen_YX, 0)
        made.values_BYX[:, rows] = np.take_along_axis(stack_SBYX, index[None, None], 0)[0]
        made.values_BYX[:, rows][:, chosen_YX < 0] = np.nan
        made.day_YX[rows] = np.where(chosen_YX < 0, NO_DAY, days[index])
        used_SYX = chosen_YX == np.arange(len(asked))[:, None, None]
    for (view, wanted_YX), used_YX in zip(asked, used_SYX, strict=True):
        sources = view.source_YX[rows][used_YX & wanted_YX[rows]]
        made.used.update(view.scenes[i].id for i in np.unique(sources))


def _stack(made: Composite, layer_BYX: Float, piece: Piece, top: int) -> None:
    window, wanted_YX = piece.window, piece.wanted_YX
    if piece.block_BYX is None:
        made.failed_YX[window] |= wanted_YX
        return
    saturated_YX = optical.drop_saturated(piece.block_BYX)
    made.saturated_YX[window] |= saturated_YX & wanted_YX
    here = Window(slice(window.rows.start - top, window.rows.stop - top), window.columns)
    np.copyto(layer_BYX[:, *here], piece.block_BYX, where=wanted_YX)
