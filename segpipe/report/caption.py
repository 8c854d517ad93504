"""Text in figures: its size, its font, and the caption under a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segpipe.report.display import Picture

_INK = (235, 235, 235)
_PAPER = (24, 24, 24)
_MAX_NAME = 32
_MAX_LINES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A part of a caption: a text, and a colour patch before it in a legend."""

    text: str
    colour: tuple[int, int, int] | None = None


def font_size(shape: tuple[int, ...]) -> int:
    """Of text that is legible in a figure of (height, width) when it is seen whole."""
    return max(14, min(shape) // 48)


def text_font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, so that figures look the same everywhere."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size=size))


def printable(name: str) -> str:
    """A name as one short line, whatever a weights file called its classes."""
    clean = "".join(letter if letter.isprintable() else "?" for letter in name)
    return clean if len(clean) <= _MAX_NAME else clean[: _MAX_NAME - 3] + "..."


def add_caption(picture: Picture, entries: Sequence[Entry], size: int | None = None) -> Picture:
    """The picture with a strip below that holds `entries`, wrapped; what does not fit is counted.

    Args:
        picture: (H, W, 3).
        size: of the text in pixels; None for `font_size` of the picture.

    Returns:
        (H + strip, W, 3).
    """
    height, width = picture.shape[:2]
    size = font_size((height, width)) if size is None else size
    font = text_font(size)
    lines = _wrap(entries, font, width - size)
    step = int(size * 1.5)
    strip = Image.new("RGB", (width, step * len(lines) + size // 2), _PAPER)
    draw = ImageDraw.Draw(strip)
    for row, line in enumerate(lines):
        x, y = size / 2, size / 4 + (row + 0.5) * step
        for entry in line:
            if entry.colour is not None:
                patch = (x, y - size * 0.4, x + size * 0.8, y + size * 0.4)
                draw.rectangle(patch, fill=entry.colour)
                x += size * 1.2
            draw.text((x, y), entry.text, _INK, font, anchor="lm")
            x += font.getlength(entry.text) + size
    return np.concatenate([picture, np.array(strip)])


def _wrap(entries: Sequence[Entry], font: ImageFont.FreeTypeFont, width: int) -> list[list[Entry]]:
    """Entries in lines of at most `width` pixels; the last line ends with how many are left out."""
    lines: list[list[Entry]] = [[]]
    used = 0.0
    for index, entry in enumerate(entries):
        patch = font.size * 1.2 if entry.colour is not None else 0.0
        need = patch + font.getlength(entry.text) + font.size
        if lines[-1] and used + need > width:
            if len(lines) == _MAX_LINES:
                lines[-1][-1] = Entry(f"and {len(entries) - index + 1} more")
                break
            lines.append([])
            used = 0.0
        lines[-1].append(entry)
        used += need
    return lines
