"""`segpipe provenance`, `reproduce`: how results came to be, and whether they come again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, Store
from segpipe.errors import SpecError

provenance = typer.Typer(rich_markup_mode=None)

_RUN = "Id of a run or its beginning; latest, latest~1."

Run = Annotated[str | None, typer.Option(help=_RUN)]


@provenance.command("provenance")
def how(
    store: Store,
    object: Annotated[  # noqa: A002 - the option's name
        str | None, typer.Option(help="IMAGE:LABEL, the image by id, path or file name.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="image_id, path, uri or file name.")] = None,
    run: Run = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Also read the image again, or all that the run committed."),
    ] = False,
    crate: Annotated[
        Path | None,
        typer.Option(help="Write the RO-Crate of --run: a new folder, or a .zip to deposit."),
    ] = None,
    with_results: Annotated[
        bool, typer.Option("--with-results", help="In the crate, the rows that the run made.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say how an object, an image or a run came to be; exit 1 if a link does not hold any more.

    Hashes of what lies in the store are computed again. Without an object, an image or a run, the
    runs are listed and what each made.

    \b
    segpipe provenance results/
    segpipe provenance results/ --object cells/a1.tif:7
    segpipe provenance results/ --image cells/a1.tif --verify
    segpipe provenance results/ --run latest --json
    segpipe provenance results/ --run latest --crate run.zip --with-results
    """
    import segpipe
    from segpipe.provenance.runs import find_run, list_runs, trace_run
    from segpipe.provenance.trace import trace_image, trace_object
    from segpipe.report.origin import chain_text, runs_text

    if object and image:
        raise SpecError("give --object or --image, not both")
    snapshot = segpipe.open_store(store)
    run_id = find_run(snapshot.files, run) if run else None
    if crate is not None or with_results:
        if crate is None or run_id is None or object or image:
            raise SpecError("--crate OUT [--with-results] goes with --run ID alone")
        from segpipe.provenance.deposit import deposit

        names = deposit(snapshot, run_id, crate, with_results)
        files = [str(name) for name in names]
        typer.echo(
            json.dumps({"crate": str(crate), "run_id": run_id, "files": files})
            if as_json
            else "\n".join([str(crate), *(f"  {name}" for name in files)])
        )
        return
    if object or image:
        part = snapshot.of_run(run_id) if run_id else snapshot
        chain = (
            trace_object(part, object, verify) if object else trace_image(part, image or "", verify)
        )
    elif run_id:
        chain = trace_run(snapshot, run_id, verify)
    else:
        runs = list(list_runs(snapshot))
        typer.echo(json.dumps(runs) if as_json else runs_text(runs))
        return
    typer.echo(json.dumps(chain.to_dict()) if as_json else chain_text(chain))
    if chain.broken:
        raise typer.Exit(1)


@provenance.command()
def reproduce(
    store: Store,
    run: Annotated[str, typer.Argument(help=f"{_RUN} Of the runs that have results.")],
    images: Annotated[int, typer.Option(min=1, help="In the sample, at most.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample; the same one every time.")] = 0,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, max=0.5, help="Allowed: 1 - IoU of an object, relative difference of a column."
        ),
    ] = 0.0,
    weights: Annotated[
        Path | None, typer.Option(help="Weights file. [default: where the run found it]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Segment a sample of a run again, as it was recorded, and compare; exit 1 if it differs.

    Images that are no longer what they were are told and left out. Other weights than those of
    then are refused; another version of the code is told. The store is not written to.

    \b
    segpipe reproduce results/ latest --images 10
    segpipe reproduce results/ 20261122T0300 --images 100 --seed 7 --json
    segpipe reproduce results/ latest --images 50 --tolerance 0.001
    """
    import segpipe
    from segpipe.cli.terminal import quiet_libraries
    from segpipe.provenance.runs import find_run, find_run_with_results
    from segpipe.reproduction import reproduce as again
    from segpipe.reproduction.verdict import verdict_text

    quiet_libraries()
    snapshot = segpipe.open_store(store)
    run_id = find_run_with_results(snapshot, run)
    if run_id != find_run(snapshot.files, run):
        typer.echo(f"{run} of the runs that have results of a model: {run_id}", err=True)
    found = again(snapshot, run_id, images, seed, tolerance, weights, _tell)
    typer.echo(json.dumps(found.to_dict()) if as_json else verdict_text(found))
    if not found.reproduced:
        raise typer.Exit(1)


def _tell(done: int, total: int) -> None:
    typer.echo(f"{done:,} of {total:,} images", err=True)
