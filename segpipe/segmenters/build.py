"""From a spec to a segmenter on its device; each kind loads only what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_never

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.weights import sha256_file
from segpipe.spec import SegmentSpec


def build(
    spec: SegmentSpec, weights_path: Path | None, threads: int | None = None
) -> Segmenter[Any, Any]:
    """Load the model of a spec.

    Args:
        spec: what to build.
        weights_path: its weights, whose sha256 must be the spec's; None where it has none.
        threads: torch's threads in this process; None leaves them as they are.

    Raises:
        WeightsError: no weights, other weights, or weights of another architecture.
        SpecError: a spec that does not fit together.
    """
    match spec.model.kind:
        case "classical":
            from segpipe.segmenters.classical import ClassicalSegmenter

            return ClassicalSegmenter(spec)
        case "unet":
            from segpipe.segmenters.unet import UNetSegmenter

            _set_threads(threads)
            return UNetSegmenter(spec, _verified(spec, weights_path))
        case "mask_rcnn" | "faster_rcnn":
            from segpipe.segmenters.detectors import DetectorSegmenter

            _set_threads(threads)
            return DetectorSegmenter(spec, _verified(spec, weights_path))
        case "rcnn":
            from segpipe.segmenters.rcnn import RCNNSegmenter

            _set_threads(threads)
            return RCNNSegmenter(spec, _verified(spec, weights_path))
        case "truth":
            raise SpecError(f"{spec.model.name!r} is a truth, which `segpipe import` brings")
        case kind:
            assert_never(kind)


def _verified(spec: SegmentSpec, path: Path | None) -> Path:
    if path is None:
        raise WeightsError(f"model {spec.model.name!r} needs its weights file, and none is given")
    sha256 = sha256_file(path)
    if sha256 != spec.model.weights_sha256:
        raise WeightsError(
            f"{path}: sha256 {sha256}, but model {spec.model.name!r} is of weights with "
            f"{spec.model.weights_sha256}; the file has changed, or is another one"
        )
    return path


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
