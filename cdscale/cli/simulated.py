"""``simulate``, ``demo``: regions that exist nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdscale.cli.app import app
from cdscale.cli.runs import run_job
from cdscale.display import out, show_next, show_scores
from cdscale.months import Months
from cdscale.spec.run import load_run

SIMULATED_SPEC = """\
# A SIMULATED region: no place on Earth. Paths are relative to this file, the output to the current
# folder.
name: simulated
catalogue: {folder}
collections:
  sentinel-2-l2a: planetary-computer-sentinel-2-l2a
  sentinel-1-rtc: planetary-computer-sentinel-1-rtc
area: {folder}/area.geojson
period: {months}
grid: {{preset: europe, tile: 256, chunk: 128}}
models:
  urban: {{card: urban-s1s2-sim}}
  change: {{card: change-s1s2-oscd}}
output: {output}
"""


@app.command()
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder for the catalogue.")],
    seed: Annotated[int, typer.Option(help="Another seed, another place.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels of 10 m along a side.")] = 512,
    period: Annotated[str, typer.Option(metavar="MONTHS")] = "2021-07..2022-08",
) -> None:
    """Write a SIMULATED region as a STAC catalogue of COGs, with its true change."""
    from cdscale import simulate as simulation

    region = simulation.Region(seed=seed, size_px=size, months=Months.parse(period))
    out.print(f"Simulated region: {simulation.write(region, folder)}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Another seed, another place.")] = 0,
    size: Annotated[int, typer.Option(help="Pixels of 10 m along a side.")] = 512,
) -> None:
    """Simulate a region, map its change from the catalogue to the mosaic, and score the result."""
    from cdscale import simulate as simulation
    from cdscale.store import open_dataset

    region = simulation.Region(seed=seed, size_px=size)
    out.print(f"Simulating a region of {size} x {size} pixels in {output / 'catalogue'} ...")
    simulation.write(region, output / "catalogue")
    spec_file = output / "simulated.yaml"
    spec_file.write_text(
        SIMULATED_SPEC.format(folder="catalogue", months=region.months, output=output / "run")
    )
    spec = load_run(spec_file)
    code = run_job(spec, "local")
    if code == 0:
        with open_dataset(spec.folder / "change.zarr") as change:
            box = spec.window().geobox(spec.lattice)
            show_scores(simulation.score(change, simulation.truth(region, box)))
        show_next(spec_file, spec)
    raise typer.Exit(code)
