"""True label images and class images: which one belongs to which image, and reading them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError

from segpipe.errors import SpecError
from segpipe.store.snapshot import Row

SUFFIXES = (".png", ".tif", ".tiff")

_ADVICE = "put the truth in the same subfolders, under the same names, as the images"

Entry = TypeVar("Entry")
"""What says where a truth is; its `str` names it in messages."""


def find_truth(folder: Path) -> dict[str, Path]:
    """Label images in a folder and its subfolders, by relative path without suffix.

    Raises:
        SpecError: there is none, or two files differ in their suffix only.
    """
    if not folder.is_dir():
        raise SpecError(f"{folder}: not a folder; true label images are files in a folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        key = _without_suffix(path.relative_to(folder).as_posix())
        if key in found:
            raise SpecError(f"{found[key]} and {path} are both the truth of {key!r}; keep one")
        found[key] = path
    if not found:
        raise SpecError(f"{folder}: holds no label image ({', '.join(SUFFIXES)})")
    return found


def pair(images: Sequence[Row], truth: Mapping[str, Entry]) -> list[tuple[Row, Entry]]:
    """The truth of each image that has one, in the order of the images.

    A truth belongs to the image of the same relative path, with its suffix (`a/b.tif.png` to
    `a/b.tif`) or without (`a/b.png`); the truths and images that are left belong together by
    their name, with suffix or without, whatever their folders.

    Args:
        images: rows of `images`; `path` and `uri` are used.
        truth: by relative path, with or without suffix, as `find_truth` gives it.

    Raises:
        SpecError: a truth fits several images, or several truths fit an image.
    """
    owner: dict[str, Row] = {}
    rest: list[Row] = []
    for row in images:
        keys = row["path"], _without_suffix(row["path"])
        key = next((key for key in keys if key in truth), None)
        if key is None:
            rest.append(row)
        else:
            _claim(owner, key, row, truth)
    by_name = defaultdict(list)
    for key in truth:
        if key not in owner:
            by_name[PurePosixPath(key).name].append(key)
    for row in rest:
        path = PurePosixPath(row["path"])
        fitting = [key for name in dict.fromkeys((path.name, path.stem)) for key in by_name[name]]
        if len(fitting) > 1:
            raise SpecError(
                f"{truth[fitting[0]]} and {truth[fitting[1]]} both fit {row['uri']}; {_ADVICE}"
            )
        for key in fitting:
            _claim(owner, key, row, truth)
    found = {row["uri"]: truth[key] for key, row in owner.items()}
    return [(row, found[row["uri"]]) for row in images if row["uri"] in found]


def _claim(owner: dict[str, Row], key: str, row: Row, truth: Mapping[str, Entry]) -> None:
    if key in owner:
        raise SpecError(f"{truth[key]} fits both {owner[key]['uri']} and {row['uri']}; {_ADVICE}")
    owner[key] = row


def _without_suffix(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def read_truth(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.integer[Any]]:
    """A label image: PNG or TIFF of one channel of integers, 1 to 32 bits, or a palette's indices.

    Args:
        shape: (H, W) that it must have; checked before pixels are read.

    Raises:
        SpecError: it is of another shape, no label image, or cannot be read.
    """
    read = _read_png if path.suffix.lower() == ".png" else _read_tiff
    try:
        labels = read(path, shape)
    except SpecError:
        raise
    except Exception as error:  # what decoders raise on damaged files is not a closed list
        raise SpecError(f"{path}: cannot be read: {error}") from error
    if labels.dtype != bool and not np.issubdtype(labels.dtype, np.integer):
        raise SpecError(f"{path}: holds {labels.dtype}; a label image holds integers")
    if labels.ndim != 2:
        raise SpecError(f"{path}: has {labels.shape[2]} channels; a label image has one")
    if labels.size and labels.min() < 0:
        raise SpecError(f"{path}: holds {labels.min()}; labels are 0 or more")
    return labels.astype(np.uint8) if labels.dtype == bool else labels


def _read_png(path: Path, shape: tuple[int, int]) -> npt.NDArray[Any]:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            _check_shape(path, (image.height, image.width), shape)
            return np.array(image)
    except UnidentifiedImageError as error:
        raise SpecError(f"{path}: is not a PNG file") from error


def _read_tiff(path: Path, shape: tuple[int, int]) -> npt.NDArray[Any]:
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        _check_shape(path, (page.imagelength, page.imagewidth), shape)
        return page.asarray()


def _check_shape(path: Path, found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise SpecError(
            f"{path}: is {found[0]} x {found[1]} pixels (height x width), but the image it belongs "
            f"to is {expected[0]} x {expected[1]}"
        )
