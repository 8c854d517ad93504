"""`segpipe bench`: measurements, made where they are asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.bench_scale import large
from segpipe.cli.bench_speed import speed
from segpipe.errors import SpecError

bench = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure speed and quality on this machine.",
)
bench.add_typer(large)
bench.add_typer(speed)


@bench.callback()
def _bench() -> None:
    """Every measurement is a command of its own."""


@bench.command()
def family(
    images: Annotated[
        str | None,
        typer.Argument(help="Folder, glob, image or archive. [default: simulated fields]"),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Folder of label images, paired by file stem.")
    ] = None,
    rcnn: Annotated[str, typer.Option(help="R-CNN: a model or a weights file.")] = "rcnn-nuclei",
    mask_rcnn: Annotated[
        str, typer.Option(help="Mask R-CNN, and without its masks Faster R-CNN.")
    ] = "mask-rcnn-nuclei",
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 3,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch. [default: one for each core]")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare R-CNN, Faster R-CNN and Mask R-CNN with one backbone on the same images.

    \b
    segpipe bench family
    segpipe bench family fields/ --truth labels/ --rounds 5

    Time per image, in its parts; with truth, also how many objects the proposals and the final
    boxes overlap.
    """
    if truth is not None and images is None:
        raise SpecError(f"--truth {truth}: of which images? The simulated ones have their own")
    from segpipe.bench.family import build_family, compare
    from segpipe.bench.family_report import FamilyReport, describe_comparison
    from segpipe.bench.images import read_images, simulated_images

    threads = threads or len(os.sched_getaffinity(0))
    models, contestants = build_family(rcnn, mask_rcnn, device, threads)
    found = read_images(images, truth) if images else simulated_images()
    outcomes = compare(contestants, found, rounds, lambda name: typer.echo(name, err=True))
    report = FamilyReport(outcomes, describe_comparison(models, found, rounds, threads))
    typer.echo(json.dumps(report.to_dict()) if as_json else report.to_text())


@bench.command()
def store(
    images: Annotated[int, typer.Option(min=1, help="Label images to write and read.")] = 256,
    size: Annotated[int, typer.Option(min=16, help="Side of these images, in pixels.")] = 512,
    objects: Annotated[int, typer.Option(min=1, help="To paste into 2000 x 2000 pixels.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 3,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write; it is removed again. [default: temporary]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure masks, tables, a commit, and the way from a detector's answer to a label image.

    \b
    segpipe bench store
    segpipe bench store --images 1000 --out /mnt/archive

    The folder decides what is measured of the disk: files are on stable storage when they count.
    """
    import tempfile

    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.pasting import measure_pasting
    from segpipe.bench.store import (
        measure_commit,
        measure_masks,
        measure_table,
        simulated_fields,
    )
    from segpipe.bench.store_report import StoreReport

    if out is not None and not out.is_dir():
        raise SpecError(f"--out {out}: is no folder; make it first, or leave the option out")
    fields = simulated_fields(size, images)
    with tempfile.TemporaryDirectory(dir=out) as made:
        report = StoreReport(
            size,
            rounds,
            measure_masks(Path(made), fields, images, rounds),
            measure_table(fields, rounds),
            measure_commit(Path(made), fields, rounds),
            measure_pasting(objects, rounds),
            describe_conditions(),
        )
    typer.echo(json.dumps(report.to_dict()) if as_json else report.to_text())
