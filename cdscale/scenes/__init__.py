"""STAC search to ``SceneTable``: harmonised, and without duplicates.

Every item that is not used comes with a reason. The only place that talks to a catalogue:
``catalogue`` finds items, ``items`` reads what one says, ``table`` makes the table of a run.
"""

from cdscale.scenes.assets import resolve_offset
from cdscale.scenes.items import harmonise
from cdscale.scenes.table import search, search_key

__all__ = ["harmonise", "resolve_offset", "search", "search_key"]
