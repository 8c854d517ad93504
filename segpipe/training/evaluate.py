"""How well a model does on annotated images, group by group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segpipe.measure.evaluation import Agreement, Evaluation
from segpipe.records import DecodedImage, Header
from segpipe.segmenters.base import Segmenter
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import RunSpec
from segpipe.training.data import Example

AP_INDICES = {"ap50": 0, "ap75": 5}
"""Where the reported IoU thresholds stand among `evaluation.THRESHOLDS`."""


def compare_methods(weights: Path, examples: list[Example]) -> dict[str, dict[str, float]]:
    """The model of a weights file in fp32 and in bf16, and the baseline that needs no weights.

    Returns:
        `<kind of images>/<method>` -> the numbers of `evaluate`; the method is `fp32`, `bf16` or
        `classical` (Otsu's threshold and a watershed).
    """
    methods = {
        "fp32": RunSpec(source="", store="", model=str(weights), device="cpu", precision="fp32"),
        "bf16": RunSpec(source="", store="", model=str(weights), device="cpu", precision="bf16"),
        "classical": RunSpec(source="", store="", model="classical", device="cpu"),
    }
    report = {}
    for method, run in methods.items():
        model = resolve(run)
        segmenter = build(model.spec, model.weights_path)
        for kind, numbers in evaluate(segmenter, examples).items():
            report[f"{kind}/{method}"] = numbers
    return report


def evaluate(
    segmenter: Segmenter[Any, Any], examples: Iterable[Example]
) -> dict[str, dict[str, float]]:
    """Average precision TP / (TP + FP + FN) at IoU 0.5 and 0.75 for each kind of images.

    Returns:
        Kind -> `images`, `objects` (true ones), and for `ap50` and `ap75` the `_mean` of the
        images' own precisions and the one `_pooled` over all their objects; four decimals.
    """
    agreements: dict[str, list[Agreement]] = defaultdict(list)
    for example in examples:
        image = _as_decoded(example)
        (raw,) = segmenter.forward([segmenter.prepare(image)])
        found = segmenter.finish(raw, image).label_image
        agreements[example.kind].append(Agreement.of(example.image_id, example.labels, found))
    report = {}
    for kind, images in sorted(agreements.items()):
        whole = Evaluation(tuple(images))
        report[kind] = {"images": float(len(images)), "objects": float(whole.pooled.n_truth)}
        for name, index in AP_INDICES.items():
            report[kind][f"{name}_mean"] = round(whole.mean_precisions[index], 4)
            report[kind][f"{name}_pooled"] = round(whole.pooled.precisions[index], 4)
    return report


def _as_decoded(example: Example) -> DecodedImage:
    height, width, channels = example.pixels.shape
    header = Header(height, width, channels, str(example.pixels.dtype), "png", "pillow")
    return DecodedImage(example.pixels, header, sha256="")
