"""The fakes that ship: made-up scenes, readers without files, catalogues, servers that fail."""

from cdscale.testing.damage import DAMAGES, damage
from cdscale.testing.fakes import (
    EVERYWHERE,
    SCL_CLEAR,
    SCL_CLOUD,
    SCL_NODATA,
    FailingReader,
    FakeReader,
    MadeItem,
    ScenePixels,
    make_asset,
    make_scene,
    write_catalogue,
    write_cog,
    write_item_collection,
)
from cdscale.testing.served import write_served
from cdscale.testing.server import Behaviour, Fault, FaultServer, Request, mixed_faults

__all__ = [
    "DAMAGES",
    "EVERYWHERE",
    "SCL_CLEAR",
    "SCL_CLOUD",
    "SCL_NODATA",
    "Behaviour",
    "FailingReader",
    "FakeReader",
    "Fault",
    "FaultServer",
    "MadeItem",
    "Request",
    "ScenePixels",
    "damage",
    "make_asset",
    "make_scene",
    "mixed_faults",
    "write_catalogue",
    "write_cog",
    "write_item_collection",
    "write_served",
]
