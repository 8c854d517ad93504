"""The pixels of the images of an export, in the frame of their results."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from segpipe.errors import InputError
from segpipe.export.files import write_below
from segpipe.export.pixels import encode_pixels, suffix_of
from segpipe.export.tiled_tiff import write_tiled
from segpipe.geometry import Box
from segpipe.records import Pixels
from segpipe.report.source import Source, open_source
from segpipe.store.snapshot import Row, Snapshot, is_large


class ImageCopies:
    """Reads each image again and writes what was segmented: upright, without loss.

    Attributes:
        absent: path of an image -> why its pixels could not be written.
    """

    def __init__(self, snapshot: Snapshot, out: Path, wanted: bool) -> None:
        """`wanted` is whether pixels are written at all."""
        self._snapshot = snapshot
        self._out = out
        self._wanted = wanted
        self.absent: dict[str, str] = {}

    def write(self, image: Row, stem: PurePosixPath) -> PurePosixPath:
        """Write the pixels of an image, if they are wanted and can be had.

        Args:
            stem: path below the folder of the export, without a suffix.

        Returns:
            Where it lies, or would lie as a PNG; that of a large image is a TIFF of tiles.
        """
        path = stem.with_name(f"{stem.name}.png")
        if not self._wanted:
            return path
        try:
            with open_source(image) as source:
                if is_large(image):
                    return self._write_large(image, source, stem)
                pixels = source.read(source.whole)
        except InputError as error:
            self.absent[image["path"]] = error.detail
            return path
        path = stem.with_name(stem.name + suffix_of(pixels))
        write_below(self._out, path, partial(encode_pixels, pixels))
        return path

    def _write_large(self, image: Row, source: Source, stem: PurePosixPath) -> PurePosixPath:
        """As a TIFF of tiles."""
        path = stem.with_name(f"{stem.name}.tif")
        colours = image["channels"] == 3

        def read(box: Box) -> Pixels:
            return source.read(box) if colours else source.read(box)[:, :, 0]

        shape = (*source.shape, 3) if colours else source.shape
        place = self._snapshot.georeference(image)
        about = {"shape": shape, "dtype": image["dtype"], "read": read, "georeference": place}
        write_below(self._out, path, partial(write_tiled, compression="zlib", **about))
        return path
