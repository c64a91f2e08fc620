"""``detect``: change between two images without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from cdscale.cli.app import AsJson, app
from cdscale.display import out, print_json


@app.command()
def detect(
    before: Annotated[Path, typer.Argument(metavar="T1", help="Image of the first date.")],
    after: Annotated[Path, typer.Argument(metavar="T2", help="The second date, on its grid.")],
    to: Annotated[Path, typer.Option("--out", metavar="OUT.tif", help="Where the map goes.")],
    method: Annotated[str, typer.Option(help="irmad, mad, cva, pca-kmeans ...")] = "irmad",
    threshold: Annotated[
        str, typer.Option(help="otsu, kmeans or a score; by default that of the method.")
    ] = "",
    norm: Annotated[
        Literal["mean", "euclidean"], typer.Option(help="How channels make a score.")
    ] = "mean",
    weights: Annotated[
        Path | None, typer.Option(help="ImageNet weights of VGG, for cnnf (19) and deepcva (16).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Map change between two co-registered images; band 1 is the class, band 2 the score."""
    from cdscale.detection import How
    from cdscale.detection import detect as fit
    from cdscale.export.change_map import MapGrid, change_map

    found = fit(before, after, How(method, threshold, norm, weights))
    pair = found.pair
    grid = MapGrid(pair.width, pair.height, pair.crs, pair.transform)
    changed = seen = 0
    with change_map(to, grid, found.name, f"score of {found.name}") as file:
        for block, difference in found.blocks():
            file.write(difference.change_YX, difference.score_YX, block.row, block.column)
            changed += int(difference.change_YX.sum())
            seen += int(np.isfinite(difference.score_YX).sum())
    if as_json:
        print_json({"map": str(to), "method": found.name, "changed": changed, "pixels": seen})
        return
    share = 100 * changed / max(seen, 1)
    out.print(
        f"{to}: {found.name} sees change in {changed} of {seen} pixels ({share:.1f} %)",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
