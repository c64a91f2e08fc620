"""SZTAKI AirChange and the QuickBird pair: small benchmarks of colour images in BMP, for test.

Cs. Benedek, T. Sziranyi, IEEE TGRS 47(10), 2009: 13 pairs of aerial photographs, 952 x 640 pixels,
change drawn by hand in white. M. Zhang, W. Shi, IEEE TGRS 2020: one QuickBird pair of Wuhan,
1154 x 740 pixels, change drawn dark. Neither has a georeference: the grid is that of pixels.
"""

from __future__ import annotations

from pathlib import Path

from cdscale.learn.data import units
from cdscale.learn.data.base import DataSet, Image, Label, Sample, Source
from cdscale.learn.data.check import expect_places, expect_shape, inspect
from cdscale.learn.data.download import Download
from cdscale.learn.data.report import Inspection, Report

BANDS = ("red", "green", "blue")
SZTAKI_SETS = {"Szada": 7, "Tiszadob": 5, "Archive": 1}
"""Pairs of each folder, numbered from 1."""
SZTAKI_SHAPE = (640, 952)
QUICKBIRD_SHAPE = (740, 1154)
CLASSES = {0: "no change", 1: "change"}

_ARCHIVE_SPELLINGS = ("Archive", "Archieve")


def _pair(data: str, key: str, files: tuple[Path, Path, Path], dark: bool) -> Sample:
    """A pair of ``before``, ``after`` and the picture of the change."""

    def image(name: str, path: Path) -> Image:
        source = Source(path, (1, 2, 3))
        return Image(name, BANDS, (source,), units.brightness, ("uint8",), 3)

    before, after, label = files
    there = (Source(label, (1,)),) if label.is_file() else ()
    return Sample(
        data=data,
        key=key,
        place=key,
        when=(),
        grid_file=before,
        layers=(
            image("before", before),
            image("after", after),
            Label("change", there, units.Bright(dark), ("uint8",), (1, 3, 4)),
        ),
    )


# --------------------------------------------------------------------------------------- SZTAKI


def _sztaki_folders(root: Path) -> dict[str, Path]:
    """Folder of each pair by key, there or not.

    That of Archive has two spellings, and no number in some copies.
    """
    found = {}
    for name, pairs in SZTAKI_SETS.items():
        for number in range(1, pairs + 1):
            folder = root / name / str(number)
            if name == "Archive":
                spelt = [root / spelling for spelling in _ARCHIVE_SPELLINGS]
                places = [path / tail for path in spelt for tail in ("1", ".")]
                folder = next((p for p in places if (p / "im1.bmp").is_file()), folder)
            found[f"{name}-{number}"] = folder
    return found


def _sztaki_sample(key: str, folder: Path) -> Sample:
    files = (folder / "im1.bmp", folder / "im2.bmp", folder / "gt.bmp")
    return _pair("sztaki", key, files, dark=False)


def _sztaki_samples(root: Path, _split: str) -> tuple[Sample, ...]:
    """Pairs whose folder is there."""
    folders = _sztaki_folders(root)
    return tuple(_sztaki_sample(key, path) for key, path in folders.items() if path.is_dir())


def _sztaki_check(root: Path, deep: bool) -> Report:
    inspection = Inspection("sztaki", root, deep)
    samples = _sztaki_samples(root, "test")
    keys = tuple(f"{name}-{k}" for name, pairs in SZTAKI_SETS.items() for k in range(1, pairs + 1))
    expect_places(inspection, {"test": [sample.key for sample in samples]}, {"test": keys})
    _inspect_pairs(inspection, samples, SZTAKI_SHAPE)
    inspection.surplus(root, {*SZTAKI_SETS, *_ARCHIVE_SPELLINGS})
    for name in SZTAKI_SETS:
        if name != "Archive":
            inspection.surplus(root / name, (str(k) for k in range(1, SZTAKI_SETS[name] + 1)))
    return inspection.done()


def _inspect_pairs(
    inspection: Inspection, samples: tuple[Sample, ...], shape: tuple[int, int]
) -> None:
    inspection.count("pairs", len(samples))
    inspection.count("labels", sum(sample.labelled for sample in samples))
    for sample in samples:
        inspect(inspection, sample)
        expect_shape(inspection, sample, shape)
        if not sample.labelled:
            inspection.error("missing", sample.grid_file.with_name("gt.bmp"), "the label")


SZTAKI = DataSet(
    name="sztaki",
    title="SZTAKI AirChange benchmark",
    citation="Cs. Benedek, T. Sziranyi, Change Detection in Optical Aerial Images by a Multi-Layer "
    "Conditional Mixed Markov Model, IEEE TGRS 47(10), 3416-3430, 2009",
    licence="free for scientific use; the authors ask to be cited and told of publications",
    task="change",
    splits=("test",),
    layers=("before", "after", "change"),
    bands=BANDS,
    classes=CLASSES,
    download=Download(
        page="http://web.eee.sztaki.hu/remotesensing/airchange_benchmark.html",
        steps=(
            "The archive has a password, which the authors give on request. "
            "No checksum is published.",
            "The root is the folder that holds Szada, Tiszadob and Archive.",
        ),
    ),
    listed=_sztaki_samples,
    checked=_sztaki_check,
)

# ------------------------------------------------------------------------------------- QuickBird


def _quickbird_samples(root: Path, _split: str) -> tuple[Sample, ...]:
    files = (root / "t1.bmp", root / "t2.bmp", root / "gt.bmp")
    return (_pair("quickbird", "quickbird", files, dark=True),)


def _quickbird_check(root: Path, deep: bool) -> Report:
    inspection = Inspection("quickbird", root, deep)
    samples = _quickbird_samples(root, "test")
    _inspect_pairs(inspection, samples, QUICKBIRD_SHAPE)
    inspection.surplus(root, ("t1.bmp", "t2.bmp", "gt.bmp"))
    return inspection.done()


QUICKBIRD = DataSet(
    name="quickbird",
    title="QuickBird pair of Wuhan",
    citation="M. Zhang, W. Shi, A Feature Difference Convolutional Neural Network-Based Change "
    "Detection Method, IEEE TGRS, 2020, doi:10.1109/TGRS.2020.2981051",
    licence="GPL-3.0, for non-commercial and research purposes only",
    task="change",
    splits=("test",),
    layers=("before", "after", "change"),
    bands=BANDS,
    classes=CLASSES,
    download=Download(
        page="https://github.com/MinZHANG-WHU/FDCNN",
        steps=(
            "The page links to the pair ('Quickbird') on Google Drive. No checksum is published.",
            "The root is the folder that holds t1.bmp, t2.bmp and gt.bmp.",
        ),
    ),
    listed=_quickbird_samples,
    checked=_quickbird_check,
)
