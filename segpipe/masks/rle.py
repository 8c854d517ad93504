"""Run-length codes of masks, in the compressed string form of COCO (Lin et al., ECCV 2014).

Pixels are taken column by column. The code is the lengths of runs that are 0, 1, 0, 1, ... in
turn, beginning with 0. From the fourth length on, the difference to the length two before is
written. Each number becomes characters of 5 bits, lowest first, two's complement, 0x20 marking
that more follow, plus 48.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from segpipe.compiled import compiled, readable
from segpipe.errors import SpecError
from segpipe.geometry import Box
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
    runs = _runs(readable(mask.mask, np.bool_), mask.y0, mask.x0, height, width)
    return _characters(runs).tobytes().decode("ascii")


def decode(counts: str, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask of a code: (H, W) bool.

    Raises:
        SpecError: it is no such code, or not of an image of this shape.
    """
    height, width = shape
    runs = _from_string(counts)
    _check_pixels(runs, shape)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def decode_part(counts: str, shape: tuple[int, int], part: Box) -> npt.NDArray[np.bool_]:
    """The same in a part of the image, (h, w); the cost is that of the code and of the part.

    Args:
        part: inside the image.

    Raises:
        SpecError: as `decode`.
    """
    runs = _from_string(counts)
    _check_pixels(runs, shape)
    ends = runs.cumsum()
    mask = np.zeros((part.height, part.width), np.bool_)
    _fill(mask, ends[:-1:2], ends[1::2], shape[0], part.y0, part.x0)
    return mask


def area(counts: str) -> int:
    """Number of mask pixels.

    Raises:
        SpecError: it is no such code.
    """
    return int(_from_string(counts)[1::2].sum())


def _check_pixels(runs: Counts, shape: tuple[int, int]) -> None:
    height, width = shape
    if runs.sum() != height * width:
        raise SpecError(
            f"run-length code: {runs.sum()} pixels, but an image of {height}x{width} "
            f"has {height * width}"
        )


@compiled
def _fill(
    mask: npt.NDArray[np.bool_], begins: Counts, ends: Counts, height: int, y0: int, x0: int
) -> None:
    """Set what lies in `mask` of the runs of 1 of a column-major image; (y0, x0) is its corner."""
    h, w = mask.shape
    for run in range(len(ends)):
        first, last = begins[run] // height, (ends[run] - 1) // height
        for x in range(max(first, x0), min(last + 1, x0 + w)):
            top = begins[run] - x * height if x == first else 0
            bottom = ends[run] - x * height if x == last else height
            for y in range(max(top, y0), min(bottom, y0 + h)):
                mask[y - y0, x - x0] = True


@compiled
def _runs(mask: npt.NDArray[np.bool_], y0: int, x0: int, height: int, width: int) -> Counts:
    """Lengths of the runs of 0, 1, 0, ... in the column-major image."""
    h, w = mask.shape
    runs = np.empty(_changes(mask) + 2, np.int64)
    n = start = 0
    inside = False
    for x in range(w):
        above = (x0 + x) * height + y0
        for y in range(h):
            if mask[y, x] != inside:
                inside = not inside
                runs[n] = above + y - start
                start += runs[n]
                n += 1
        # A run that ends at the image's bottom may go on at the top of the next column.
        if inside and (h < height or x == w - 1):
            inside = False
            runs[n] = above + h - start
            start += runs[n]
            n += 1
    # A mask that holds the image's last pixel has no run after it.
    if start < height * width or n == 0:
        runs[n] = height * width - start
        n += 1
    return runs[:n]


@compiled
def _changes(mask: npt.NDArray[np.bool_]) -> int:
    """How often the value changes along the columns, with zeros around them."""
    h, w = mask.shape
    if h == 0:
        return 0
    n = 0
    for x in range(w):
        n += mask[0, x] + mask[h - 1, x]
    for y in range(1, h):
        for x in range(w):
            n += mask[y, x] != mask[y - 1, x]
    return n


@compiled
def _characters(runs: Counts) -> npt.NDArray[np.uint8]:
    code = np.empty(_MAX_CHARACTERS * len(runs), np.uint8)
    n = 0
    for i in range(len(runs)):
        left = runs[i] - runs[i - 2] if i >= 3 else runs[i]
        more = True
        while more:
            bits = left & (_MORE - 1)
            left >>= _BITS
            # A number is complete when what is left is only copies of the sign bit just written.
            more = left != -(bits >> (_BITS - 1))
            code[n] = bits + _MORE * more + _ZERO
            n += 1
    return code[:n]


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
