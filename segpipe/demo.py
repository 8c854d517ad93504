"""A small archive to try segpipe on, made without a download.

folder/archive/photographs/   real photographs and micrographs that scikit-image ships
folder/archive/fields/        simulated fluorescence, 16 bits, and one broken file
folder/truth/                 exact label images of the fields, under the same stems
folder/SOURCES.md             where the photographs come from, and their licences
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from segpipe.demo_fields import Scene, simulate_field
from segpipe.errors import SpecError

FIELD_SHAPE = (512, 512)
N_FIELDS = 12
BROKEN = "broken.png"


@dataclass(frozen=True, slots=True)
class Photograph:
    """A file of scikit-image's wheel, and what its documentation says of its origin."""

    name: str
    shows: str
    licence: str


PHOTOGRAPHS = (
    Photograph(
        "astronaut.png",
        "Eileen Collins, astronaut; NASA Great Images",
        "public domain, no known copyright restrictions",
    ),
    Photograph("cell.png", "a cell in saline, quantitative phase; Mueller et al. 2018", "CC0"),
    Photograph("chelsea.png", "a cat; Stefan van der Walt", "CC0"),
    Photograph("coffee.png", "a coffee cup; Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    Photograph(
        "coins.png",
        "Greek coins from Pompeii; Brooklyn Museum",
        "no known copyright restrictions",
    ),
    Photograph(
        "hubble_deep_field.jpg",
        "the Hubble eXtreme Deep Field; NASA",
        "public domain (NASA media guidelines)",
    ),
    Photograph(
        "ihc.png",
        "colon glands, immunohistochemistry; Center for Microscopy and Molecular Imaging",
        "no known copyright restrictions",
    ),
)

# From easy to hard: sparse and bright, crowded, small, dim and noisy, hazy.
_SCENES = (
    (30, Scene(clustering=0.2)),
    (60, Scene(clustering=0.8)),
    (100, Scene(radius=13.0)),
    (40, Scene(photons=50.0)),
    (35, Scene(radius=22.0, haze=0.25)),
    (80, Scene(radius=16.0, clustering=0.6, photons=120.0)),
)


@dataclass(frozen=True, slots=True)
class DemoArchive:
    """Where the demo's files are.

    Attributes:
        source: the collection to segment, photographs and fields.
        truth: 16-bit label PNGs of the fields.
        n_images: files of the collection, the broken one included.
        n_broken: files that cannot be read.
    """

    source: Path
    truth: Path
    n_images: int
    n_broken: int = 1


def make_archive(folder: Path, seed: int = 0) -> DemoArchive:
    """Make the archive; the same seed makes the same bytes.

    A file that is there already as it should be is not touched, so that a second run over the
    archive finds nothing to do.

    Raises:
        SpecError: scikit-image or one of its photographs is not installed.
    """
    source, truth = folder / "archive", folder / "truth"
    for photograph in PHOTOGRAPHS:
        _keep(source / "photographs" / photograph.name, _photograph_bytes(photograph.name))
    fields = source / "fields"
    for name, image, labels in _fields(seed):
        encode = _tiff if name.endswith(".tif") else _png
        _keep(fields / name, encode(image))
        _keep(truth / f"{Path(name).stem}.png", _png(labels))
    whole = (fields / "field_02.png").read_bytes()
    _keep(fields / BROKEN, whole[: len(whole) // 2])
    _keep(folder / "SOURCES.md", _sources().encode())
    return DemoArchive(source, truth, n_images=len(PHOTOGRAPHS) + N_FIELDS + 1)


def _fields(
    seed: int,
) -> Iterator[tuple[str, npt.NDArray[np.uint16], npt.NDArray[np.uint16]]]:
    """File name, image and labels; each field has a generator of its own."""
    for index, seeds in enumerate(np.random.SeedSequence(seed).spawn(N_FIELDS)):
        n_objects, scene = _SCENES[index % len(_SCENES)]
        rng = np.random.default_rng(seeds)
        suffix = "png" if index % 2 else "tif"
        yield f"field_{index + 1:02}.{suffix}", *simulate_field(rng, FIELD_SHAPE, n_objects, scene)


def _photograph_bytes(name: str) -> bytes:
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise SpecError("the demo's photographs come with scikit-image, which is not installed")
    path = Path(package.origin).parent / "data" / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise SpecError(
            f"{path}: this photograph of the demo comes with scikit-image's wheel, but cannot be "
            f"read: {error.strerror}; install scikit-image again"
        ) from error


def _png(pixels: npt.NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _tiff(pixels: npt.NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, compression="zlib", metadata=None)
    return buffer.getvalue()


def _sources() -> str:
    lines = [f"- `{photo.name}`: {photo.shows}. {photo.licence}." for photo in PHOTOGRAPHS]
    return "\n".join(
        [
            "# Where these images come from",
            "",
            "`archive/photographs`: copied from the installed scikit-image, whose documentation",
            "(`skimage.data`) says:",
            "",
            *lines,
            "",
            "`archive/fields` and `truth`: simulated by segpipe.",
            "",
        ]
    )


def _keep(path: Path, content: bytes) -> None:
    """Write the file unless it already holds just this."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (path.is_file() and path.read_bytes() == content):
        path.write_bytes(content)
