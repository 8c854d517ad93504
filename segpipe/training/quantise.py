"""From a weights file to one that may also be run in 8 bits, if it is as good in them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from segpipe.errors import SegpipeError, SpecError
from segpipe.segmenters.catalog import MAX_LOSS, lowered
from segpipe.segmenters.devices import require_openvino
from segpipe.segmenters.quantisation import PREFIX, recorded_ranges, split_ranges
from segpipe.segmenters.unet import UNetSegmenter, load_unet
from segpipe.segmenters.weights import (
    QuantisationRecord,
    WeightsHeader,
    load_tensors,
    read_header,
    save,
)
from segpipe.spec import parse
from segpipe.training.data import Annotated, data_digest, list_data, of_split, read_example
from segpipe.training.evaluate import Numbers, evaluate, load, segment
from segpipe.training.recipe import Recipe

IMAGES = 32
"""Training images that ranges are found on; more changed little."""


class PrecisionLossError(SegpipeError):
    """A model is worse in 8 bits than is allowed."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """A file that was written, and what its header says of it."""

    out: Path
    record: QuantisationRecord

    def to_text(self) -> str:
        """For people: the metrics of each subgroup in both precisions."""
        lines = [f"{self.out}  ranges of {self.record.images} training images"]
        for group, numbers in self.record.metrics.items():
            values = "  ".join(f"{name} {value:g}" for name, value in numbers.items())
            lines.append(f"  {group:24} {values}")
        return "\n".join(lines)


def quantise(
    weights: Path, data: Path, out: Path, images: int = IMAGES, say: Callable[[str], None] = print
) -> Quantised:
    """Find ranges on training images, measure on validation images, write a file if it holds.

    Which images were trained on is what the recipe in the file's header makes of `data`.

    Args:
        weights: of a U-Net, as `segpipe train` writes it.
        data: the folder of annotated images that it was trained on.
        out: file to write; it can be run in fp32 and bf16 as before.
        images: how many training images are looked at.
        say: is told what is being done.

    Raises:
        SpecError: no such file, no U-Net, no record of its training, or other data.
        PrecisionLossError: a metric of all validation images falls by more than 0.003; nothing is
            written.
    """
    require_openvino()
    header = read_header(weights)
    recipe = _recipe_of(header, weights)
    listed = list_data(data, recipe.data, recipe.classes)
    looked_at = _evenly(of_split(listed, "train"), images)
    exact = load(weights, "cpu", "fp32")
    assert isinstance(exact, UNetSegmenter)
    # As it was trained: what is made ready for inference has other convolutions.
    exact.network = network = load_unet(dict(header.architecture), weights)
    say(f"finds ranges on {len(looked_at)} training images")
    with recorded_ranges(network) as ranges:
        for one in looked_at:
            segment(exact, read_example(one))
    tensors, _ = split_ranges(load_tensors(weights))
    tensors |= {PREFIX + name: extent.contiguous() for name, extent in ranges.items()}
    record = QuantisationRecord(
        data=recipe.data.name,
        data_sha256=data_digest(looked_at),
        images=len(looked_at),
        code_version=metadata.version("segpipe"),
        finished=datetime.now(UTC).date().isoformat(),
    )
    candidate = out.with_name(f".{out.stem}.candidate.safetensors")
    try:
        save(candidate, tensors, header.model_copy(update={"quantisation": record}))
        metrics = _measure(candidate, of_split(listed, "val"), say)
    finally:
        candidate.unlink(missing_ok=True)
    _check(metrics, weights)
    record = record.model_copy(update={"metrics": metrics})
    save(out, tensors, header.model_copy(update={"quantisation": record}))
    return Quantised(out, record)


def _recipe_of(header: WeightsHeader, weights: Path) -> Recipe:
    if header.kind != "unet":
        raise SpecError(f"{weights}: a {header.kind}; only U-Nets run in 8 bits")
    if header.training is None:
        raise SpecError(f"{weights}: does not say which images it was trained on")
    return parse(Recipe, tomllib.loads(header.training.recipe), f"the recipe in {weights}")


def _evenly(data: list[Annotated], number: int) -> list[Annotated]:
    """At most `number` of them, from all over the list."""
    number = min(number, len(data))
    return [data[index * len(data) // number] for index in range(number)]


def _measure(
    candidate: Path, validation: list[Annotated], say: Callable[[str], None]
) -> dict[str, Numbers]:
    """`<subgroup>/<precision>` -> numbers."""
    report: dict[str, Numbers] = {}
    for precision, backend in (("fp32", "torch"), ("int8", "openvino")):
        say(f"measures {precision} on {len(validation)} validation images")
        segmenter = load(candidate, "cpu", precision, backend=backend)
        scores = evaluate(segmenter, (read_example(one) for one in validation))
        report |= {f"{group}/{precision}": numbers for group, numbers in scores.groups.items()}
    return report


def _check(metrics: dict[str, Numbers], weights: Path) -> None:
    exact, rounded = metrics["all/fp32"], metrics["all/int8"]
    for name in lowered(exact, rounded):
        raise PrecisionLossError(
            f"{weights}: {name} is {exact[name]:.4f} in fp32 and {rounded[name]:.4f} in int8 on"
            f" the validation images, which is more than {MAX_LOSS} lower; nothing was written"
        )
