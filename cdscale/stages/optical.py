"""The optical side of ``compose``: passes over a tile, and the composite of a month."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cdscale import kernels
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
    source_YX: NDArray[np.unsignedinteger]
    """Which of the scenes shows the pixel."""
    failed_YX: Bool
    """Where a scene could not be read that may have shown the pixel, though another one of the pass
    may show it now; or that may have had cloud so near that it grows over it."""

    @property
    def order(self) -> tuple[int, str, str]:
        """The clearest first."""
        clear = int(optical.is_clear(self.look_YX).sum())
        return (-clear, self.scenes[0].start.isoformat(), self.scenes[0].id)

    @property
    def bounds(self) -> tuple[int, int]:
        """How many clear pixels it has at least and at most, whatever could not be read."""
        clear_YX = optical.is_clear(self.look_YX)
        sure, perhaps = clear_YX & ~self.failed_YX, clear_YX | self.failed_YX
        return int(sure.sum()), int(perhaps.sum())

    def day_YX(self, rows: slice) -> UInt16:
        """Days since 1970 of some rows: a pass may last over midnight."""
        days = np.array([day_of(scene) for scene in self.scenes], np.uint16)
        return np.asarray(days[self.source_YX[rows]])


def day_of(scene: Scene) -> int:
    """Days since 1970."""
    return (scene.start.date() - date(1970, 1, 1)).days


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
        np.zeros(wide.shape, np.min_scalar_type(len(group))),
        np.zeros(wide.shape, bool),
    )
    for i, scene in enumerate(view.scenes):
        _look(work, view, i, scene, wide)
    free_YX = (view.look_YX != Look.unseen) & (view.look_YX != Look.cloud)
    view.failed_YX |= free_YX & kernels.grown(view.failed_YX, margin)
    optical.dilate_cloud(view.look_YX, margin)
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
        block = _block(work, scene, window.of(geobox), view.look_YX[window])
        pieces.append(Piece(window, here_YX[window], scene, block))
    return pieces


def _block(work: Work, scene: Scene, geobox: GeoBox, look_YX: UInt8) -> Float | None:
    """Reflectance of a scene; None where it cannot be read, or is not to be believed."""
    if scene.id in work.refused:
        return None
    names = work.job.spec.cube.s2_bands
    block_BYX = work.attempt(scene, partial(work.reader.bands, scene, names, geobox))
    if block_BYX is None:
        return None
    if not _offset_fits(work, scene, block_BYX, look_YX):
        work.refused.add(scene.id)
        return None
    work.taken.add(scene.id)
    return block_BYX


def _offset_fits(work: Work, scene: Scene, block_BYX: Float, look_YX: UInt8) -> bool:
    """Whether dark objects are dark: an offset left in or taken off twice shows on them."""
    names = work.job.spec.cube.s2_bands
    chosen = [names.index(band) for band in optical.DARK_BANDS if band in names]
    dark_YX = look_YX == Look.dark
    if not chosen or not dark_YX.any():
        return True
    # With those of the strips before: one by itself may have too few of them.
    dark_BN = block_BYX[chosen][:, dark_YX]
    if scene.id in work.dark:
        dark_BN = np.concatenate([work.dark.pop(scene.id), dark_BN], axis=1)
    level = optical.dark_level(dark_BN)
    if level is None:
        work.dark[scene.id] = dark_BN[:, np.isfinite(dark_BN).all(axis=0)]
        return True
    if optical.DARK_LOW <= level <= optical.DARK_HIGH:
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


def composite(work: Work, views: list[View], geobox: GeoBox, lanes: int) -> Composite:
    """The composite of a month, by the method that the spec names."""
    method = least_cloudy if work.job.spec.cube.s2 == "least_cloudy" else of_all
    while True:
        work.taken.clear()
        work.dark.clear()
        made = method(work, views, geobox, lanes)
        if not work.refused & work.taken:
            return made
        # A scene was taken in one part of the tile before another part told that it must not be.
        del made


def least_cloudy(work: Work, views: list[View], geobox: GeoBox, lanes: int) -> Composite:
    """The clearest pass first, holes filled from the next clearest.

    From the masks alone follows which pixel comes from which pass, so that all can be read side
    by side. A pixel that then has no value goes to the next pass, in another round.
    """
    made = Composite.empty(len(work.job.spec.cube.s2_bands), geobox)
    ranked = sorted(views, key=lambda view: view.order)
    left = [optical.is_clear(view.look_YX) for view in ranked]
    empty_YX = np.ones(geobox.shape, bool)
    bounds = [view.bounds for view in ranked]
    while True:
        asked, open_YX = [], empty_YX.copy()
        for n, (view, clear_YX) in enumerate(zip(ranked, left, strict=True)):
            wanted_YX = clear_YX & open_YX
            if wanted_YX.any():
                asked.append((view, wanted_YX))
                clear_YX &= ~wanted_YX
                open_YX &= ~wanted_YX
                for m in _rivals(bounds, n):
                    made.failed_YX |= wanted_YX & left[m]
        if not asked:
            break
        for _, pieces in _pieces(work, asked, geobox, lanes):
            for piece in pieces:
                _place(made, piece, empty_YX)
    for view in views:
        made.failed_YX |= view.failed_YX
    return made


def _rivals(bounds: list[tuple[int, int]], n: int) -> list[int]:
    """Passes after one in the ranking that might come before it, had all of both been read."""
    least, most = bounds[n]
    after = [(m, *bounds[m]) for m in range(n + 1, len(bounds))]
    return [m for m, low, high in after if high >= least and (least < most or low < high)]


def _place(made: Composite, piece: Piece, empty_YX: Bool) -> None:
    window, wanted_YX = piece.window, piece.wanted_YX
    if piece.block_BYX is None:
        made.failed_YX[window] |= wanted_YX
        return
    saturated_YX = optical.drop_saturated(piece.block_BYX)
    made.saturated_YX[window] |= saturated_YX & wanted_YX
    filled_YX = optical.fill(made.values_BYX[:, *window], piece.block_BYX, wanted_YX)
    made.day_YX[window][filled_YX] = day_of(piece.scene)
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
    if work.job.spec.cube.s2 == "median":
        # Each band by itself: an observation counts although it lacks one of them.
        used_SYX: Bool = np.any(np.isfinite(stack_SBYX), axis=1)
        made.values_BYX[:, rows] = optical.median(stack_SBYX)
        used_SYX &= np.isfinite(made.values_BYX[0, rows])
        day_SYX = np.full(used_SYX.shape, NO_DAY, np.uint16)
        for s, (view, _) in enumerate(asked):
            np.copyto(day_SYX[s], view.day_YX(rows), where=used_SYX[s])
        made.day_YX[rows] = optical.middle_day(day_SYX, NO_DAY)
    else:
        chosen_YX = optical.medoid(stack_SBYX)
        index = np.maximum(chosen_YX, 0)
        made.values_BYX[:, rows] = np.take_along_axis(stack_SBYX, index[None, None], 0)[0]
        made.values_BYX[:, rows][:, chosen_YX < 0] = np.nan
        used_SYX = chosen_YX == np.arange(len(asked))[:, None, None]
        for (view, _), used_YX in zip(asked, used_SYX, strict=True):
            np.copyto(made.day_YX[rows], view.day_YX(rows), where=used_YX)
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
