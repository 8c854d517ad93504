"""torchvision's published COCO weights by name: downloaded on first use, checked, cached.

torchvision publishes the first 8 hex digits of each file's sha256 as part of its name, and nothing
more; these are what is pinned here, on top of HTTPS. 32 bits find damage, not an attack, so such
a file is only ever read as tensors (`weights_only`), and the full sha256 of what was used goes
into the spec and so into every run's record.
"""

from __future__ import annotations

import http.client
import os
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters.weights import sha256_file
from segpipe.spec import ModelSpec, Preprocess, RangeScaling

LICENCE = "BSD-3-Clause"
TRAINED_ON = "COCO 2017"
TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 20

# COCO's category ids go from 1 to 90 with 10 of them unused, which torchvision calls "N/A".
_COCO = """
background, person, bicycle, car, motorcycle, airplane, bus, train, truck, boat,
traffic light, fire hydrant, N/A, stop sign, parking meter, bench, bird, cat, dog, horse,
sheep, cow, elephant, bear, zebra, giraffe, N/A, backpack, umbrella, N/A, N/A, handbag, tie,
suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
skateboard, surfboard, tennis racket, bottle, N/A, wine glass, cup, fork, knife, spoon, bowl,
banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch,
potted plant, bed, N/A, dining table, N/A, N/A, toilet, N/A, tv, laptop, mouse, remote,
keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, N/A, book, clock, vase,
scissors, teddy bear, hair drier, toothbrush
"""
COCO_CLASSES = tuple(" ".join(name.split()) for name in _COCO.split(","))

IMAGENET = Preprocess(scaling=RangeScaling(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""What the ResNet-50 of all of them expects."""


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """One file of torchvision.

    Attributes:
        name: as in `segpipe models`.
        version: of the architecture.
        norm_eps: epsilon of the frozen batch normalisation, where there is one.
        url: where it is.
        sha256_prefix: first 8 hex digits, as published.
        max_bytes: a larger answer is not this file; its size as torchvision states it, rounded up.
    """

    name: str
    kind: Literal["mask_rcnn", "faster_rcnn"]
    version: Literal[1, 2]
    url: str
    sha256_prefix: str
    max_bytes: int
    norm_eps: float = 0.0

    @property
    def task(self) -> Literal["instances", "boxes"]:
        return "instances" if self.kind == "mask_rcnn" else "boxes"

    @property
    def cached(self) -> Path:
        """Where the file is, or would be."""
        return cache_folder() / self.url.rsplit("/", 1)[-1]

    def model(self, sha256: str) -> ModelSpec:
        """The model, with these bytes as its weights."""
        return ModelSpec(
            name=self.name,
            kind=self.kind,
            task=self.task,
            weights_sha256=sha256,
            architecture={
                "backbone": "resnet50_fpn",
                "version": self.version,
                "norm_eps": self.norm_eps,
            },
            classes=COCO_CLASSES,
            preprocess=IMAGENET,
            licence=LICENCE,
        )


def cache_folder() -> Path:
    """`$SEGPIPE_CACHE`, or `segpipe` in the user's cache folder (XDG); it need not exist."""
    own = os.environ.get("SEGPIPE_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segpipe"


def fetch(weights: PublishedWeights) -> tuple[Path, str]:
    """The file, downloaded if it is not in the cache, and the sha256 of its bytes.

    Raises:
        SpecError: it cannot be downloaded; says where to put it by hand.
        WeightsError: the bytes are not the published ones.
    """
    path = weights.cached
    if not path.is_file():
        _download(weights, path)
    sha256 = sha256_file(path)
    if not sha256.startswith(weights.sha256_prefix):
        raise WeightsError(
            f"{path}: sha256 {sha256} does not begin with {weights.sha256_prefix}, so it is not "
            f"{weights.url}; remove it"
        )
    return path, sha256


def _download(weights: PublishedWeights, path: Path) -> None:
    """To a temporary name, checked, then renamed: a file in the cache is whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as (file, name):
            _copy(weights, file)
            file.close()
            sha256 = sha256_file(name)
            if not sha256.startswith(weights.sha256_prefix):
                raise WeightsError(
                    f"{weights.url}: sha256 {sha256} does not begin with "
                    f"{weights.sha256_prefix}; nothing was kept"
                )
            name.replace(path)
    except (OSError, http.client.HTTPException) as error:
        raise SpecError(
            f"model {weights.name!r}: its weights cannot be downloaded from {weights.url}: "
            f"{error}. Where there is no network, put that file at {path}, or choose a model "
            "that needs no download (see `segpipe models`)"
        ) from error


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def _copy(weights: PublishedWeights, target: IO[bytes]) -> None:
    """The answer's body; an OSError where it is cut off or too long."""
    # The address is one of this module, never a user's.
    with urllib.request.urlopen(weights.url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
        expected = answer.headers.get("Content-Length")
        received = 0
        while block := answer.read(BLOCK_BYTES):
            received += len(block)
            if received > weights.max_bytes:
                raise OSError(f"more than {weights.max_bytes:,} bytes")
            target.write(block)
        if expected is not None and received != int(expected):
            raise OSError(f"cut off after {received:,} of {expected} bytes")


_MODELS = "https://download.pytorch.org/models"

PUBLISHED = (
    PublishedWeights(
        name="mask-rcnn-coco",
        kind="mask_rcnn",
        version=1,
        url=f"{_MODELS}/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        sha256_prefix="bf2d0c1e",
        max_bytes=179_000_000,
    ),
    PublishedWeights(
        name="mask-rcnn-coco-v2",
        kind="mask_rcnn",
        version=2,
        url=f"{_MODELS}/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        sha256_prefix="73cbd019",
        max_bytes=186_000_000,
    ),
    PublishedWeights(
        name="faster-rcnn-coco",
        kind="faster_rcnn",
        version=1,
        url=f"{_MODELS}/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        sha256_prefix="258fb6c6",
        max_bytes=168_000_000,
    ),
    PublishedWeights(
        name="faster-rcnn-coco-v2",
        kind="faster_rcnn",
        version=2,
        url=f"{_MODELS}/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        sha256_prefix="dd69338a",
        max_bytes=176_000_000,
    ),
)
