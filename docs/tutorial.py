# %% [markdown]
# # From a spec to an answer
#
# How much of a town grew between July 2021 and August 2022, when, in which of its quarters, and how
# sure can we be? This goes from a catalogue of scenes to the answer, first on a **simulated** region,
# where the truth is known, then to real Sentinel-1 and Sentinel-2 scenes of Flanders and Rio.
#
# It is executed from `docs/tutorial.py` by `python docs/execute.py docs/tutorial.py`; everything is
# made in one folder. The simulated part takes some minutes on two cores.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import cdscale

# %% tags=["parameters"]
WORK = Path("tutorial")
CATALOGUE = ""  # of simulated scenes; empty: it is made
SEED, SIZE, PERIOD = 7, 256, "2021-07..2022-08"
TILE = 256
MODELS = {"urban": {"card": "urban-s1s2-sim"}, "change": {"card": "change-s1s2-oscd"}}
CLUSTER = "local"
DATA = os.environ.get("CDSCALE_DATA", "../shared/data")  # real scenes, where there are any

# %% [markdown]
# ## 1. Scenes
#
# Any STAC catalogue will do. Here is one that exists nowhere: a small physical simulation writes
# Sentinel-1 and Sentinel-2 scenes, clouds and speckle included, and knows what really changed.

# %%
from cdscale import simulate
from cdscale.months import Months

region = simulate.Region(seed=SEED, size_px=SIZE, months=Months.parse(PERIOD))
if not CATALOGUE:
    CATALOGUE = str(simulate.write(region, WORK / "catalogue"))
print("scenes in", Path(CATALOGUE).name)

# %% [markdown]
# ## 2. A run is one file
#
# It says which catalogue, area and months, on which grid, with which networks. `urban-s1s2-sim` maps
# built-up land month by month, `change-s1s2-oscd` compares the first month with the last.

# %%
import json

import yaml

spec = {
    "name": "tutorial",
    "catalogue": str(Path(CATALOGUE).resolve().parent),
    "collections": {
        "sentinel-2-l2a": "planetary-computer-sentinel-2-l2a",
        "sentinel-1-rtc": "planetary-computer-sentinel-1-rtc",
    },
    "area": str((WORK / "area.geojson").resolve()),
    "period": PERIOD,
    "grid": {"preset": "europe", "tile": TILE, "chunk": TILE // 2},
    "models": MODELS,
    "output": str((WORK / "run").resolve()),
}
WORK.mkdir(parents=True, exist_ok=True)
(WORK / "area.geojson").write_text(json.dumps(region.area()), encoding="utf-8")
spec_file = WORK / "region.yaml"
spec_file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
print(yaml.safe_dump({k: spec[k] for k in ("name", "period", "grid", "models")}, sort_keys=False))

# %% [markdown]
# ## 3. What will it take?
#
# `cdscale plan region.yaml` searches the catalogue and prices the run before a pixel is read; from
# Python it is two calls.

# %%
from cdscale.plan import freeze, price
from cdscale.spec.run import load_run

run_spec = load_run(spec_file)
job = freeze(run_spec)
plan = price(job, workers=2, memory=4 * 2**30)
print(f"{plan.tiles} tiles, {plan.month_count} months, {plan.scenes} scenes")
for stage, part in plan.stages.items():
    print(f"{stage}: {part.tasks} tasks, {part.bytes_written / 1e6:.0f} MB to write at most")

# %% [markdown]
# ## 4. Run it
#
# As `cdscale run region.yaml` does. Stopped or killed, the same call goes on where it was; called
# again on a finished run, it changes nothing.

# %%
from cdscale.cli import run_job

assert run_job(run_spec, CLUSTER) == 0
sorted(path.name for path in run_spec.folder.iterdir())

# %% [markdown]
# ## 5. Look
#
# Stores are plain Zarr. `cdscale.open` gives an xarray dataset that also answers questions, `.cd`.

# %%
change = cdscale.open(run_spec.folder / "change.zarr")
cube = cdscale.open(run_spec.folder / "cube.zarr")
change.sizes, list(change.data_vars)

# %%
STATES = {4: "confirmed", 5: "high confidence", 7: "finished"}  # what counts as change
last = change.isel(month=-1)
counts = last.state.isin(list(STATES))
began = xr.where(counts, last.first_month.astype("datetime64[M]").astype(int), np.nan)

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
clear = (cube.s2_quality == 1).mean(("y", "x")).values
shown = [int(np.argmax(clear[: len(clear) // 2])), int(np.argmax(clear[::-1]) * -1 - 1)]
for axis, month in zip(axes, shown, strict=False):
    rgb = cube.s2.isel(month=month).sel(s2_band=["B04", "B03", "B02"]).transpose("y", "x", ...)
    axis.imshow(np.nan_to_num(np.clip(rgb.values / 0.25, 0, 1)))
    axis.set_title(str(cube.month.values[month])[:7])
axes[2].imshow(began.values, cmap="viridis")
axes[2].set_title("change, by first month")
for axis in axes:
    axis.set_xticks([])
    axis.set_yticks([])
plt.close(figure)
figure

# %% [markdown]
# ## 6. The answer, month by month
#
# Square kilometres in each state, over the whole region, with exact shares of the pixels on its edge.

# %%
from shapely.geometry import box, mapping, shape

area = shape(region.area())
table = change[["state"]].cd.area(area)
SHOWN = ["none", "provisional", "confirmed", "high_confidence", "reverted"]
by_month = table.pivot_table(index="month", columns="class", values="km2", fill_value=0.0)
by_month.reindex(columns=SHOWN, fill_value=0.0).round(3)

# %% [markdown]
# In which quarter? Any vector file with a field of names will do; `cdscale stats` is the same on the
# command line.

# %%
west, south, east, north = area.bounds
middle = ((west + east) / 2, (south + north) / 2)
corners = {
    "south-west": (west, south, *middle),
    "south-east": (middle[0], south, east, middle[1]),
    "north-west": (west, middle[1], middle[0], north),
    "north-east": (*middle, east, north),
}
quarters = WORK / "quarters.geojson"
features = [
    {"type": "Feature", "properties": {"name": name}, "geometry": mapping(box(*bounds))}
    for name, bounds in corners.items()
]
quarters.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
stats = last.expand_dims("month")[["state"]].cd.stats(quarters, by="name")
by_quarter = stats.pivot_table(index="name", columns="class", values="km2", fill_value=0.0)
by_quarter.reindex(columns=SHOWN, fill_value=0.0).round(3)

# %% [markdown]
# ## 7. Why does it say so?
#
# Of one pixel: the scenes behind it, how clear they were, the series of both sensors, the networks.

# %%
from cdscale.grid import to_lon_lat

surest = last.confidence.where(counts).fillna(-1)
row, column = np.unravel_index(int(surest.values.argmax()), surest.shape)
lon, lat = to_lon_lat(float(last.x[column]), float(last.y[row]), run_spec.lattice.crs)
told = change.cd.explain(lon, lat)
print(f"at {lon:.4f}, {lat:.4f}:")
for sentence in told["reasons"][-6:]:
    print("-", sentence)

# %%
series = change.cd.series(lon, lat)
series[["state", "first_month", "confidence", "support"]].tail(6)

# %% [markdown]
# ## 8. How sure?
#
# Pixels of a map, counted, carry the errors of the map. A random sample of the map's classes that
# people interpret gives the area on the ground with its interval (Olofsson et al. 2014). Here the
# simulation's truth plays the interpreter; on Earth it takes people and good images.

# %%
from cdscale.accuracy import Choice, draw, estimate
from cdscale.store import Store, read_spec

path = run_spec.folder / "change.zarr"
store = Store(path, read_spec(path))
sample = draw(store, "change", store.published()[-1], Choice(size=300, least=100, seed=1))
box_px = run_spec.window().geobox(run_spec.lattice)
truth = simulate.truth(region, box_px).change_month >= 0
names = tuple(store.spec.variable("change").meanings.values())


def look(point):
    """What an interpreter would see at a point: change, or none."""
    return names[int(truth.sel(x=point.x, y=point.y, method="nearest"))]


seen = {point.id: look(point) for point in sample.points}
found = estimate(sample.counts(seen), sample.mapped_km2, sample.classes)
for name, mapped, ground in zip(found.classes, found.mapped_km2, found.area_km2, strict=True):
    print(
        f"{name}: {mapped:.2f} km2 on the map, "
        f"{ground.value:.2f} ± {ground.interval:.2f} km2 on the ground (95 %)"
    )
print(f"in truth {float(truth.sum()) * 1e-4:.2f} km2 changed")

# %% [markdown]
# And because this region is simulated, the states can be held against the truth pixel by pixel:

# %%
hits = float((counts.values & truth.values).sum())
recall = hits / max(float(truth.values.sum()), 1)
precision = hits / max(float(counts.values.sum()), 1)
print(f"states that count: precision {precision:.2f}, recall {recall:.2f}")

# %% [markdown]
# The network of the series was trained on simulated regions too (others): these figures say that the
# road carries, not what it would find on Earth. The page with all of this, and more, for people who
# do not read notebooks is `report.html` in the run's folder.
#
# ## 9. Real scenes
#
# The same on Earth: a site in Flanders, four months of real Sentinel-1 and Sentinel-2 scenes. Without
# the data this part is left out, and says so.

# %%
real = Path(DATA) / "flanders-stac" / "catalog.json"
if real.is_file():
    flanders = load_run(
        Path(cdscale.__file__).parents[1] / "examples" / "flanders.yaml",
        {"period": "2018-04..2018-07", "output": str((WORK / "flanders").resolve())},
    )
    flanders = flanders.model_copy(update={"models": type(flanders.models)()})  # composites alone
    assert run_job(flanders, CLUSTER) == 0
    scenes = cdscale.open(flanders.folder / "cube.zarr")
    centre = flanders.aoi.geometry.geoms[-1].representative_point()
    pixel = scenes[["s2", "s1", "s2_date", "s2_clear", "s1_scenes"]].cd.series(centre.x, centre.y)
    wanted = ["s2_date", "s2_clear", "s2_B04", "s2_B08", "s1_scenes", "s1_vv", "s1_vh"]
    print(pixel[wanted].to_string(float_format="{:.3f}".format))
else:
    print("no real data here: set CDSCALE_DATA to its folder to see this part")

# %% [markdown]
# And a city that the change network has not seen: a part of Rio de Janeiro, before and after the
# games of 2016 (OSCD). The map is made lazily, without a run, by `cdscale.predict`.

# %%
if (Path(DATA) / "oscd-stac" / "catalog.json").is_file():
    rio = load_run(
        Path(cdscale.__file__).parents[1] / "examples" / "oscd.yaml",
        {
            "area": mapping(box(-43.405, -22.990, -43.375, -22.965)),
            "period": "2016-04,2017-10",
            "output": str((WORK / "rio").resolve()),
        },
    )
    rio = rio.model_copy(update={"models": type(rio.models)()})
    assert run_job(rio, CLUSTER) == 0
    games = cdscale.open(rio.folder / "cube.zarr").chunk()
    maps = cdscale.predict(games, "change-s1s2-oscd", pairs=[("2016-04", "2017-10")])
    changed = (maps.change == 1).sum().compute()
    print(
        f"{float(changed) * 1e-4:.2f} km2 of urban change mapped in the tiles of this part of Rio"
    )
else:
    print("no real data here: set CDSCALE_DATA to its folder to see this part")
