"""`segpipe diff`: what changed between two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, Store

comparing = typer.Typer(rich_markup_mode=None)

_RESULTS = "id of a run or its beginning; latest, latest~1; or a model."


@comparing.command()
def diff(
    store: Store,
    before: Annotated[str, typer.Argument(help=f"The earlier results: {_RESULTS}")],
    after: Annotated[str, typer.Argument(help="The later results.")],
    iou: Annotated[
        float, typer.Option(min=0.01, max=1, help="At least, for two objects to be the same one.")
    ] = 0.5,
    changed_iou: Annotated[
        float, typer.Option(min=0, max=1, help="Below, the mask of an object has changed.")
    ] = 0.8,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for objects, images and classes.parquet, and the pictures."),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Images to draw into --out, the most different first.")
    ] = 10,
    fail_above: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exit with 1 if a larger share of the objects differs."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two runs object by object: what is the same, changed, lost, gained.

    Objects are one where the IoU of their masks is at least --iou. A pair has changed where its
    class differs or its IoU is below --changed-iou. Of models with a class per pixel, Dice of each
    class is told too.

    \b
    segpipe diff results/ latest~1 latest
    segpipe diff results/ classical unet-nuclei --out changes/
    segpipe diff results/ 20261124T03 20261125T03 --fail-above 0.02
    """
    from rich.console import Console

    import segpipe
    from segpipe.cli.console import progress_display
    from segpipe.report.diff.compare import compare_runs
    from segpipe.report.diff.runs import find_results

    snapshot = segpipe.open_store(store)
    records = snapshot.records()
    old, new = (find_results(snapshot, name, records) for name in (before, after))
    with progress_display(Console(stderr=True), "pairing images", "comparing") as observe:
        outcome = compare_runs(snapshot, old, new, iou, changed_iou, out, pictures, observe)
    if as_json:
        typer.echo(json.dumps(outcome.to_dict()))
    else:
        typer.echo(outcome.to_text())
    if fail_above is not None and outcome.totals.share > fail_above:
        typer.echo(
            f"segpipe: {outcome.totals.share:.2%} of the objects differ; --fail-above allows "
            f"{fail_above:.2%}",
            err=True,
        )
        raise typer.Exit(1)
