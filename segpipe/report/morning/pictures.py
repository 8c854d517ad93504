"""The gallery: images that are worth a look, with what was found in them.

Each is read again from where it was, in a process of its own. One that is gone, was changed or
hangs says so in its place; nothing that an image does can keep the report from being made.
"""

from __future__ import annotations

import base64
import io
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segpipe.errors import InputError, Reason, SegpipeError
from segpipe.provenance.redact import redact_url
from segpipe.readers import Reader
from segpipe.records import Pixels
from segpipe.report.display import class_colours, display
from segpipe.report.morning.candidates import Seen
from segpipe.report.morning.shapes import MAX_SHAPES, Shape, hex_colour, shapes
from segpipe.report.overlay import outlined
from segpipe.report.picture import overview
from segpipe.report.source import open_source
from segpipe.spec import Limits
from segpipe.store.object_masks import masks_of
from segpipe.store.snapshot import Snapshot

MAX_SIDE = 800
"""Pixels of a picture."""

MAX_PICTURE_BYTES = 75_000
"""Of a picture; 31 of them, in base64, are about 3 MB."""

MAX_LEGEND = 12
"""Classes of a semantic result that are named, those that cover most first."""

MAX_SECONDS = 120.0
"""After which the pictures that are left are not drawn."""

_DECODE_SECONDS = 10.0
_UNTOUCHED = (Reason.WORKER_DIED, Reason.TIME_LIMIT)
"""What failed for such a reason is not read again."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture and what lies over it.

    Attributes:
        picture: WebP.
        size: (width, height) of it, in its pixels.
        shapes: objects, as shapes over the picture; none where they are painted into it.
        legend: (name, `#rrggbb`, share of the image) of the classes of a semantic result.
        painted: objects that are painted into the picture, being too many for shapes.
    """

    picture: bytes
    size: tuple[int, int]
    shapes: tuple[Shape, ...] = ()
    legend: tuple[tuple[str, str, float], ...] = ()
    painted: int = 0

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/webp;base64,{base64.b64encode(self.picture).decode()}"


@dataclass(frozen=True, slots=True)
class Card:
    """An image in the gallery.

    Attributes:
        kinds: why it is there, as in `candidates.CHOSEN`.
        command: shows it large.
        drawn: None where there is no picture, and `problem` says why.
    """

    image: Seen
    kinds: tuple[str, ...]
    command: str
    drawn: Drawn | None = None
    problem: str = ""


def draw_cards(
    snapshot: Snapshot,
    chosen: Sequence[tuple[Seen, tuple[str, ...]]],
    model: str,
    classes: Sequence[str],
    limits: Limits,
) -> Iterator[Card]:
    """Pictures of the chosen images, in their order.

    Args:
        classes: names by class id, the background among them.
        limits: of the runs; decoding has less time here.
    """
    until = time.monotonic() + MAX_SECONDS
    seconds = min(limits.decode_seconds, _DECODE_SECONDS)
    own = limits.model_copy(update={"decode_seconds": seconds})
    with Reader(own, isolated=True) as reader:
        for image, kinds in chosen:
            card = Card(image, kinds, _command(snapshot, image, model))
            if time.monotonic() > until:
                yield replace(card, problem=f"not drawn: {MAX_SECONDS:.0f} s were over")
                continue
            try:
                yield _draw(snapshot, reader, card, classes)
            except (SegpipeError, OSError) as error:
                yield replace(card, problem=_sentence(error))
            except Exception as error:  # of a library, on one image: the page is made without it
                yield replace(card, problem=f"cannot be drawn: {type(error).__name__}")


def _draw(snapshot: Snapshot, reader: Reader, card: Card, classes: Sequence[str]) -> Card:
    image = card.image
    if image.reason in _UNTOUCHED:
        return replace(card, problem="not read again")
    row = snapshot.image_row(image.image_id, image.chunk_id)
    with open_source(row, reader) as source:
        if image.reason is not None:
            return replace(card, drawn=_plain(source.read(source.whole)))
        seen = overview(snapshot, row, source, 4 * MAX_SIDE)
    if seen.semantic is None and len(seen.objects) <= MAX_SHAPES:
        step = -(-max(seen.labels.shape) // MAX_SIDE) * seen.side
        found = shapes(snapshot.objects_of(row), partial(masks_of, snapshot, row), step)
        return replace(card, drawn=replace(_plain(seen.pixels), shapes=found))
    painted = Image.fromarray(
        outlined(seen.pixels, seen.labels, seen.objects, seen.semantic, MAX_SIDE)
    )
    painted.thumbnail((MAX_SIDE, MAX_SIDE))
    if seen.semantic is None:
        drawn = Drawn(_encode(painted), painted.size, painted=len(seen.objects))
    else:
        drawn = Drawn(_encode(painted), painted.size, legend=_legend(seen.semantic, classes))
    return replace(card, drawn=drawn)


def _plain(pixels: Pixels) -> Drawn:
    """The pixels alone, each of the picture the mean of a square of those of the image."""
    step = -(-max(pixels.shape[:2]) // MAX_SIDE)
    picture = Image.fromarray(display(pixels)).reduce(step)
    return Drawn(_encode(picture), picture.size)


def _legend(
    semantic: npt.NDArray[np.unsignedinteger[Any]], classes: Sequence[str]
) -> tuple[tuple[str, str, float], ...]:
    found, counts = np.unique(semantic, return_counts=True)
    colours = class_colours(int(found[-1]) + 1)
    ranked = sorted(zip(counts.tolist(), found.tolist(), strict=True), reverse=True)
    return tuple(
        (
            classes[index] if index < len(classes) else f"class {index}",
            hex_colour(colours[index]),
            count / semantic.size,
        )
        for count, index in ranked
        if index
    )[:MAX_LEGEND]


def _encode(picture: Image.Image) -> bytes:
    """WebP, as good as fits."""
    for quality in (82, 65, 45, 20):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=4)
        data = buffer.getvalue()
        if len(data) <= MAX_PICTURE_BYTES:
            return data
    smaller = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))
    return _encode(smaller) if max(smaller.size) > 16 else data


def _command(snapshot: Snapshot, image: Seen, model: str) -> str:
    """What to type; by the image's id where its path cannot be typed."""
    name = image.path if image.path.isprintable() else image.image_id
    store = redact_url(snapshot.files.address)
    words = ["segpipe", "overlay", store, name, "--model", model, "--out", "image.png"]
    return shlex.join(words)


def _sentence(error: Any) -> str:
    return error.detail if isinstance(error, InputError) else str(error)
