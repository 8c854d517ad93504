"""The command line: arguments in, calls to the same functions that Python users call.

Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 done, but more images failed than
`--max-failed` allows; 130 interrupted. Imports that take time are inside the commands.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segpipe.cli_bench import bench
from segpipe.cli_store import keeping
from segpipe.errors import SegpipeError, SpecError

if TYPE_CHECKING:
    from segpipe.spec import RunSpec

app = typer.Typer(
    name="segpipe",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Batch segmentation of image archives: masks in Zarr, objects in Parquet.\n\n\b\n"
    "  segpipe run photos/ --store results/\n"
    '  segpipe query results/ "SELECT path, n_objects FROM latest_images"\n'
    "  segpipe overlay results/ cell-7.png --out cell-7-overlay.png",
)

app.add_typer(bench, name="bench")
app.add_typer(keeping)

TOO_MANY_FAILED = 3
INTERRUPTED = 130
QUERY_BYTES = 2 << 30
"""Memory of a query."""

Store = Annotated[str, typer.Argument(help="Folder or address of the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Workers = Annotated[int | None, typer.Option(help="Local worker processes.")]
DaskAddress = Annotated[
    str | None, typer.Option(help="A running Dask scheduler, e.g. tcp://host:8786.")
]
MemoryGb = Annotated[
    float | None, typer.Option(help="Memory of each worker. [default: its share of 80 %]")
]
OfModel = Annotated[str | None, typer.Option("--model", help="Only results of this model.")]


class QueryFormat(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class ExportFormat(StrEnum):
    PNG = "png"
    COCO = "coco"


@app.command()
def run(
    source: Annotated[
        str, typer.Argument(help="Folder (recursive), glob, image, manifest, zip or tar.")
    ],
    store: Annotated[str, typer.Option(help="Folder of the store; made if absent.")],
    model: Annotated[
        str | None, typer.Option(help="Name from `segpipe models`, or a weights file.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with the keys of a run spec; options here win.")
    ] = None,
    chunk_images: Annotated[
        int | None, typer.Option(help="Images in a chunk, the unit of commit. [default: 64]")
    ] = None,
    workers: Workers = None,
    dask_address: DaskAddress = None,
    memory_gb: MemoryGb = None,
    device: Annotated[
        str | None, typer.Option(help="auto (what this machine has), cpu or cuda.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto (what the model is as good in), fp32, bf16 or int8.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="torch, or for U-Nets compiled or openvino. [default: torch]")
    ] = None,
    max_failed: Annotated[
        float | None,
        typer.Option(help="Exit with 3 if a larger fraction of images fails. [default: 0.1]"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object on stdout.")
    ] = False,
) -> None:
    """Segment what is new in a collection of images.

    \b
    segpipe run photos/ --store results/
    segpipe run "fields/**/*.tif" --store results/ --model unet-nuclei --workers 2
    segpipe run archive.zip --store results/ --model classical --json
    segpipe run scans/ --config nightly.toml --store results/

    Run it again after a crash, or tomorrow: only what is not committed yet is done.
    """
    from segpipe.spec import RunSpec, load_config, parse

    given = {
        "source": source,
        "store": store,
        "model": model,
        "chunk_images": chunk_images,
        "workers": workers,
        "dask_address": dask_address,
        "memory_gb": memory_gb,
        "device": device,
        "precision": precision,
        "backend": backend,
        "max_failed": max_failed,
    }
    values = load_config(config) if config else {}
    values |= {key: value for key, value in given.items() if value is not None}
    spec = parse(RunSpec, values, str(config or "segpipe run"))

    _segment(spec, as_json)


@app.command()
def retry(
    store: Store,
    workers: Workers = None,
    dask_address: DaskAddress = None,
    memory_gb: MemoryGb = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="End with one JSON object per model on stdout.")
    ] = False,
) -> None:
    """Do the failed images again, as the run that they failed in was asked for.

    
    segpipe retry results/
    segpipe retry results/ --memory-gb 16
    """
    from segpipe.execution import failed_runs
    from segpipe.spec import RunSpec, parse

    given = {"workers": workers, "dask_address": dask_address, "memory_gb": memory_gb}
    update = {key: value for key, value in given.items() if value is not None}
    specs = failed_runs(store)
    if not specs:
        typer.echo("no image has failed", err=True)
    for spec in specs:
        _segment(parse(RunSpec, spec.model_dump() | update, "segpipe retry"), as_json)


@app.command()
def query(
    store: Store,
    sql: Annotated[str, typer.Argument(help="One SELECT.")],
    format: Annotated[  # noqa: A002 - the option's name
        QueryFormat, typer.Option(help="How to print the answer.")
    ] = QueryFormat.TABLE,
) -> None:
    """Ask a question in SQL (DuckDB), read-only.

    Views: images, objects, runs; latest_images and latest_objects hold the newest result of each
    image.

    \b
    segpipe query results/ "SELECT reason, count(*) FROM images GROUP BY reason"
    segpipe query results/ "SELECT * FROM latest_objects WHERE area > 500" --format csv
    """
    import segpipe
    from segpipe.query import format_table
    from segpipe.query import query as ask
    from segpipe.query.address_space import limited_address_space

    snapshot = segpipe.open_store(store)
    with limited_address_space(QUERY_BYTES):
        answer = ask(snapshot, sql, memory_limit=f"{QUERY_BYTES}B")
    format_table(answer, format.value, sys.stdout)


@app.command("eval")
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


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or the name of a shipped recipe.")],
    data: Annotated[Path, typer.Option(help="Folder of annotated images.")],
    out: Annotated[
        Path | None, typer.Option(help="Weights file to write. [default: NAME.safetensors]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint of a stopped run.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto (what this machine has), cpu or cuda.")
    ] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make crops.")] = 1,
) -> None:
    """Train a model on annotated images, and write a weights file that `segpipe run` takes.

    \b
    segpipe train unet-nuclei --data nuclei/
    segpipe train mine.toml --data cells/ --out cells.safetensors
    segpipe train mine.toml --data cells/ --out cells.safetensors --resume
    torchrun --nproc-per-node 4 -m segpipe train mine.toml --data cells/

    DATA holds images/ and labels/ (label images of the same names, 0 is background) and, if there
    are patients or kinds of images, index.csv; or images/ and annotations.json (COCO). Checkpoint,
    TensorBoard and Parquet logs, the curves and a panel of results go into OUT's .training folder.
    """
    from rich.console import Console

    from segpipe.console import training_display, training_text
    from segpipe.training import Job, read_recipe
    from segpipe.training import train as train_model

    parsed, text = read_recipe(recipe)
    job = Job(
        parsed, text, data, out or Path(f"{parsed.name}.safetensors"), resume, device, workers
    )
    try:
        with training_display(Console(stderr=True)) as observe:
            trained = train_model(job, observe)
    except KeyboardInterrupt:
        typer.echo("segpipe: interrupted; the same command with --resume goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if trained is not None:
        typer.echo(training_text(trained))


@app.command()
def quantize(
    weights: Annotated[Path, typer.Argument(help="Weights file of a U-Net.")],
    data: Annotated[Path, typer.Option(help="Folder of annotated images it was trained on.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
    images: Annotated[int, typer.Option(min=1, help="Training images to find ranges on.")] = 32,
) -> None:
    """Make a weights file that runs in 8 bits too, with --backend openvino --precision int8.

    \b
    segpipe quantize cells.safetensors --data cells/ --out cells-int8.safetensors

    Ranges are found on training images. Nothing is written if average precision or Dice on the
    validation images falls by more than 0.003.
    """
    from segpipe.training.quantise import quantise

    typer.echo(quantise(weights, data, out, images, partial(typer.echo, err=True)).to_text())


@app.command()
def export(
    store: Store,
    format: Annotated[  # noqa: A002 - the option's name
        ExportFormat, typer.Option(help="png: 16-bit label images; coco: JSON with RLE masks.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    model: OfModel = None,
    as_json: AsJson = False,
) -> None:
    """Write the newest results for other programs.

    \b
    segpipe export results/ --format png --out labels/
    segpipe export results/ --format coco --out coco/
    """
    import segpipe
    from segpipe.export.coco import export_coco
    from segpipe.export.labels import export_labels

    snapshot = segpipe.open_store(store).of_model(model)
    write = export_labels if format is ExportFormat.PNG else export_coco
    summary = write(snapshot, out)
    typer.echo(json.dumps(summary.to_dict()) if as_json else summary.to_text())


@app.command()
def overlay(
    store: Store,
    image: Annotated[str, typer.Argument(help="image_id, path in the collection, or file name.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    model: OfModel = None,
) -> None:
    """Draw an image with its masks, boxes, class names and scores.

    \b
    segpipe overlay results/ fields/a1.tif --out a1.png
    """
    import segpipe
    from segpipe.report.picture import draw_image

    draw_image(segpipe.open_store(store).of_model(model), image).save(out, "PNG")
    typer.echo(str(out))


@app.command()
def show(store: Store, as_json: AsJson = False) -> None:
    """Say what a store holds: runs, counts, models, failures."""
    import segpipe
    from segpipe.report.overview import overview

    found = overview(segpipe.open_store(store))
    typer.echo(json.dumps(found.to_dict()) if as_json else found.to_text())


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that `segpipe run --model` takes."""
    from segpipe.report.models import model_table
    from segpipe.segmenters.catalog import models as cards

    listed = cards()
    typer.echo(json.dumps([asdict(card) for card in listed]) if as_json else model_table(listed))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the archive, the store and pictures.")],
) -> None:
    """Segment a small archive that is made on the spot, and show what came of it."""
    quiet_libraries()
    from segpipe.showcase import showcase

    showcase(out)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(f"segpipe {metadata.version('segpipe')}")
        raise typer.Exit


def _segment(spec: RunSpec, as_json: bool) -> None:
    """Run, show progress and a summary; exit codes as at the top."""
    from rich.console import Console

    from segpipe.console import progress_display, summary_text

    quiet_libraries()
    import segpipe

    try:
        with progress_display(Console(stderr=True)) as observe:
            summary = segpipe.run(spec, observe)
    except KeyboardInterrupt:
        typer.echo("segpipe: interrupted; run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
    else:
        typer.echo(summary_text(summary))
    if summary.failed_fraction > spec.max_failed:
        typer.echo(
            f"segpipe: {summary.failed} of {summary.ok + summary.failed} images failed, more than "
            f"--max-failed {spec.max_failed:g} allows",
            err=True,
        )
        raise typer.Exit(TOO_MANY_FAILED)


def quiet_libraries() -> None:
    """Prefect and Dask, embedded in a terminal's run, speak up only when something is wrong.

    Warnings of our own are told. Defaults in the environment, which the workers inherit; the
    user's own settings win.
    """
    defaults = {
        "PREFECT_LOGGING_LEVEL": "WARNING",
        # Errors reach the terminal as one line of our own, and the server whole.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DASK_LOGGING__DISTRIBUTED": "error",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    warnings = logging.StreamHandler()
    warnings.setFormatter(logging.Formatter("segpipe: %(message)s"))
    logging.getLogger("segpipe").addHandler(warnings)


def main() -> Any:
    """Entry point of the `segpipe` program."""
    try:
        app()
    except SpecError as error:
        _fail(error, 2)
    except SegpipeError as error:
        _fail(error, 1)
    except OSError as error:
        from segpipe.store.files import failure_text

        _fail(f"{error.filename or 'a file'}: {failure_text(error)}", 1)


def _fail(error: Exception | str, code: int) -> None:
    typer.echo(f"segpipe: {error}", err=True)
    sys.exit(code)
