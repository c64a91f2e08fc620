"""The report's pictures: maps of a view, the completeness of months, change by month.

Figures are made through matplotlib's objects, never ``pyplot``: no screen, no global state. Colours
are told apart by colour-blind readers, and what is missing never looks like a value.
Shapes: ``YX`` rows and columns, ``C`` colour channels, ``MK`` months and kinds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from cdscale.export.reading import View, days_since_1970
from cdscale.kernels import Bool, Float, UInt8
from cdscale.months import Month
from cdscale.spec.cube import ChangeState, SensorQuality

INK, QUIET = "#222222", "#6b6b6b"
BLUE, ORANGE, VERMILLION, PURPLE, GREY = "#0072b2", "#d98200", "#d55e00", "#8f3f97", "#5f5f5f"
NO_DATA = "#ffffff"
REASONS = {
    SensorQuality.cloud: ("cloud or shadow", "#c9bfe0"),
    SensorQuality.no_scene: ("no scene", "#e4e4e4"),
    SensorQuality.read_failed: ("scene not readable", "#f0b48a"),
    SensorQuality.outside: ("not processed", NO_DATA),
}
"""Why a pixel of a composite holds nothing, and how it is then drawn."""
STATES = {
    ChangeState.provisional: ("provisional", "#56b4e9"),
    ChangeState.confirmed: ("confirmed", ORANGE),
    ChangeState.high_confidence: ("high confidence", "#b2182b"),
    ChangeState.finished: ("finished", "#3b0f70"),
    ChangeState.reverted: ("reverted", "#009e73"),
    ChangeState.unobserved: ("never observed", NO_DATA),
    ChangeState.outside: ("not processed", NO_DATA),
}
"""How states of the series are drawn, and called."""
CLASSES = (VERMILLION, BLUE, PURPLE, "#009e73", ORANGE)
DPI, WIDTH = 200, 4.8


@dataclass(frozen=True)
class Map:
    """One picture of a view, as colours, and what its legend says."""

    title: str
    image_YXC: Float
    legend: tuple[tuple[str, str], ...] = ()
    """Label and colour."""
    scale: ScalarMappable | None = None
    scale_label: str = ""
    ticks: tuple[tuple[float, str], ...] = ()
    """Places and labels along the colour bar, where it is not a number that it shows."""


# --------------------------------------------------------------------------------- to colours


def stretch(composites: Sequence[Float]) -> list[Float]:
    """Reflectance (y, x, 3) of several dates to colours, by one stretch per band for all of them.

    From the 2nd to the 98th percentile of what all dates show; NaN stays NaN.
    """
    together = np.concatenate([image.reshape(-1, 3) for image in composites])
    seen = together[np.isfinite(together).all(axis=1)]
    low, high = np.percentile(seen, (2, 98), axis=0) if len(seen) else (np.zeros(3), np.ones(3))
    span = np.maximum(high - low, 1e-4)
    return [np.clip((image - low) / span, 0, 1).astype(np.float32) for image in composites]


def composite(title: str, colour_YXC: Float, quality_YX: UInt8) -> Map:
    """A composite, and why it is not there where it is not."""
    image_YXC = colour_YXC.copy()
    missing_YX = ~np.isfinite(colour_YXC).all(axis=-1)
    legend = []
    for code, (name, colour) in REASONS.items():
        here_YX = missing_YX & (quality_YX == code)
        if here_YX.any():
            image_YXC[here_YX] = to_rgb(colour)
            legend.append((name, colour))
    image_YXC[~np.isfinite(image_YXC)] = 1
    return Map(title, image_YXC, tuple(legend))


def dimmed(colour_YXC: Float) -> Float:
    """A composite as a pale grey ground for what is drawn over it."""
    grey_YX = np.nan_to_num(colour_YXC @ np.array([0.3, 0.59, 0.11]), nan=0.6)
    return np.repeat((0.5 + 0.42 * grey_YX)[..., None], 3, axis=-1).astype(np.float32)


def probability(title: str, values_YX: Float, label: str) -> Map:
    """A probability, 0 to 1; white where there is none."""
    scale = ScalarMappable(Normalize(0, 1), colormaps["viridis"])
    seen_YX = np.isfinite(values_YX)
    image_YXC = _coloured(scale, np.where(seen_YX, values_YX, 0))
    image_YXC[~seen_YX] = to_rgb(NO_DATA)
    return Map(title, image_YXC, _no_data(~seen_YX), scale, label)


def classes(title: str, ground_YXC: Float, codes_YX: UInt8, names: dict[int, str]) -> Map:
    """Classes of change over a dimmed composite; class 0 shows the ground, 255 is no data."""
    image_YXC = ground_YXC.copy()
    legend = []
    for i, (code, name) in enumerate(sorted(names.items())):
        if code == 0:
            continue
        colour = CLASSES[(i - 1) % len(CLASSES)]
        image_YXC[codes_YX == code] = to_rgb(colour)
        legend.append((_plain(name).replace("_", " "), colour))
    missing_YX = codes_YX == 255
    image_YXC[missing_YX] = to_rgb(NO_DATA)
    return Map(title, image_YXC, (*legend, *_no_data(missing_YX)))


def change_months(
    title: str,
    ground_YXC: Float,
    days_YX: NDArray[np.int32],
    done_YX: Bool,
    months: Sequence[Month],
    label: str = "month in which the pixel became built up",
) -> Map:
    """Month of change over a dimmed composite; white where it was not looked for."""
    days = [days_since_1970(month) for month in months]
    index_YX = np.searchsorted(days, days_YX)
    count = len(months)
    palette = ListedColormap(colormaps["plasma"](np.linspace(0, 0.9, count)))
    scale = ScalarMappable(BoundaryNorm(np.arange(count + 1) - 0.5, palette.N), palette)
    image_YXC = ground_YXC.copy()
    changed_YX = days_YX >= 0
    image_YXC[changed_YX] = _coloured(scale, index_YX[changed_YX])
    image_YXC[~done_YX] = to_rgb(NO_DATA)
    legend = () if done_YX.all() else (("not processed", NO_DATA),)
    every = range(0, count, max(1, -(-count // 5)))
    ticks = tuple((float(i), str(months[i])) for i in every)
    return Map(title, image_YXC, legend, scale, label, ticks)


def states(title: str, ground_YXC: Float, state_YX: UInt8) -> Map:
    """States of change over a dimmed composite."""
    image_YXC = ground_YXC.copy()
    legend = []
    for state, (name, colour) in STATES.items():
        here_YX = state_YX == state
        if here_YX.any():
            image_YXC[here_YX] = to_rgb(colour)
            legend.append((name, colour))
    return Map(title, image_YXC, tuple(legend))


def _coloured(scale: ScalarMappable, values: NDArray[Any]) -> Float:
    return np.asarray(scale.to_rgba(values))[..., :3].astype(np.float32)


def _no_data(missing_YX: Bool) -> tuple[tuple[str, str], ...]:
    return (("no data", NO_DATA),) if missing_YX.any() else ()


# ------------------------------------------------------------------------------------- figures


def draw_map(view: View, what: Map) -> bytes:
    """A map with ticks in kilometres, a scale bar, the outline of the area, and its legend."""
    rows, columns = view.shape
    width = min(WIDTH - 0.8, 7.0 * columns / rows)
    height = max(width * rows / columns, 0.4)
    below = 0.55 + (0.7 if what.scale else 0) + (0.3 if what.legend else 0)
    figure, axes = canvas((0.7, below, width, height), right=WIDTH - 0.7 - width, top=0.35)
    left, right, bottom, top = view.extent_km
    axes.imshow(what.image_YXC, extent=(left, right, bottom, top), interpolation="nearest")
    for ring in view.outlines_km:
        axes.plot(ring[:, 0], ring[:, 1], color="white", linewidth=1.6)
        axes.plot(ring[:, 0], ring[:, 1], color=INK, linewidth=0.7)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    if (what.image_YXC == to_rgb(NO_DATA)).all():
        axes.text(
            0.5, 0.5, "no data here", transform=axes.transAxes, ha="center", va="center",
            color=QUIET, fontsize=10,
        )  # fmt: skip
    _kilometres(axes)
    scale_bar(axes, view)
    axes.set_title(what.title, fontsize=11, color=INK, loc="left")
    if what.scale is not None:
        _colour_bar(figure, what.scale, what, bottom=1.0 if what.legend else 0.68)
    if what.legend:
        figure.legend(
            handles=[Patch(fc=c, ec=QUIET, lw=0.5, label=name) for name, c in what.legend],
            loc="lower left", bbox_to_anchor=(0.6 / WIDTH, 0.0), ncols=4, fontsize=9,
            frameon=False, labelcolor=QUIET,
        )  # fmt: skip
    return to_png(figure)


def canvas(
    place: tuple[float, float, float, float], *, right: float, top: float
) -> tuple[Figure, Axes]:
    """A figure with one set of axes; left, bottom, width, height and margins in inches."""
    left, bottom, width, height = place
    size = left + width + right, bottom + height + top
    figure = Figure(figsize=size, dpi=DPI)
    box = (left / size[0], bottom / size[1], width / size[0], height / size[1])
    return figure, figure.add_axes(box)


def _colour_bar(figure: Figure, scale: ScalarMappable, what: Map, *, bottom: float) -> None:
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((0.7 / wide, (bottom - 0.22) / high, 0.72, 0.1 / high))
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal")
    bar.set_label(what.scale_label, fontsize=9, color=QUIET, labelpad=1)
    axes.spines[:].set(edgecolor=QUIET, linewidth=0.5)
    axes.tick_params(labelsize=9, colors=QUIET, length=2)
    if what.ticks:
        bar.set_ticks([at for at, _ in what.ticks], labels=[text for _, text in what.ticks])
        bar.ax.minorticks_off()


def _kilometres(axes: Axes) -> None:
    for axis, name in ((axes.xaxis, "easting"), (axes.yaxis, "northing")):
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.6g}"))
        axis.set_label_text(f"{name}, km", fontsize=9, color=QUIET)
    axes.tick_params(labelsize=9, colors=QUIET, length=2)
    for spine in axes.spines.values():
        spine.set(color=QUIET, linewidth=0.5)


def scale_bar(axes: Axes, view: View) -> None:
    """A round length, low on the left."""
    left, right, bottom, top = view.extent_km
    width, height = right - left, top - bottom
    room = width / 3.5
    power = 10.0 ** np.floor(np.log10(room))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= room)
    x, y = left + 0.05 * width, bottom + 0.05 * height
    for colour, thick in (("white", 5.0), (INK, 2.0)):
        axes.plot([x, x + length], [y, y], color=colour, linewidth=thick, solid_capstyle="butt")
    text = f"{length:g} km" if length >= 1 else f"{length * 1000:g} m"
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0}
    axes.annotate(
        text, (x + length / 2, y), xytext=(0, 5), textcoords="offset points", fontsize=9,
        color=INK, bbox=box, ha="center", va="bottom",
    )  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A column of the completeness picture."""

    group: str
    name: str
    colour: str


def draw_completeness(
    months: Sequence[Month], kinds: Sequence[Kind], share_MK: Float, marked: set[Month]
) -> bytes:
    """Month by month, which share of the area each kind of pixel has."""
    count, width = len(months), 0.62 * len(kinds)
    row = min(0.28, 14 / count)
    figure, axes = canvas((0.75, 0.05, width, row * count), right=0.05, top=0.72)
    base = np.array([to_rgb(kind.colour) for kind in kinds])
    image_MKC = 1 - share_MK[..., None] ** 0.8 * (1 - base)
    axes.imshow(image_MKC, aspect="auto", interpolation="nearest")
    if row >= 0.12:
        _print_shares(axes, share_MK, size=8 if row > 0.2 else 6)
    axes.set_xticks(range(len(kinds)), [k.name.replace(" ", "\n") for k in kinds])
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.tick_params(length=0, labelsize=8, colors=INK)
    every = range(0, count, max(1, int(np.ceil(0.12 / row))))
    axes.set_yticks(list(every), [str(months[i]) for i in every])
    for i, label in zip(every, axes.get_yticklabels(), strict=True):
        if months[i] in marked:
            label.set(color=PURPLE, fontweight="bold")
    for i, kind in enumerate(kinds):
        if i == 0 or kinds[i - 1].group != kind.group:
            axes.axvline(i - 0.5, color=INK, linewidth=1.2)
            axes.annotate(
                kind.group, (i - 0.45, -0.5), xytext=(0, 29), textcoords="offset points",
                fontsize=9, fontweight="bold", color=INK, annotation_clip=False,
            )  # fmt: skip
    for spine in axes.spines.values():
        spine.set(color=QUIET, linewidth=0.5)
    return to_png(figure)


def _print_shares(axes: Axes, share_MK: Float, *, size: int) -> None:
    for (m, k), share in np.ndenumerate(share_MK):
        if np.isfinite(share) and share > 0:
            text = "<1" if share < 0.01 else ">99" if 0.99 < share < 1 else f"{100 * share:.0f}"
            colour = "white" if share > 0.6 else INK
            axes.text(k, m, text, ha="center", va="center", fontsize=size, color=colour)


def draw_months(
    km2: dict[Month, float], label: str, bars: dict[Month, tuple[float, float]] | None = None
) -> bytes:
    """Area by month, as columns; estimates of some months with half of their intervals."""
    months = list(km2)
    figure, axes = canvas((0.75, 0.35, WIDTH - 0.85, 1.6), right=0.1, top=0.15)
    axes.set_xlim(-0.6, max(len(months), 6) - 0.4)
    axes.bar(range(len(months)), list(km2.values()), color=BLUE, width=0.8)
    for month, (value, interval) in (bars or {}).items():
        axes.errorbar(
            months.index(month), value, interval, color=INK, marker="o", markersize=3, capsize=3
        )
    _month_axis(axes, months, label)
    return to_png(figure)


def draw_standing(months: Sequence[Month], counted: list[float], provisional: list[float]) -> bytes:
    """Area of change at the end of each month: what counts, and on top what may yet."""
    figure, axes = canvas((0.75, 0.35, WIDTH - 0.85, 1.6), right=0.1, top=0.3)
    at = range(len(months))
    axes.set_xlim(-0.6, max(len(months), 6) - 0.4)
    axes.bar(at, counted, color=BLUE, width=0.8, label="confirmed")
    axes.bar(
        at, provisional, bottom=counted, color="white", edgecolor=BLUE, hatch="////", width=0.8,
        linewidth=0.6, label="provisional",
    )  # fmt: skip
    axes.legend(
        frameon=False, fontsize=8, labelcolor=QUIET, ncols=2, loc="lower left",
        bbox_to_anchor=(-0.02, 0.98), borderaxespad=0,
    )  # fmt: skip
    _month_axis(axes, months, "km² at the month's end")
    return to_png(figure)


def _month_axis(axes: Axes, months: Sequence[Month], label: str) -> None:
    every = range(0, len(months), max(1, -(-len(months) // 6)))
    axes.set_xticks(list(every), [str(months[i]) for i in every])
    axes.set_ylabel(label, fontsize=8, color=QUIET)
    axes.tick_params(labelsize=8, colors=QUIET, length=2)
    axes.set_ylim(bottom=0)
    for name, spine in axes.spines.items():
        spine.set(color=QUIET, linewidth=0.5, visible=name in {"left", "bottom"})


def _plain(text: str) -> str:
    """Text that matplotlib prints as it stands: no formulas, no characters its font lacks."""
    known = "".join(c if c.isprintable() and ord(c) < 0x530 else "?" for c in text)
    return known.replace("$", r"\$")


def to_png(figure: Figure) -> bytes:
    """The same figure is always the same bytes."""
    target = io.BytesIO()
    figure.savefig(target, format="png", facecolor="white", metadata={"Software": None})
    return target.getvalue()
