"""`segpipe import`: a truth that others made, beside what models found."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, Store

importing = typer.Typer(rich_markup_mode=None)


@importing.command("import")
def import_(
    store: Store,
    truth: Annotated[
        list[Path],
        typer.Option(
            help="Folder of label images, paired by file stem; or COCO JSON, of instances or "
            "panoptic, which may be given several times."
        ),
    ],
    name: Annotated[
        str, typer.Option(help="truth, or truth-... for one of several truths.")
    ] = "truth",
    as_json: AsJson = False,
) -> None:
    """Bring a truth of the images in a store into it, as a run whose model is named `truth`.

    Then `diff`, `view`, `query` and `export` know it as they know any run. The newest results
    stay those of models. What is there already is not imported again.

    \b
    segpipe import results/ --truth labels/
    segpipe diff results/ truth unet-nuclei
    segpipe import results/ --truth second-reader.json --name truth-second-reader
    """
    from rich.console import Console

    import segpipe
    from segpipe.cli.console import progress_display, summary_text
    from segpipe.truth import import_truth

    with progress_display(Console(stderr=True), "looking", "importing") as observe:
        summary, crowds = import_truth(segpipe.open_store(store), truth, name, observe)
    if as_json:
        typer.echo(json.dumps({**asdict(summary), "crowds": crowds}))
        return
    typer.echo(summary_text(summary, "imported"))
    if crowds:
        typer.echo(f"  {crowds:,} crowd regions left out: COCO does not tell their objects apart")
