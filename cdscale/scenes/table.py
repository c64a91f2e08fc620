"""The search: everything that a run needs, asked for once, harmonised, without duplicates."""

from __future__ import annotations

from typing import NamedTuple

import shapely

from cdscale.errors import CatalogueError, explain
from cdscale.months import Month, Months
from cdscale.scenes.catalogue import api_items, static_items
from cdscale.scenes.items import Json, Unusable, collection_of, harmonise, name_of
from cdscale.spec.base import fingerprint
from cdscale.spec.run import RunSpec
from cdscale.spec.scene import Scene, SceneTable, SetAside


class _Found(NamedTuple):
    """A usable scene, what it observed, and how new its processing is."""

    scene: Scene
    observation: tuple[str, ...] | None
    version: tuple[str, ...]


def search_key(spec: RunSpec) -> str:
    """Fingerprint of everything that decides which scenes a run finds."""
    return fingerprint(
        {
            "catalogue": spec.catalogue,
            "profiles": {k: p.model_dump(mode="json") for k, p in spec.profiles.items()},
            "bands": [*spec.cube.s2_bands, *spec.cube.s1_bands],
            "period": str(spec.period),
            "tiles": [str(tile) for tile in spec.tiles()],
            "grid": [spec.lattice.crs, spec.lattice.tile_m],
            "max_cloud_cover": spec.cube.max_cloud_cover,
        }
    )


def search(spec: RunSpec) -> SceneTable:
    """Ask the catalogue once for everything that a run needs.

    Raises
    ------
    CatalogueError
        When the catalogue or a collection is not there, or no scene can be used.
    """
    grid = spec.lattice
    footprint = shapely.union_all([grid.footprint(tile) for tile in spec.tiles()])
    remote = "://" in spec.catalogue
    items = api_items(spec, footprint) if remote else static_items(spec)
    found: list[_Found] = []
    aside: list[SetAside] = []
    elsewhere: set[Month] = set()
    for item in items:
        try:
            one = _usable(item, spec, local=not remote)
        except Unusable as reason:
            aside.append(
                SetAside(id=name_of(item), collection=collection_of(item), reason=str(reason))
            )
            continue
        if not footprint.intersects(one.scene.polygon):
            continue
        if any(one.scene.serves(month) for month in spec.period):
            found.append(one)
        else:
            elsewhere.add(Month.of(one.scene.start))
    scenes, older = _newest_only(found)
    if not scenes:
        raise CatalogueError(_nothing_found(spec, aside, elsewhere))
    return SceneTable(search=search_key(spec), scenes=scenes, set_aside=(*aside, *older))


def _nothing_found(spec: RunSpec, aside: list[SetAside], elsewhere: set[Month]) -> str:
    collections = ", ".join(spec.collections)
    bounds = ", ".join(f"{v:.3f}" for v in spec.aoi.bounds)
    got = "none"
    if aside:
        got += f" ({len(aside)} items cannot be used, the first because {aside[0].reason})"
    do = "Check area, period and collections."
    if elsewhere:
        do = f"For this area the catalogue has scenes in {Months.of(elsewhere)}."
    return explain(
        f"the search found no scene in {spec.catalogue}",
        expected=f"scenes of {collections} over {bounds} in {spec.period}",
        got=got,
        do=do,
    )


def _usable(item: Json, spec: RunSpec, *, local: bool) -> _Found:
    """The item as a scene, or the reason why it cannot be one."""
    profile = spec.profiles[collection_of(item)]
    scene = harmonise(item, profile, local=local)
    wanted = spec.cube.s2_bands if scene.sensor == "s2" else spec.cube.s1_bands
    bands = {band: scene.assets[band] for band in wanted if band in scene.assets}
    missing = [band for band in wanted if band not in bands]
    # A network needs every optical band; radar with one polarisation is still radar.
    if not bands or (missing and scene.sensor == "s2"):
        raise Unusable(f"it has no asset for {', '.join(missing)}")
    if scene.cloud_cover is not None and scene.cloud_cover > spec.cube.max_cloud_cover:
        raise Unusable(f"cloud cover {scene.cloud_cover:g} % is over the spec's limit")
    properties = item["properties"]
    named = [properties.get(key) for key in profile.same_observation]
    observation = (
        (profile.name, *map(str, named)) if named and all(v is not None for v in named) else None
    )
    version = tuple(str(properties.get(key) or "") for key in profile.newest_by)
    return _Found(scene.model_copy(update={"assets": bands}), observation, version)


def _newest_only(found: list[_Found]) -> tuple[tuple[Scene, ...], tuple[SetAside, ...]]:
    """Of the items of one observation, the newest processing; the others with the reason."""
    found = sorted(found, key=lambda f: (f.scene.sensor, f.scene.start, f.version, f.scene.id))
    newest = {f.observation: f.scene.id for f in found if f.observation is not None}
    kept: dict[tuple[str, str], Scene] = {}
    older: list[SetAside] = []
    for scene, observation, _ in found:
        if observation is None or newest[observation] == scene.id:
            kept[scene.collection, scene.id] = scene
        else:
            reason = f"the same observation came newer processed as {newest[observation]}"
            older.append(SetAside(id=scene.id, collection=scene.collection, reason=reason))
    return tuple(kept.values()), tuple(older)
