"""Assets: which of an item's files hold what, where they lie, and what their numbers mean."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, NamedTuple

from cdscale.scenes.addresses import canonical
from cdscale.scenes.names import Json, Said
from cdscale.scenes.places import crs_of
from cdscale.scenes.unusable import Unusable, plain
from cdscale.spec.profile import BandProfile, CollectionProfile, OffsetRule
from cdscale.spec.scene import Asset

LARGEST_SIDE = 1 << 20
"""Pixels along a side of a file, at most."""
LIKELY_SCALES = (0.01, 100.0)
"""Times the profile's: what an item tells beyond that is its unit and not its scale."""
LARGEST_OFFSET = 1.0
"""Of reflectance; ESA's is -0.1, and what is larger is told in stored numbers."""


class Observed(NamedTuple):
    """What an item says of all its assets."""

    properties: Json
    facts: Said
    start: datetime


class AssetReader:
    """The assets of one item as a profile reads them.

    Parameters
    ----------
    assets : mapping
        As the item has them, by key.
    seen : Observed
        What the item says of all of them.
    profile : CollectionProfile
        Which asset holds what.
    local : bool
        Whether assets may lie on disk.
    """

    def __init__(
        self, assets: Json, seen: Observed, profile: CollectionProfile, local: bool
    ) -> None:
        self._assets, self._seen, self._profile, self._local = assets, seen, profile, local

    def bands(self) -> dict[str, Asset]:
        """Every band of the profile that the item has, from the first of its assets."""
        bands = {
            name: self._band(band)
            for name, band in self._profile.bands.items()
            if self._key(band.assets)
        }
        if not bands:
            keys = ", ".join(band.assets[0] for band in self._profile.bands.values())
            raise Unusable(f"it has no asset for any band ({keys})")
        return bands

    def mask(self) -> Asset | None:
        """The asset of the mask; the profile alone says what of it is no data."""
        mask = self._profile.mask
        if mask is None:
            return None
        key = self._key(mask.assets)
        if not key:
            raise Unusable(f"it has no mask asset ({' or '.join(mask.assets)})")
        return self._asset(key, scale=1.0, offset=0.0, nodata=float(mask.nodata[0]))

    def cloud(self) -> Asset | None:
        """The asset of the cloud's probability, where the item has it.

        Items call 0 % no data; the profile knows better.
        """
        cloud = self._profile.cloud
        key = self._key(cloud.assets) if cloud else ""
        if cloud is None or not key:
            return None
        return self._asset(key, scale=cloud.scale, offset=0.0, nodata=cloud.nodata)

    def _key(self, keys: tuple[str, ...]) -> str:
        return next((key for key in keys if self._assets.get(key)), "")

    def _band(self, band: BandProfile) -> Asset:
        key = self._key(band.assets)
        asset, trust = self._assets[key], self._profile.trust
        offset = resolve_offset(asset, band, self._profile, self._seen)
        scale, nodata = _told(asset, "scale"), _told(asset, "nodata")
        return self._asset(
            key,
            scale=_scale(scale, band) if "scale" in trust and scale is not None else band.scale,
            offset=offset,
            # NaN is no data already, in words or in numbers.
            nodata=_number(nodata) if "nodata" in trust and nodata is not None else band.nodata,
        )

    def _asset(self, key: str, *, scale: float, offset: float, nodata: float | None) -> Asset:
        asset = self._assets[key]
        hosts, href = self._profile.hosts, asset.get("href")
        if not isinstance(href, str) or not href.strip():
            raise Unusable(f"its asset {key} has no address")
        return Asset(
            href=canonical(href, hosts, local=self._local),
            crs=crs_of(asset, self._seen.properties),
            transform=_transform(self._either(asset, "proj:transform")),
            shape=_shape(self._either(asset, "proj:shape")),
            scale=scale,
            offset=offset,
            nodata=nodata,
        )

    def _either(self, asset: Json, key: str) -> Any:
        told = asset.get(key)
        return self._seen.properties.get(key) if told is None else told


def _number(value: Any) -> float | None:
    """A number; None for NaN and infinity, which JSON does not have and a job could not keep."""
    number = float(value)
    return number if math.isfinite(number) else None


def _scale(value: Any, band: BandProfile) -> float:
    number = _number(value)
    if number is None or number <= 0:
        raise Unusable(f"its scale {plain(value, 40)} is none")
    least, most = LIKELY_SCALES
    if not least * band.scale <= number <= most * band.scale:
        raise Unusable(f"its scale {number:g} is far from the {band.scale:g} of its collection")
    return number


def _transform(value: Any) -> tuple[float, ...] | None:
    """Six numbers of an affine transform, of which items give six or all nine."""
    if value is None:
        return None
    numbers = tuple(_number(number) for number in value)
    if len(numbers) not in {6, 9} or None in numbers or numbers[6:] not in {(), (0.0, 0.0, 1.0)}:
        raise Unusable("its proj:transform is no affine transform")
    a, b, c, d, e, f = (number for number in numbers[:6] if number is not None)
    if a == 0 or a * e - b * d == 0:
        raise Unusable("its proj:transform has pixels without a size")
    return a, b, c, d, e, f


def _shape(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    rows, columns = (int(side) for side in value)
    if min(rows, columns) < 1:
        raise Unusable("its proj:shape has no pixels")
    if max(rows, columns) > LARGEST_SIDE:
        raise Unusable("its proj:shape is larger than any scene")
    return rows, columns


def _told(asset: Json, what: str) -> Any:
    """Scale, offset or nodata as the asset itself names it, of STAC 1.0 or 1.1."""
    for bands in (asset.get("raster:bands"), asset.get("bands")):
        first = bands[0] if isinstance(bands, list) and bands else None
        for key in (what, f"raster:{what}"):
            if isinstance(first, dict) and first.get(key) is not None:
                return first[key]
    told = asset.get(f"raster:{what}")
    return asset.get(what) if told is None and what == "nodata" else told


def resolve_offset(
    asset: Json,
    band: BandProfile,
    profile: CollectionProfile,
    seen: Observed,
) -> float:
    """Radiometric offset of one asset, by the first rule of the profile that fits it.

    Parameters
    ----------
    asset : mapping
        The asset as its item has it.
    band : BandProfile
        The band's own offset counts where no rule fits.
    profile : CollectionProfile
        Holds the rules.
    seen : Observed
        What the item says beside the asset.

    Raises
    ------
    Unusable
        Where the profile says that it cannot be known, or where it is told in other units.
    """
    told = _told(asset, "offset")
    rule = next((rule for rule in profile.offsets if _fits(rule, told, seen)), None)
    if rule is None:
        return band.offset
    if rule.offset == "unknown":
        raise Unusable("its offset is not known: it names neither an offset nor its baseline")
    offset = float(told) if rule.offset == "asset" else rule.offset
    if profile.unit == "reflectance" and not abs(offset) <= LARGEST_OFFSET:
        raise Unusable(f"its offset {plain(told, 40)} is not one of reflectance")
    return offset


def _fits(rule: OffsetRule, told: object, seen: Observed) -> bool:
    baseline = seen.facts.baseline
    if rule.when_asset_offset and told is None:
        return False
    if rule.baseline_at_least and not (baseline and baseline >= rule.baseline_at_least):
        return False
    if rule.baseline_below and not (baseline and baseline < rule.baseline_below):
        return False
    if rule.sensed_before is not None and seen.start.date() >= rule.sensed_before:
        return False
    if not rule.when_property:
        return True
    value = seen.properties.get(rule.when_property)
    if value is None or (rule.equals is not None and value != rule.equals):
        return False
    return rule.at_least is None or str(value) >= rule.at_least
