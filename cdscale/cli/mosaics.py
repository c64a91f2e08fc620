"""``mosaic``: overviews of what a run has published, where a run did not make them itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdscale.cli.app import AsJson, app
from cdscale.cluster import check_choice
from cdscale.display import out, print_json
from cdscale.integrity import run_of
from cdscale.mosaic import gates
from cdscale.seams import Gate


@app.command()
def mosaic(
    store: Annotated[Path, typer.Argument(help="A store of a run, or the run's output folder.")],
    redo: Annotated[bool, typer.Option("--redo", help="Make them again although made.")] = False,
    cluster: Annotated[
        str, typer.Option(help="Where, as of `cdscale run`; by default in this process.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Make the overviews of published months that lack them: a run does so by itself at its end."""
    from cdscale.run import renew_overviews

    if cluster:
        check_choice(cluster)
    job, stages = run_of(store)
    done = renew_overviews(job, stages, cluster, redo=redo)
    found = gates(job.spec.folder)
    if as_json:
        built = {
            str(stage): {"months": [str(m) for m in part.months], "shards": part.shards}
            for stage, part in done.items()
        }
        seams = {name: one.model_dump(mode="json") for name, one in found.items()}
        print_json({"built": built, "seams": seams})
        return
    for stage, part in done.items():
        out.print(f"{stage:8} {len(part.months)} months, {part.shards} shards of overviews made")
    for one in found.values():
        out.print(seams_line(one))


def seams_line(one: Gate) -> str:
    """What the gate for seams says of a product."""
    if one.worst is None:
        return f"Seams of {one.product}: no two tiles with data meet."
    w = one.worst
    of = f", the worst of {one.months} months" if one.months > 1 else ""
    return (
        f"Seams of {one.product}: {one.verdict}. Probabilities differ by {w.across:.4f} across the "
        f"edges of tiles and by {w.inside:.4f} beside them in {w.month}{of}; more "
        f"than {one.largest_excess:g} and {one.largest_ratio:g} times as much warns."
    )
