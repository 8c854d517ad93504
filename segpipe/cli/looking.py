"""`segpipe show`, `overlay`, `eval`, `planes`, `models`: what there is, and what came of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, OfModel, Store
from segpipe.errors import SpecError
from segpipe.geometry import Box

looking = typer.Typer(rich_markup_mode=None)


@looking.command()
def show(store: Store, as_json: AsJson = False) -> None:
    """Say what a store holds: runs, counts, models, failures."""
    import segpipe
    from segpipe.report.overview import overview

    found = overview(segpipe.open_store(store))
    typer.echo(json.dumps(found.to_dict()) if as_json else found.to_text())


@looking.command()
def overlay(
    store: Store,
    image: Annotated[str, typer.Argument(help="image_id, path in the collection, or file name.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    model: OfModel = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="Y0,X0,Y1,X1",
            help="Draw this part in full: rows and columns from 0, the last ones not included.",
        ),
    ] = None,
) -> None:
    """Draw an image with its masks, boxes, class names and scores.

    An image over the limit that is looked at part by part is drawn small, as an overview.

    \b
    segpipe overlay results/ fields/a1.tif --out a1.png
    segpipe overlay results/ slide.tif --region 12000,8000,13024,9024 --out part.png
    """
    import segpipe
    from segpipe.report.picture import draw_image

    part = None if region is None else _region(region)
    figure = draw_image(segpipe.open_store(store).of_model(model), image, part)
    figure.picture.save(out, "PNG")
    typer.echo(f"{out}: {figure.note}" if figure.note else str(out))


def _region(text: str) -> Box:
    ends = text.split(",")
    if len(ends) != 4 or not all(end.strip().isdecimal() for end in ends):
        raise SpecError(
            f"--region {text!r}: give Y0,X0,Y1,X1, four whole numbers, such as 0,0,512,512"
        )
    return Box(*map(int, ends))


@looking.command("eval")
def evaluate(
    store: Store,
    truth: Annotated[
        list[Path],
        typer.Option(
            help="Folder of label or class images, paired by file stem; or COCO JSON, of "
            "instances or panoptic, which may be given several times."
        ),
    ],
    model: OfModel = None,
    index: Annotated[
        Path | None, typer.Option(help="CSV with a row per image, for --by and --cluster.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column of --index whose values are reported one by one.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Column of --index that tells which images belong together, such as the "
            "subject: intervals then resample its values. [default: each image for itself]"
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, help="For the 95% intervals; 0 for none.")
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resampling.")] = 0,
    binary_truth: Annotated[
        bool,
        typer.Option(
            "--binary-truth", help="All values above 0 of a truth are the model's one class."
        ),
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write: the worst, median and best image.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare results with a truth: average precision, COCO mAP, panoptic quality, Dice, counts.

    \b
    segpipe eval results/ --truth labels/
    segpipe eval results/ --truth labels/ --index index.csv --by kind --picture examples.png
    segpipe eval results/ --truth classes/ --index index.csv --by subject --cluster subject
    segpipe eval results/ --truth annotations.json --json
    """
    import segpipe
    from segpipe.report.comparison import Comparison
    from segpipe.report.evaluate import evaluate as compare
    from segpipe.report.evaluation import Intervals
    from segpipe.report.evaluation_table import format_evaluation
    from segpipe.report.subgroups import ImageIndex

    comparison = Comparison(segpipe.open_store(store).of_model(model), truth, binary_truth)
    columns = ImageIndex(index) if index is not None else None
    evaluation = compare(comparison, columns, Intervals(by, cluster, seed, resamples))
    if picture is not None:
        from segpipe.report.evaluation_picture import draw_examples

        draw_examples(comparison, evaluation).save(picture, "PNG")
    typer.echo(json.dumps(evaluation.to_dict()) if as_json else format_evaluation(evaluation))


@looking.command()
def planes(
    source: Annotated[str, typer.Argument(help="As of `segpipe run`; no archive.")],
    channels: Annotated[
        str | None,
        typer.Option(
            help="Which become the pixels, in this order, from 0: one, or three with commas "
            "between them. [default: all of them, where they are 1 or 3]"
        ),
    ] = None,
) -> None:
    """Name every plane of the images of SOURCE, focus and moment, as a manifest for `segpipe run`.

    \b
    segpipe planes stacks/ --channels 0 > planes.csv
    segpipe run planes.csv --store results/
    """
    import csv
    import io

    from segpipe.errors import SpecError
    from segpipe.readers.plane_listing import plane_entries

    numbers = None
    if channels is not None:
        parts = channels.split(",")
        if len(parts) not in (1, 3) or not all(part.isdecimal() for part in parts):
            raise SpecError(f"--channels {channels}: one number or three, such as 0 or 2,1,0")
        numbers = tuple(map(int, parts))
    table = io.StringIO(newline="")
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["path"])
    rows.writerows([entry] for entry in plane_entries(source, numbers))
    typer.echo(table.getvalue().encode("utf-8", "surrogateescape"), nl=False)


@looking.command()
def models(as_json: AsJson = False) -> None:
    """List the models that `segpipe run --model` takes."""
    from segpipe.report.models import model_table
    from segpipe.segmenters.catalog import models as cards

    listed = cards()
    typer.echo(json.dumps([asdict(card) for card in listed]) if as_json else model_table(listed))
