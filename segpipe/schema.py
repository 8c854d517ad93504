"""The Parquet tables: name, Arrow type, unit and meaning of every column.

Pixel positions have their origin at the centre of the top-left pixel, y down, x right; boxes are
half-open. A null means "not known or not defined", never zero; there is no NaN in the tables.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TRUTH_MODELS = "truth(-.*)?"
"""The whole of a value of `model`, as a regular expression, where a truth was imported and no model
found anything. Such rows are no newer result than those of models."""

HASH = pa.string()
FLOATS = pa.list_(pa.float32())


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it is called, how it is stored, in what unit, and what it means."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str


_KEYS = (
    Column("run_id", pa.string(), "", "run that made this row; sorts by start time"),
    Column("spec_id", HASH, "", "sha256 of all that can change a result"),
    Column("chunk_id", HASH, "", "chunk in which the image was processed"),
    Column("image_id", HASH, "", "derived from the uri; the same in every run"),
)

IMAGES = (
    *_KEYS,
    Column("model", pa.string(), "", "name of the model; truth, or truth-..., of a truth"),
    Column("uri", pa.string(), "", "where the image was read, percent-encoded"),
    Column("path", pa.string(), "", "path relative to the collection"),
    Column("size_bytes", pa.int64(), "B", "size as listed"),
    Column("mtime_ns", pa.int64(), "ns", "modification time as listed, since 1970"),
    Column(
        "etag",
        pa.string(),
        "",
        "version as listed, of an object in a bucket or an OME-Zarr folder; null for files",
    ),
    Column("sha256", HASH, "", "of the bytes that were read; null if they could not be"),
    Column("status", pa.string(), "", "'ok' or 'failed'"),
    Column("reason", pa.string(), "", "why it failed, from a closed list; null when ok"),
    Column("detail", pa.string(), "", "one sentence about the failure; null when ok"),
    Column("height", pa.int32(), "px", "in the frame of all results"),
    Column("width", pa.int32(), "px", "in the frame of all results"),
    Column("channels", pa.int32(), "", "channels after conversion, 1 or 3"),
    Column("dtype", pa.string(), "", "pixel type after conversion, as in numpy"),
    Column("format", pa.string(), "", "container format, by content"),
    Column("decoder", pa.string(), "", "library and version that read the pixels"),
    Column("orientation", pa.int32(), "", "EXIF orientation found and applied, 1 to 8"),
    Column(
        "n_frames",
        pa.int32(),
        "",
        "frames or pages in the file; the first is used, or the uri's",
    ),
    Column(
        "pixel_size_y_um",
        pa.float64(),
        "um",
        "from one row to the next, as the file says; null if not known",
    ),
    Column(
        "pixel_size_x_um",
        pa.float64(),
        "um",
        "from one column to the next, as the file says; null if not known",
    ),
    Column("n_nonfinite", pa.int64(), "px", "NaN or infinite samples, read as 0"),
    Column("n_objects", pa.int32(), "", "objects found; null when failed"),
    Column("n_discarded", pa.int32(), "", "detections without one mask pixel, not objects"),
    Column("saturated", pa.bool_(), "", "as many detections as the limit: some may be missing"),
    Column("input_changed", pa.bool_(), "", "the file changed while the chunk was processed"),
    Column("mask_array", pa.string(), "", "label_image array, relative to the store"),
    Column("semantic_array", pa.string(), "", "semantic array, relative to the store; or null"),
    Column(
        "mask_index",
        pa.int32(),
        "",
        "index of the image in them; null where they are its own",
    ),
    Column("decode_seconds", pa.float32(), "s", "reading and decoding"),
    Column("forward_seconds", pa.float32(), "s", "its share of its batch's forward pass"),
    Column("finish_seconds", pa.float32(), "s", "post-processing and measuring"),
)

OBJECTS = (
    *_KEYS,
    Column("label", pa.int32(), "", "value of the object in the label image, from 1"),
    Column("class_id", pa.int32(), "", "class of the object; 0 is the background"),
    Column("class_name", pa.string(), "", "name of the class"),
    Column("score", pa.float32(), "0..1", "confidence; null where the method gives none"),
    Column("bbox_y0", pa.int32(), "px", "first row of the object"),
    Column("bbox_x0", pa.int32(), "px", "first column of the object"),
    Column("bbox_y1", pa.int32(), "px", "row after the last"),
    Column("bbox_x1", pa.int32(), "px", "column after the last"),
    Column("area", pa.int64(), "px", "full area, hidden parts included"),
    Column("area_visible", pa.int64(), "px", "pixels that carry the label in the label image"),
    Column("centroid_y", pa.float64(), "px", "mean row of the full mask"),
    Column("centroid_x", pa.float64(), "px", "mean column of the full mask"),
    Column(
        "perimeter", pa.float32(), "px", "border length, 4-connected (Benkrid and Crookes 2000)"
    ),
    Column("area_um2", pa.float64(), "um^2", "area; null where the pixel size is not known"),
    Column(
        "centroid_y_um", pa.float64(), "um", "centroid_y; null where the pixel size is not known"
    ),
    Column(
        "centroid_x_um", pa.float64(), "um", "centroid_x; null where the pixel size is not known"
    ),
    Column(
        "perimeter_um",
        pa.float32(),
        "um",
        "perimeter; null also where the pixel sizes differ by more than 1 %",
    ),
    Column("eccentricity", pa.float32(), "0..1", "of the ellipse with the same second moments"),
    Column("solidity", pa.float32(), "0..1", "area / area of the convex hull of its pixel squares"),
    Column("orientation", pa.float32(), "rad", "of the major axis against the y axis, -pi/2..pi/2"),
    Column("mean_intensity", FLOATS, "source units", "per channel, in the file's own values"),
    Column("min_intensity", FLOATS, "source units", "per channel"),
    Column("max_intensity", FLOATS, "source units", "per channel"),
    Column("std_intensity", FLOATS, "source units", "per channel, population"),
    Column("touches_border", pa.bool_(), "", "has a pixel in the first or last row or column"),
    Column(
        "rle", pa.string(), "", "full mask as COCO RLE counts; null where the label image has it"
    ),
    Column("mask_array", pa.string(), "", "label_image array, relative to the store"),
    Column(
        "mask_index",
        pa.int32(),
        "",
        "index of the image in it; null where it is its own",
    ),
)

TABLES = {"images": IMAGES, "objects": OBJECTS}

LATER_COLUMNS = {
    "images": ("etag", "pixel_size_y_um", "pixel_size_x_um"),
    "objects": ("area_um2", "centroid_y_um", "centroid_x_um", "perimeter_um"),
}
"""Columns that parts in stores of an older format lack, and which are null there."""


def arrow_schema(table: str) -> pa.Schema:
    """The Arrow schema of `images` or `objects`, with unit and meaning as field metadata."""
    return pa.schema(
        [
            pa.field(
                column.name, column.type, metadata={"unit": column.unit, "meaning": column.meaning}
            )
            for column in TABLES[table]
        ]
    )
