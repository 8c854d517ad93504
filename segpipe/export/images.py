"""The pixels of the images of an export, in the frame of their results."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from segpipe.errors import InputError
from segpipe.export.files import write_below
from segpipe.export.pixels import encode_pixels, suffix_of
from segpipe.report.source import read_source
from segpipe.store.snapshot import Row


class ImageCopies:
    """Reads each image again and writes what was segmented: upright, without loss.

    Attributes:
        absent: path of an image -> why its pixels could not be written.
    """

    def __init__(self, out: Path, wanted: bool) -> None:
        """`wanted` is whether pixels are written at all."""
        self._out = out
        self._wanted = wanted
        self.absent: dict[str, str] = {}

    def write(self, image: Row, stem: PurePosixPath) -> PurePosixPath:
        """Write the pixels of an image, if they are wanted and can be had.

        Args:
            stem: path below the folder of the export, without a suffix.

        Returns:
            Where it lies, or would lie as a PNG.
        """
        path = stem.with_name(f"{stem.name}.png")
        if not self._wanted:
            return path
        try:
            pixels = read_source(image).pixels
        except InputError as error:
            self.absent[image["path"]] = error.detail
            return path
        path = stem.with_name(stem.name + suffix_of(pixels))
        write_below(self._out, path, partial(encode_pixels, pixels))
        return path
