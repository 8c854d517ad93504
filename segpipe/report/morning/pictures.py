"""The gallery: images that are worth a look, small, with what was found in them.

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
from typing import Any

import pyarrow.dataset as ds
from PIL import Image

from segpipe.errors import InputError, Reason, SegpipeError
from segpipe.provenance.redact import redact_url
from segpipe.readers import Reader
from segpipe.report.display import display
from segpipe.report.morning.candidates import Seen
from segpipe.report.overlay import outlined
from segpipe.report.picture import read_again
from segpipe.spec import Limits
from segpipe.store.snapshot import Row, Snapshot

MAX_SIDE = 480
"""Pixels of a picture."""

MAX_PICTURE_BYTES = 60_000
"""Of a picture; 24 of them, in base64, are less than 2 MB."""

MAX_SECONDS = 120.0
"""After which the pictures that are left are not drawn."""

_DECODE_SECONDS = 10.0
_UNTOUCHED = (Reason.WORKER_DIED, Reason.TIME_LIMIT)
"""What failed for such a reason is not read again."""


@dataclass(frozen=True, slots=True)
class Card:
    """An image in the gallery.

    Attributes:
        kinds: why it is there, as in `candidates.CHOSEN`.
        command: shows it large.
        picture: WebP; None where there is none, and `problem` says why.
        size: (width, height) of the picture.
    """

    image: Seen
    kinds: tuple[str, ...]
    command: str
    picture: bytes | None = None
    size: tuple[int, int] = (0, 0)
    problem: str = ""

    @property
    def uri(self) -> str:
        """The picture itself, as an address."""
        return f"data:image/webp;base64,{base64.b64encode(self.picture or b'').decode()}"


def draw_cards(
    snapshot: Snapshot, chosen: Sequence[tuple[Seen, tuple[str, ...]]], model: str, limits: Limits
) -> Iterator[Card]:
    """Pictures of the chosen images, in their order.

    Args:
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
                yield _draw(snapshot, reader, card)
            except (SegpipeError, OSError) as error:
                yield replace(card, problem=_sentence(error))
            except Exception as error:  # of a library, on one image: the page is made without it
                yield replace(card, problem=f"cannot be drawn: {type(error).__name__}")


def _draw(snapshot: Snapshot, reader: Reader, card: Card) -> Card:
    image = card.image
    if image.reason in _UNTOUCHED:
        return replace(card, problem="not read again")
    row = _row(snapshot, image)
    source = read_again(reader, row)
    if image.reason is None:
        labels = snapshot.label_image(row)
        objects = snapshot.objects_of(row)
        semantic = snapshot.semantic(row)
        picture = Image.fromarray(outlined(source.pixels, labels, objects, semantic, MAX_SIDE))
    else:
        picture = Image.fromarray(display(source.pixels))
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return replace(card, picture=_encode(picture), size=picture.size)


def _row(snapshot: Snapshot, image: Seen) -> Row:
    rows = snapshot.of_chunks([image.chunk_id]).dataset("images")
    (row,) = rows.to_table(filter=ds.field("image_id") == image.image_id).to_pylist()
    return dict(row)


def _encode(picture: Image.Image) -> bytes:
    """WebP, as good as fits."""
    data = b""
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
