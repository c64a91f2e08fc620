"""A catalogue on disk as one whose pixels lie on a server: what tests of remote reading read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from cdscale.spec.profile import PROFILES


def write_served(root: Path, url: str, folder: Path, collections: Mapping[str, str]) -> Path:
    """An item collection, and the profiles that may read it.

    Parameters
    ----------
    root : Path
        Folder of a static catalogue, with ``COLLECTION/items/*.json`` and the assets beside them.
    url : str
        Where a server serves that folder.
    folder : Path
        Receives ``items.json`` and ``COLLECTION.yaml`` for each collection.
    collections : mapping of str to str
        Collection to the shipped profile that its own is made from.

    Returns
    -------
    Path
        Of the item collection.
    """
    features = []
    for path in sorted(root.glob("*/items/*.json")):
        item = json.loads(path.read_text(encoding="utf-8"))
        for asset in item["assets"].values():
            place = (path.parent / asset["href"]).resolve().relative_to(root.resolve())
            asset["href"] = f"{url}/{place}"
        features.append(item)
    folder.mkdir(parents=True, exist_ok=True)
    for collection, name in collections.items():
        profile = yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8"))
        profile |= {"hosts": [url], "access": {}, "name": collection}
        target = folder / f"{collection}.yaml"
        target.write_text(yaml.safe_dump(profile), encoding="utf-8")
    target = folder / "items.json"
    made = {"type": "FeatureCollection", "features": features}
    target.write_text(json.dumps(made), encoding="utf-8")
    return target
