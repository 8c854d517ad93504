"""Run-length codes of masks, in the compressed string form of COCO (Lin et al., ECCV 2014).

Pixels are taken column by column. The code is the lengths of runs that are 0, 1, 0, 1, ... in
turn, beginning with 0. From the fourth length on, the difference to the length two before is
written. Each number becomes characters of 5 bits, lowest first, two's complement, 0x20 marking
that more follow, plus 48.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segpipe.errors import SpecError
from segpipe.records import CroppedMask

_BITS = 5
_MORE = 0x20
_ZERO = 48
_MAX_CHARACTERS = 7
"""Of one number: 35 bits, images of up to 2**34 pixels."""

Counts = npt.NDArray[np.int64]


def encode(mask: CroppedMask, shape: tuple[int, int]) -> str:
    """The code of one object's mask in an image; the cost is that of the crop, not of the image.

    Args:
        mask: inside the image; a mask without a pixel is fine.
        shape: (H, W) of the image, at most 2**34 pixels.

    Raises:
        ValueError: the crop reaches out of the image, or the image is too large.
    """
    height, width = shape
    h, w = mask.mask.shape
    if mask.y0 < 0 or mask.x0 < 0 or mask.y0 + h > height or mask.x0 + w > width:
        raise ValueError(f"crop {h}x{w} at ({mask.y0}, {mask.x0}) reaches out of {height}x{width}")
    if height * width >= 1 << (_BITS * _MAX_CHARACTERS - 1):
        raise ValueError(f"{height}x{width} pixels are too many for a run-length code")
    edges = _edges(mask, height)
    # A mask that holds the image's last pixel has no run after it.
    inner = edges[edges < height * width]
    return _to_string(np.diff(inner, prepend=0, append=height * width))


def decode(counts: str, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask of a code: (H, W) bool.

    Raises:
        SpecError: it is no such code, or not of an image of this shape.
    """
    height, width = shape
    runs = _from_string(counts)
    if runs.sum() != height * width:
        raise SpecError(
            f"run-length code: {runs.sum()} pixels, but an image of {height}x{width} "
            f"has {height * width}"
        )
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def area(counts: str) -> int:
    """Number of mask pixels.

    Raises:
        SpecError: it is no such code.
    """
    return int(_from_string(counts)[1::2].sum())


def _edges(mask: CroppedMask, height: int) -> Counts:
    """Where the value changes, ascending, as positions in the column-major image."""
    h, w = mask.mask.shape
    padded = np.zeros((w, h + 2), np.int8)
    padded[:, 1:-1] = mask.mask.T
    columns, rows = np.nonzero(np.diff(padded, axis=1))
    edges = (columns + mask.x0) * height + rows + mask.y0
    # A run that ends at the image's bottom may go on at the top of the next column: no edge there.
    starts, ends = edges[0::2], edges[1::2]
    joined = np.zeros(len(edges), np.bool_)
    joined[1:-1:2] = joined[2::2] = ends[:-1] == starts[1:]
    return edges[~joined]


def _to_string(runs: Counts) -> str:
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    shifted = numbers[:, None] >> (_BITS * np.arange(_MAX_CHARACTERS))
    # A number is complete when what is left is only copies of the sign bit just written.
    written_sign = (shifted >> (_BITS - 1)) & 1
    left = shifted >> _BITS
    more = left != -written_sign
    characters = (shifted & (_MORE - 1)) + np.where(more, _MORE, 0) + _ZERO
    needed = np.ones_like(more)
    needed[:, 1:] = np.logical_and.accumulate(more[:, :-1], axis=1)
    return bytes(characters[needed].astype(np.uint8)).decode("ascii")


def _from_string(code: str) -> Counts:
    """Run lengths, each at least 0.

    Raises:
        SpecError: a character outside of the alphabet, a cut code, a number too large or negative.
    """
    try:
        characters = np.frombuffer(code.encode("ascii"), np.uint8).astype(np.int64) - _ZERO
    except UnicodeEncodeError:
        raise _malformed(code, "a character that is not ASCII") from None
    if not len(characters):
        raise _malformed(code, "empty")
    if characters.min() < 0 or characters.max() >= 2 * _MORE:
        raise _malformed(code, "a character outside of '0'..'o'")
    last = np.flatnonzero(characters < _MORE)
    if not len(last) or last[-1] != len(characters) - 1:
        raise _malformed(code, "cut off")
    first = np.concatenate(([0], last[:-1] + 1))
    length = last - first + 1
    if length.max() > _MAX_CHARACTERS:
        raise _malformed(code, f"a number of more than {_MAX_CHARACTERS} characters")
    position = np.arange(len(characters)) - np.repeat(first, length)
    numbers = np.add.reduceat((characters & (_MORE - 1)) << (_BITS * position), first)
    negative = characters[last] & (1 << (_BITS - 1)) != 0
    numbers -= np.where(negative, 1 << (_BITS * length), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    if numbers.min() < 0:
        raise _malformed(code, "a negative run length")
    return numbers


def _malformed(code: str, problem: str) -> SpecError:
    return SpecError(f"not a run-length code of a mask ({problem}): {code[:40]!r}")
