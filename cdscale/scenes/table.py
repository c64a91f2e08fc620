"""The search: everything that a run needs, asked for once, harmonised, without duplicates."""

from __future__ import annotations

import shapely
from shapely.geometry.base import BaseGeometry

from cdscale.errors import CatalogueError, explain
from cdscale.months import Month, Months
from cdscale.scenes.catalogue import UNUSABLE, items_of, on_disk
from cdscale.scenes.duplicates import Found, left_out, newest_only
from cdscale.scenes.items import Json, Unusable, collection_of, harmonise, name_of, set_aside
from cdscale.scenes.names import said
from cdscale.scenes.unusable import plain
from cdscale.spec.base import fingerprint
from cdscale.spec.profile import CollectionProfile
from cdscale.spec.run import CompositeChoice, RunSpec, public
from cdscale.spec.scene import Scene, SceneTable, SetAside


def search_key(spec: RunSpec) -> str:
    """Fingerprint of everything that decides which scenes a run finds."""
    return fingerprint(
        {
            "catalogue": public(spec.catalogue),
            "profiles": {k: p.model_dump(mode="json") for k, p in spec.profiles.items()},
            "bands": [*spec.cube.s2_bands, *spec.cube.s1_bands],
            "period": str(spec.period),
            "tiles": [str(tile) for tile in spec.tiles()],
            "grid": [spec.lattice.crs, spec.lattice.tile_m],
            "max_cloud_cover": spec.cube.max_cloud_cover,
            "clear": spec.cube.clear,
            "dilate_px": spec.cube.dilate_px,
            "cloud_probability": spec.cube.cloud_probability is not None,
            "s1_directions": sorted(spec.cube.s1_directions),
            "exclude": sorted(spec.cube.exclude),
            # Named where it is not what it has always been: a table frozen before stays good.
            **({"window_months": window} if (window := spec.cube.window_months) > 1 else {}),
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
    local = on_disk(spec.catalogue)
    profiles = {name: _wanted(profile, spec.cube) for name, profile in spec.profiles.items()}
    months = spec.drawn_on  # once: a continent has a hundred thousand items
    found: list[Found] = []
    aside: list[SetAside] = []
    elsewhere: set[Month] = set()
    for item in items_of(spec, footprint):
        try:
            if UNUSABLE in item:
                raise Unusable(str(item[UNUSABLE]))
            one = _usable(item, profiles[collection_of(item)], spec, local=local)
        except Unusable as reason:
            lost = set_aside(item, str(reason))
            if _concerns(lost, months, footprint):
                aside.append(lost)
            continue
        if not footprint.intersects(one.scene.polygon):
            continue
        if any(one.scene.serves(month) for month in months):
            found.append(one)
        else:
            elsewhere.add(Month.of(one.scene.start))
    newest, older = newest_only(found)
    scenes = tuple(scene for scene in newest if not _unwanted(scene, spec.cube))
    aside += older
    aside += [left_out(s, why) for s in newest if (why := _unwanted(s, spec.cube))]
    if not scenes:
        raise CatalogueError(_nothing_found(spec, aside, elsewhere))
    return SceneTable(
        search=search_key(spec),
        scenes=scenes,
        set_aside=tuple(aside),
        window=spec.cube.window_months,
    )


def _wanted(profile: CollectionProfile, cube: CompositeChoice) -> CollectionProfile:
    """The profile of what a cube takes: its bands, its classes, its cloud.

    An asset that no band of the cube needs sets no item aside.
    """
    bands = cube.s2_bands if profile.sensor == "s2" else cube.s1_bands
    changes: dict[str, object] = {
        "bands": {name: profile.bands[name] for name in bands if name in profile.bands}
    }
    if profile.mask is not None:
        dilate = profile.mask.dilate_px if cube.dilate_px is None else cube.dilate_px
        clear = cube.clear or profile.mask.clear
        mask = profile.mask.model_copy(update={"clear": clear, "dilate_px": dilate})
        changes["mask"] = mask
    if cube.cloud_probability is None:
        changes["cloud"] = None
    return profile.model_copy(update=changes)


def _concerns(lost: SetAside, period: Months, footprint: BaseGeometry) -> bool:
    """Whether an item set aside may have belonged to the run, as far as it says where and when."""
    then = lost.start is None or any(lost.serves(month) for month in period)
    return then and (not lost.footprint or footprint.intersects(lost.polygon))


def _unwanted(scene: Scene, cube: CompositeChoice) -> str:
    """Why the spec leaves out a scene that can be read; empty where it does not."""
    if scene.cloud_cover is not None and scene.cloud_cover > cube.max_cloud_cover:
        return f"cloud cover {scene.cloud_cover:g} % is over the spec's limit"
    if scene.sensor == "s1" and scene.direction and scene.direction not in cube.s1_directions:
        return f"its orbit is {scene.direction}, which the spec leaves out"
    return ""


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
        f"the search found no scene in {public(spec.catalogue)}",
        expected=f"scenes of {collections} over {bounds} in {spec.drawn_on}",
        got=got,
        do=do,
    )


def _usable(item: Json, profile: CollectionProfile, spec: RunSpec, *, local: bool) -> Found:
    """The item as a scene, or the reason why it cannot be one."""
    if name_of(item) in spec.cube.exclude:
        raise Unusable("the spec excludes it")
    scene = harmonise(item, profile, local=local)
    missing = [band for band in spec.cube.s2_bands if band not in scene.assets]
    # A network needs every optical band; radar with one polarisation is still radar.
    if missing and scene.sensor == "s2":
        raise Unusable(f"it has no asset for {', '.join(missing)}")
    return found_as(item, scene, profile)


def found_as(item: Json, scene: Scene, profile: CollectionProfile) -> Found:
    """A scene with what tells it apart from others of the same observation."""
    facts, properties = said(item), item["properties"]
    named = [properties.get(key) for key in profile.same_observation]
    if named:
        told = all(value is not None for value in named)
        observation = (profile.name, *map(plain, named)) if told else ()
    elif scene.sensor == "s2":
        told = bool(facts.platform and facts.tile)
        observation = ("s2", facts.level, facts.platform, facts.tile)
    else:
        told = bool(facts.datatake)
        observation = ("s1", facts.datatake, facts.tile)
    by = tuple(plain(properties.get(key) or "") for key in profile.newest_by)
    # The same processing listed twice: the item in the newer form of STAC, then the newer item.
    final = "" if "-" in plain(item.get("stac_version")) else "final"
    version = (*(by or (facts.baseline, facts.generated)), final, facts.catalogued)
    return Found(scene, facts, observation if told else None, version)
