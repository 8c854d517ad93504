"""An image of a store with its results drawn on it."""

from __future__ import annotations

from PIL import Image

from segpipe.errors import InputError, Reason
from segpipe.readers import Reader
from segpipe.records import DecodedImage, ImageRef
from segpipe.report.overlay import overlay
from segpipe.spec import Limits
from segpipe.store.snapshot import Row, Snapshot


def draw_image(snapshot: Snapshot, name: str) -> Image.Image:
    """The classic figure of one image: masks, boxes, class names, scores.

    Args:
        snapshot: where the results are; the newest one is drawn.
        name: image_id, path in the collection, uri, or file name.

    Raises:
        SpecError: there is no such image, or it has no result.
        InputError: the image is gone, or is not the one that was segmented.
    """
    row = snapshot.find_image(name)
    snapshot.label_image(row)  # one that failed is told before its image is read
    return draw_row(snapshot, row, read_source(row))


def draw_row(snapshot: Snapshot, row: Row, source: DecodedImage) -> Image.Image:
    """The same of one result.

    Args:
        row: of `images`, `ok`.
        source: the image that it was made from.
    """
    labels, semantic = snapshot.label_image(row), snapshot.semantic(row)
    drawn = overlay(source.pixels, labels, snapshot.objects_of(row), semantic=semantic)
    return Image.fromarray(drawn)


def read_source(row: Row) -> DecodedImage:
    """The pixels that a result was made from, read again.

    Raises:
        InputError: it cannot be read, or its bytes are others than those that were segmented.
    """
    with Reader(limits_of(row)) as reader:
        return read_again(reader, row)


def limits_of(*rows: Row) -> Limits:
    """What an image with a result may cost to be read again: no less than it did then."""
    known = Limits()
    pixels = max((row["height"] * row["width"] for row in rows if row["height"]), default=0)
    size = max((row["size_bytes"] for row in rows), default=0)
    return known.model_copy(
        update={
            "max_pixels": max(known.max_pixels, pixels),
            "max_file_bytes": max(known.max_file_bytes, size),
        }
    )


def read_again(reader: Reader, row: Row) -> DecodedImage:
    """The same with a reader that is open; of an image that failed, whatever is there now."""
    image = reader.read(ImageRef.of_row(row))
    if row["sha256"] not in (None, image.sha256):
        raise InputError(
            Reason.READ_ERROR, f"{row['path']} changed since it was segmented; run it again"
        )
    return image
