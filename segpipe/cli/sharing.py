"""`segpipe export`: results for other programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segpipe.cli.options import AsJson, OfModel, Store
from segpipe.errors import SpecError

if TYPE_CHECKING:
    from segpipe.export.files import ExportSummary
    from segpipe.store.snapshot import Snapshot

sharing = typer.Typer(rich_markup_mode=None)


class ExportFormat(StrEnum):
    PNG = "png"
    COCO = "coco"
    GEOJSON = "geojson"
    IMAGEJ = "imagej-roi"
    YOLO = "yolo"
    FIFTYONE = "fiftyone"
    PARQUET = "parquet"
    OME_ZARR = "ome-zarr"


_WITH_PIXELS = (ExportFormat.YOLO, ExportFormat.FIFTYONE)


@sharing.command()
def export(
    store: Store,
    format: Annotated[  # noqa: A002 - the option's name
        ExportFormat, typer.Option(help="Of what is written; docs/export.md compares them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    model: OfModel = None,
    run: Annotated[str | None, typer.Option(help="Only results of this run.")] = None,
    results: Annotated[
        bool, typer.Option("--results", help="Of coco: results with scores, not annotations.")
    ] = False,
    with_images: Annotated[
        bool,
        typer.Option("--with-images", help="Of yolo and fiftyone: the pixels of the images too."),
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(help="Only images, or objects, that meet this condition in SQL."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the newest results for other programs.

    \b
    png         label images, 16 bit; of semantic models class images too
    coco        JSON with masks as run-length codes; --results for pycocotools' loadRes
    geojson     polygons with measurements, for QuPath
    imagej-roi  a zip of regions per image, for ImageJ and Fiji
    yolo        polygons in text files, to train Ultralytics' models
    fiftyone    a COCODetectionDataset
    parquet     one file per table
    ome-zarr    OME-Zarr 0.5: the image and its label images, for napari

    --where takes what stands behind WHERE. If it names a column of objects it chooses these, and
    images that have one; else images.

    \b
    segpipe export results/ --format png --out labels/
    segpipe export results/ --format geojson --out qupath/
    segpipe export results/ --format yolo --with-images --out dataset/
    segpipe export results/ --format coco --where "score > 0.9 AND area > 50" --out sure/
    """
    from rich.console import Console

    import segpipe
    from segpipe.cli.console import progress_display

    if results and format is not ExportFormat.COCO:
        raise SpecError(f"--results is of --format coco, not of {format.value}")
    if with_images and format not in _WITH_PIXELS:
        raise SpecError(f"--with-images is of {', '.join(_WITH_PIXELS)}; not of {format.value}")
    snapshot: Snapshot = segpipe.open_store(store)
    if run is not None:
        snapshot = snapshot.of_run(run)
    snapshot = snapshot.of_model(model)
    if where is not None:
        from segpipe.export.selection import select

        snapshot = select(snapshot, where)
    write = _exporter(format, results, with_images)
    with progress_display(Console(stderr=True), "looking", "exporting") as observe:
        # parquet is two tables copied, not image by image
        told = {} if format is ExportFormat.PARQUET else {"observe": observe}
        summary = write(snapshot, out, **told)
    typer.echo(json.dumps(summary.to_dict()) if as_json else summary.to_text())
    if summary.absent:
        raise typer.Exit(1)


def _exporter(
    format_: ExportFormat, results: bool, with_images: bool
) -> Callable[..., ExportSummary]:
    from functools import partial

    match format_:
        case ExportFormat.PNG:
            from segpipe.export.labels import export_labels

            return export_labels
        case ExportFormat.COCO:
            from segpipe.export.coco import export_coco, export_coco_results

            return export_coco_results if results else export_coco
        case ExportFormat.GEOJSON:
            from segpipe.export.geojson import export_geojson

            return export_geojson
        case ExportFormat.IMAGEJ:
            from segpipe.export.imagej import export_imagej

            return export_imagej
        case ExportFormat.YOLO:
            from segpipe.export.yolo import export_yolo

            return partial(export_yolo, with_images=with_images)
        case ExportFormat.FIFTYONE:
            from segpipe.export.coco import export_fiftyone

            return partial(export_fiftyone, with_images=with_images)
        case ExportFormat.PARQUET:
            from segpipe.export.tables import export_parquet

            return export_parquet
        case ExportFormat.OME_ZARR:
            from segpipe.export.ome_zarr import export_ome_zarr

            return export_ome_zarr
