"""What is benchmarked on: images from anywhere, or fields that are simulated on the spot."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.demo_fields import simulate_field
from segpipe.errors import InputError, SpecError
from segpipe.readers.collection import list_collection
from segpipe.readers.reader import Reader
from segpipe.records import DecodedImage, Header
from segpipe.report.truth import find_truth, pair, read_truth
from segpipe.spec import Limits

FIELDS = 4
FIELD_SHAPE = (256, 256)
NUCLEI = 20

DISTINCT = 32
"""Written images of which no two are the same."""

PIXELS_PER_NUCLEUS = 6500
"""40 nuclei in 512 x 512."""

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class BenchImage:
    """An image, and its true objects if they are known: (H, W), 0 is background."""

    name: str
    image: DecodedImage
    truth: Labels | None = None


def simulated_images(
    count: int = FIELDS, shape: tuple[int, int] = FIELD_SHAPE, nuclei: int = NUCLEI
) -> list[BenchImage]:
    """Fields of nuclei with their truth, always the same ones.

    Args:
        count: how many.
        shape: (H, W) of each.
        nuclei: in each.
    """
    images = []
    for seed in range(count):
        pixels, truth = simulate_field(np.random.default_rng(seed), shape, nuclei)
        header = Header(*shape, 1, str(pixels.dtype), "simulated", "none")
        image = DecodedImage(pixels[..., None], header, sha256="")
        images.append(BenchImage(f"field {seed}", image, truth))
    return images


def write_images(folder: Path, count: int, shape: tuple[int, int], nuclei: bool) -> None:
    """Write generated images to an empty folder, always the same ones.

    Args:
        shape: (H, W).
        nuclei: fields of nuclei, 16-bit PNG, one nucleus on `PIXELS_PER_NUCLEUS`; otherwise
            photographs of bright bodies on an uneven ground, JPEG. No more than `DISTINCT` are
            different.
    """
    make = _field_png if nuclei else _photograph_jpeg
    files = [make(np.random.default_rng(seed), shape) for seed in range(min(count, DISTINCT))]
    for index in range(count):
        path = folder / f"{index:06d}.{'png' if nuclei else 'jpg'}"
        path.write_bytes(files[index % DISTINCT])


def _field_png(rng: np.random.Generator, shape: tuple[int, int]) -> bytes:
    pixels, _ = simulate_field(rng, shape, max(1, shape[0] * shape[1] // PIXELS_PER_NUCLEUS))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _photograph_jpeg(rng: np.random.Generator, shape: tuple[int, int]) -> bytes:
    bodies, _ = simulate_field(rng, shape, max(1, shape[0] * shape[1] // PIXELS_PER_NUCLEUS))
    bright = np.clip(bodies / np.percentile(bodies, 99.8), 0, 1)[..., None]
    colours = rng.uniform(0, 255, (2, 3))
    pixels = colours[0] * (1 - bright) + colours[1] * bright
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def read_images(source: str, truth: Path | None) -> list[BenchImage]:
    """All images of a collection, decoded, in its order.

    Args:
        truth: folder of label images, paired with the images as `segpipe eval` does.

    Raises:
        SpecError: no images, one that cannot be read, or no truth that fits any.
    """
    refs = list(list_collection(source))
    labels = {}
    if truth is not None:
        rows = [{"uri": ref.uri, "path": ref.path} for ref in refs]
        labels = {row["uri"]: path for row, path in pair(rows, find_truth(truth))}
        if not labels:
            raise SpecError(f"{truth}: none of its label images has the name of an image")
    images = []
    with Reader(Limits()) as reader:
        for ref in refs:
            try:
                image = reader.read(ref)
            except InputError as error:
                raise SpecError(f"{ref.path}: {error}") from error
            path = labels.get(ref.uri)
            known = read_truth(path, image.header.shape) if path is not None else None
            images.append(BenchImage(ref.path, image, known))
    return images
