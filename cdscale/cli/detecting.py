"""``detect``: change between two images without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer
from rich.progress import Progress as Bars

from cdscale.cli.app import AsJson, app
from cdscale.display import err, out, print_json
from cdscale.errors import SpecError, StoreError, explain

if TYPE_CHECKING:
    from cdscale.learn.metric_cd import Step


@app.command()
def detect(
    before: Annotated[Path, typer.Argument(metavar="T1", help="Image of the first date.")],
    after: Annotated[Path, typer.Argument(metavar="T2", help="The second date, on its grid.")],
    to: Annotated[Path, typer.Option("--out", metavar="OUT.tif", help="Where the map goes.")],
    method: Annotated[
        str, typer.Option(help="irmad, mad, cva, pca-kmeans, metric-cd ...")
    ] = "irmad",
    threshold: Annotated[
        str, typer.Option(help="otsu, kmeans or a score; by default that of the method.")
    ] = "",
    norm: Annotated[
        Literal["mean", "euclidean"], typer.Option(help="How channels make a score.")
    ] = "mean",
    weights: Annotated[
        Path | None,
        typer.Option(help="ImageNet weights of VGG, for cnnf (19), deepcva and metric-cd (16)."),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="Of metric-cd: centred, paper or notebook.")
    ] = "centred",
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Of metric-cd; by default those of the mode.")
    ] = None,
    blocks: Annotated[
        int | None, typer.Option(min=1, help="Residual blocks of metric-cd; 32 by default.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=16, help="Pixels a side of a tile of metric-cd.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of metric-cd's first weights.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Map change between two co-registered images; band 1 is the class, band 2 the score."""
    from cdscale.detection import How, Optimised, prepared
    from cdscale.export.change_map import MapGrid, change_map

    told = Optimised(mode, iterations, blocks, side, seed)
    request = prepared(before, after, How(method, threshold, norm, weights, told))
    _check_place(to, before, after)
    pair, name = request.pair, request.name
    grid = MapGrid(pair.width, pair.height, pair.crs, pair.transform)
    changed = seen = 0
    # Opened before the work: whether it can be written is known at once.
    with change_map(to, grid, name, f"score of {name}") as file:
        with _iterations() as step:
            found = request.run(step)
        for block, difference in found.blocks():
            file.write(difference.change_YX, difference.score_YX, block.row, block.column)
            seen_YX = np.isfinite(difference.score_YX)
            changed += int((difference.change_YX & seen_YX).sum())
            seen += int(seen_YX.sum())
    if as_json:
        print_json({"map": str(to), "method": name, "changed": changed, "pixels": seen})
        return
    share = 100 * changed / max(seen, 1)
    out.print(
        f"{to}: {name} sees change in {changed} of {seen} pixels ({share:.1f} %)",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _check_place(to: Path, *images: Path) -> None:
    """Refuse to replace an image by its map, and to put it where no folder can be."""
    if to.resolve() in {image.resolve() for image in images}:
        raise SpecError(explain(f"the map would replace an image: {to}", do="Name another --out."))
    if to.is_dir():
        raise StoreError(explain(f"cannot write {to}", expected="a file", got="a folder"))
    above = next(folder for folder in to.resolve().parents if folder.exists())
    if not above.is_dir():
        got = f"a file, {above}"
        raise StoreError(explain(f"cannot write {to}", expected="a folder above it", got=got))


@contextmanager
def _iterations() -> Iterator[Callable[[Step], None]]:
    """A bar of the iterations of all tiles; only where somebody looks, and only if there are any.

    Yields
    ------
    callable
        To be told every iteration.
    """
    with Bars(console=err, transient=True, disable=not err.is_terminal) as bars:
        bar = bars.add_task("iterations", total=None, visible=False)

        def step(now: Step) -> None:
            done = (now.tile - 1) * now.iterations + now.iteration
            total = now.tiles * now.iterations
            bars.update(bar, completed=done, total=total, visible=True)

        yield step
