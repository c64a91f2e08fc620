"""Data sets in their published layouts: what there is, whether a folder is whole, and samples.

::

    from cdscale.learn.data import data_set

    oscd = data_set("oscd")
    print(oscd.check(root))
    for sample in oscd.samples(root, "train"):
        before, label = sample.read("before", ("B04", "B03", "B02")), sample.read("change")

Layers, units and what stands for "nothing there" are those of :mod:`cdscale.learn.data.base`. No
torch is needed to list, check and read.
"""

from __future__ import annotations

from cdscale.errors import SpecError, explain
from cdscale.learn.data.aerial import QUICKBIRD, SZTAKI
from cdscale.learn.data.base import DataSet, Image, Label, Sample, Source, Task
from cdscale.learn.data.download import Archive, Download
from cdscale.learn.data.dynamicearthnet_2021 import DYNAMICEARTHNET_2021
from cdscale.learn.data.dynamicearthnet_2022 import DYNAMICEARTHNET_2022
from cdscale.learn.data.files import Window, WrongCodes, windows
from cdscale.learn.data.hrscd import HRSCD
from cdscale.learn.data.oscd import OSCD
from cdscale.learn.data.report import Finding, Report
from cdscale.learn.data.spacenet7 import SPACENET7
from cdscale.learn.data.units import IGNORED

__all__ = [
    "DATASETS",
    "IGNORED",
    "Archive",
    "DataSet",
    "Download",
    "Finding",
    "Image",
    "Label",
    "Report",
    "Sample",
    "Source",
    "Task",
    "Window",
    "WrongCodes",
    "data_set",
    "windows",
]

DATASETS: dict[str, DataSet] = {
    data.name: data
    for data in (
        OSCD,
        HRSCD,
        SPACENET7,
        DYNAMICEARTHNET_2021,
        DYNAMICEARTHNET_2022,
        SZTAKI,
        QUICKBIRD,
    )
}
"""Every data set by name."""


def data_set(name: str) -> DataSet:
    """A data set by name.

    Raises
    ------
    SpecError
        When there is none of this name.
    """
    if name not in DATASETS:
        raise SpecError(
            explain("unknown data set", expected=f"one of {', '.join(DATASETS)}", got=repr(name))
        )
    return DATASETS[name]
