"""`segpipe bench` of what grows: `scale`, `planning`, `query`, `view` and large images."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, Precision

large = typer.Typer(rich_markup_mode=None)


@large.command()
def scale(
    images: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Images; several times. [default: 100, 1000 and 10000]"),
    ] = None,
    side: Annotated[int, typer.Option(min=8, help="Of an image, pixels.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Segment collections of several sizes, with a light model: what all but the model costs.

    \b
    segpipe bench scale
    segpipe bench scale --images 1000 --images 100000 --json

    Time per image and whether it grows, memory, files, and how long it takes to find that nothing
    is to do. On two cores 100,000 images take about ten minutes.
    """
    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.scale import measure
    from segpipe.bench.scale_report import ScaleReport

    with tempfile.TemporaryDirectory(prefix="segpipe-bench-") as folder:
        sizes = sorted(images or (100, 1000, 10_000))
        outcomes = measure(sizes, side, Path(folder), lambda said: typer.echo(said, err=True))
    report = ScaleReport(outcomes, side, describe_conditions())
    typer.echo(json.dumps(report.to_dict()) if as_json else report.to_text())


@large.command()
def planning(
    images: Annotated[int, typer.Option(min=1, help="In the archive.")] = 1_000_000,
    new: Annotated[int | None, typer.Option(min=0, help="[default: a thousandth]")] = None,
    part_images: Annotated[
        int, typer.Option(min=1, help="Images in a Parquet part of the store; 64: not compacted.")
    ] = 1_000_000,
    files: Annotated[
        bool, typer.Option("--files", help="Also make so many empty files, and list them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Plan the first night of a generated archive, and one on which little is new.

    \b
    segpipe bench planning
    segpipe bench planning --images 10000000
    segpipe bench planning --part-images 64 --files
    """
    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.planning import Archive, first_night, later_night, list_files
    from segpipe.bench.planning_report import PlanningReport

    archive = Archive(images, min(images, images // 1000 if new is None else new), part_images)
    with tempfile.TemporaryDirectory(prefix="segpipe-bench-") as folder:
        typer.echo(f"{images:,} images, all new", err=True)
        first = first_night(archive, Path(folder))
        typer.echo(f"{images:,} images, {archive.new:,} new", err=True)
        nights = [first, later_night(archive, Path(folder))]
        listed = list_files(images, Path(folder)) if files else None
    conditions = describe_conditions(packages=("segpipe", "duckdb", "pyarrow"))
    report = PlanningReport(archive, nights, conditions, listed)
    typer.echo(json.dumps(report.to_dict()) if as_json else report.to_text())


@large.command()
def query(
    objects: Annotated[int, typer.Option(min=1, help="Rows to ask.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Ask a large store questions, before and after it is compacted.

    \b
    segpipe bench query
    segpipe bench query --objects 10000000 --json

    Beside each, DuckDB alone on the same files.
    """
    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.query import measure
    from segpipe.bench.query_report import QueryReport

    with tempfile.TemporaryDirectory(prefix="segpipe-bench-") as folder:
        outcome = measure(
            objects, Path(folder) / "store", rounds, lambda said: typer.echo(said, err=True)
        )
    report = QueryReport(
        outcome, rounds, describe_conditions(packages=("segpipe", "duckdb", "pyarrow"))
    )
    typer.echo(json.dumps(report.to_dict()) if as_json else report.to_text())


@large.command()
def view(
    objects: Annotated[int, typer.Option(min=1, help="In the store.")] = 1_000_000,
    side: Annotated[
        int | None,
        typer.Option(min=1024, help="Look at one image of so many pixels a side instead."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Ask what the first page of `segpipe view` asks, over many objects.

    \b
    segpipe bench view
    segpipe bench view --objects 10000000 --json
    segpipe bench view --side 20000
    """
    from segpipe.bench import large_view, viewer
    from segpipe.bench.conditions import describe_conditions

    def observe(said: str) -> None:
        typer.echo(said, err=True)

    as_text = viewer.as_text if side is None else large_view.as_text
    with tempfile.TemporaryDirectory(prefix="segpipe-bench-") as folder:
        if side is None:
            outcome = viewer.measure(objects, Path(folder) / "store", rounds, observe)
        else:
            outcome = large_view.measure(side, Path(folder), rounds, observe)
    conditions = describe_conditions(packages=("segpipe", "duckdb", "pyarrow"))
    told = {**outcome, "rounds": rounds, "conditions": asdict(conditions)}
    typer.echo(json.dumps(told) if as_json else as_text(outcome, rounds))


@large.command()
def seams(
    objects: Annotated[
        list[int] | None,
        typer.Option(min=1, help="On a slide; several times. [default: 100000 and 1000000]"),
    ] = None,
    core: Annotated[int, typer.Option(min=1024, help="Longest side of a tile's core.")] = 2048,
    halo: Annotated[int, typer.Option(min=33, help="Seen beyond the core, pixels.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Merge the objects of a large image's tiles, which see those near their borders twice.

    \b
    segpipe bench seams
    segpipe bench seams --objects 10000000 --core 4096
    """
    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.seams import Slide, measure, to_dict, to_text

    slides = [Slide(number, core, halo) for number in sorted(objects or (100_000, 1_000_000))]
    outcomes = measure(slides, lambda said: typer.echo(said, err=True))
    conditions = describe_conditions(threads=1, packages=("segpipe", "numpy", "scipy", "numba"))
    told = to_dict(outcomes, conditions)
    typer.echo(json.dumps(told) if as_json else to_text(outcomes, conditions))


@large.command("large")
def large_images(
    side: Annotated[
        list[int] | None,
        typer.Option(min=1024, help="Pixels a side; several times. [default: 4096 and 8192]"),
    ] = None,
    tile: Annotated[
        list[int] | None,
        typer.Option(help="tiles.side; several times. [default: what suits the model]"),
    ] = None,
    model: Annotated[str, typer.Option(help="One that looks at parts.")] = "unet-nuclei",
    precision: Precision = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Look at large images part by part, and at small images of the same content.

    \b
    segpipe bench large
    segpipe bench large --side 8192 --tile 1280 --tile 4288 --precision fp32
    segpipe bench large --model mask-rcnn-nuclei --side 4096 --rounds 3
    """
    from segpipe.bench import large as costs
    from segpipe.bench.conditions import describe_conditions
    from segpipe.errors import SpecError

    sides = side or [4096, 8192]
    if odd := [one for one in sides if one % costs.FIELD]:
        raise SpecError(f"--side {odd[0]}: a multiple of {costs.FIELD} is needed")
    with tempfile.TemporaryDirectory(prefix="segpipe-bench-") as folder:
        found = costs.measure(
            costs.Question(model, precision, rounds),
            sides,
            tile or [None],
            Path(folder),
            lambda said: typer.echo(said, err=True),
        )
    conditions = describe_conditions()
    told = costs.to_dict(found, model, conditions)
    typer.echo(json.dumps(told) if as_json else costs.to_text(found, model, conditions))


@large.command()
def regions(
    side: Annotated[int, typer.Option(min=2048, help="Pixels a side of the image.")] = 8192,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 40,
    as_json: AsJson = False,
) -> None:
    """Read regions of 1024 x 1024 pixels of a large image, in each format.

    \b
    segpipe bench regions
    segpipe bench regions --side 16384 --json
    """
    from segpipe.bench import regions as reading
    from segpipe.bench.conditions import describe_conditions

    with tempfile.TemporaryDirectory(prefix="segpipe-bench-") as folder:
        outcome = reading.measure(
            side, Path(folder), rounds, lambda said: typer.echo(said, err=True)
        )
    packages = ("segpipe", "tifffile", "imagecodecs", "pillow", "numpy")
    conditions = describe_conditions(packages=packages)
    if as_json:
        told = {"side": side, "rounds": rounds, "formats": outcome}
        typer.echo(json.dumps({**told, "conditions": asdict(conditions)}))
    else:
        typer.echo(f"{reading.as_text(outcome, side)}\n{conditions.to_text()}")
