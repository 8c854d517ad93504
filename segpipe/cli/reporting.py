"""`segpipe report`: the page of a night."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, Store

reporting = typer.Typer(rich_markup_mode=None)


@reporting.command()
def report(
    store: Store,
    run: Annotated[
        str | None, typer.Option(help="A run of the night, as `segpipe show` lists it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="HTML file to write. [default: report.html beside the run's record; of a run "
            "that is at work, report-RUN.html here]"
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="Measured column of objects whose distributions are shown too, class by class; "
            "may be given several times."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the page of the newest night: what was done, what failed, what is unlike before.

    A run that is at work, given by --run, is told as far as it has come.

    \b
    segpipe report results/
    segpipe report results/ --out night.html
    segpipe report results/ --run 20261122T030000000Z-4f1c2e --out night.html
    segpipe report results/ --column eccentricity --column mean_intensity --out night.html
    """
    import segpipe
    from segpipe.report.morning import morning, newest_night, write_morning

    snapshot = segpipe.open_store(store)
    told = morning(snapshot, newest_night(snapshot.files, run), column or ())
    if out is None and told.at_work:
        out = Path(f"report-{told.tonight.run_ids[-1]}.html")
    if out is not None:
        out.write_text(told.html(), "utf-8")
        path = str(out)
    else:
        path = f"{snapshot.files.address}/{write_morning(snapshot.files, told)}"
    if as_json:
        typer.echo(json.dumps({**told.to_dict(), "page": path}))
        return
    typer.echo(told.headline)
    for sentence in told.alarms:
        typer.echo(f"alarm: {sentence}")
    typer.echo(path)
