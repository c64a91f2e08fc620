"""The fakes that ship: made-up scenes, readers without files, small catalogues on disk."""

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

__all__ = [
    "EVERYWHERE",
    "SCL_CLEAR",
    "SCL_CLOUD",
    "SCL_NODATA",
    "FailingReader",
    "FakeReader",
    "MadeItem",
    "ScenePixels",
    "make_asset",
    "make_scene",
    "write_catalogue",
    "write_cog",
    "write_item_collection",
]
