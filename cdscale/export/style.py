"""How maps look in a GIS: colours of codes, which value is no data, what a band is called.

Colours are of Okabe and Ito's palette, which colour-blind people tell apart.
"""

from __future__ import annotations

from typing import NamedTuple
from xml.sax.saxutils import escape

from cdscale.spec.cube import Variable

Colour = tuple[int, int, int, int]
CLEAR: Colour = (0, 0, 0, 0)
GREY: Colour = (187, 187, 187, 255)
COLOURS: dict[str, Colour] = {
    "outside": CLEAR,
    "unknown": CLEAR,
    "none": (240, 240, 240, 255),
    "no_change": (240, 240, 240, 255),
    "unobserved": GREY,
    "no_data": GREY,
    "provisional": (240, 228, 66, 255),
    "confirmed": (230, 159, 0, 255),
    "high_confidence": (213, 94, 0, 255),
    "reverted": (86, 180, 233, 255),
    "finished": (0, 114, 178, 255),
    "change": (213, 94, 0, 255),
    "open_land": (0, 158, 115, 255),
    "built_up": (204, 121, 167, 255),
    "both_sensors": (0, 158, 115, 255),
    "optical_reconstructed": (86, 180, 233, 255),
    "radar_missing": (240, 228, 66, 255),
    "radar_only": (0, 114, 178, 255),
    "no_optical_before": GREY,
    "no_optical_after": (150, 150, 150, 255),
}
SPARE: tuple[Colour, ...] = ((0, 0, 0, 255), (204, 121, 167, 255), (0, 114, 178, 255), GREY)
"""Of codes that are not known here, in turn."""
NOWHERE = {"outside", "unknown"}
"""Codes of pixels of which a map says nothing."""


class Style(NamedTuple):
    """How one variable looks."""

    description: str
    units: str
    nodata: int | None
    scale: float | None
    categories: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()

    @property
    def band_xml(self) -> str:
        """What a VRT says of its band before it names sources."""
        parts = [f"<Description>{escape(self.description)}</Description>"]
        if self.nodata is not None:
            parts.append(f"<NoDataValue>{self.nodata}</NoDataValue>")
        if self.units:
            parts.append(f"<UnitType>{escape(self.units)}</UnitType>")
        if self.scale is not None:
            parts.append(f"<Offset>0</Offset><Scale>{self.scale}</Scale>")
        if self.colours:
            entries = "".join(
                f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in self.colours
            )
            names = "".join(f"<Category>{escape(n)}</Category>" for n in self.categories)
            parts.append("<ColorInterp>Palette</ColorInterp>")
            parts.append(f"<CategoryNames>{names}</CategoryNames>")
            parts.append(f"<ColorTable>{entries}</ColorTable>")
        else:
            parts.append("<ColorInterp>Gray</ColorInterp>")
        return "".join(parts)


def style_of(variable: Variable) -> Style:
    """How a variable looks in a GIS."""
    meanings = variable.meanings
    fill = int(variable.fill)
    coded = bool(meanings) and variable.dtype == "uint8"
    says_nothing = fill != 0 or meanings.get(fill, "") in NOWHERE
    return Style(
        description=str(variable.attrs.get("long_name", variable.name)),
        units=str(variable.attrs.get("units", "")),
        nodata=fill if says_nothing else None,
        scale=variable.scale,
        categories=_categories(meanings) if coded else (),
        colours=_colours(meanings) if coded else (),
    )


def _categories(meanings: dict[int, str]) -> tuple[str, ...]:
    return tuple(meanings.get(code, "").replace("_", " ") for code in range(max(meanings) + 1))


def _colours(meanings: dict[int, str]) -> tuple[Colour, ...]:
    """A colour for each code up to the last; what has no meaning is not seen."""
    spare = iter(SPARE * (1 + len(meanings) // len(SPARE)))
    known = {
        code: COLOURS[name] if name in COLOURS else next(spare) for code, name in meanings.items()
    }
    return tuple(known.get(code, CLEAR) for code in range(max(meanings) + 1))
