"""`segpipe run`, `retry`, `demo`: the job itself, with its progress and its summary."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segpipe.cli.options import Store
from segpipe.cli.terminal import INTERRUPTED, TOO_MANY_FAILED, quiet_libraries

if TYPE_CHECKING:
    from segpipe.spec import RunSpec

segmenting = typer.Typer(rich_markup_mode=None)

Workers = Annotated[int | None, typer.Option(help="Local worker processes.")]
DaskAddress = Annotated[
    str | None, typer.Option(help="A running Dask scheduler, e.g. tcp://host:8786.")
]
MemoryGb = Annotated[
    float | None, typer.Option(help="Memory of each worker. [default: its share of 80 %]")
]


@segmenting.command()
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
    verify_content: Annotated[
        bool,
        typer.Option(
            "--verify-content", help="Tell what is done by each file's hash: reads all of them."
        ),
    ] = False,
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

    Run it again after a crash, or tomorrow: only what is new or changed is done, by size and
    time, or by content.
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
        "verify_content": verify_content or None,
        "max_failed": max_failed,
    }
    values = load_config(config) if config else {}
    values |= {key: value for key, value in given.items() if value is not None}
    spec = parse(RunSpec, values, str(config or "segpipe run"))

    _segment(spec, as_json)


@segmenting.command()
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
    from segpipe.clusters import elsewhere
    from segpipe.execution import failed_runs
    from segpipe.spec import RunSpec, parse

    given = {"workers": workers, "dask_address": dask_address, "memory_gb": memory_gb}
    update = {key: value for key, value in given.items() if value is not None}
    specs = failed_runs(store)
    if not specs:
        typer.echo("no image has failed", err=True)
    for spec in specs:
        _segment(parse(RunSpec, elsewhere(spec.model_dump(), update), "segpipe retry"), as_json)


@segmenting.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the archive, the store and pictures.")],
) -> None:
    """Segment a small archive that is made on the spot, and show what came of it."""
    quiet_libraries()
    from segpipe.cli.showcase import showcase

    showcase(out)


def _segment(spec: RunSpec, as_json: bool) -> None:
    """Run, show progress and a summary; exit codes as at the top."""
    from rich.console import Console

    from segpipe.cli.console import progress_display, summary_text

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
