"""The forward pass against the machine: images per second, operations, and the share of the peak.

The peak is that of a 3x3 convolution in the same precision and on the same threads. All take turns,
round after round, and the quickest call of each counts: what the machine can do when nobody else
is at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from segpipe.bench import networks
from segpipe.bench.conditions import Conditions
from segpipe.bench.images import simulated_images
from segpipe.bench.table import table
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve_model
from segpipe.segmenters.preprocess import to_planes
from segpipe.spec import Precision, Preprocess, RangeScaling

OURS = "segpipe"
"""The variant that is the segmenter's own `forward`."""

TARGET = 0.85
"""Wanted share of the convolution peak, of the best variant of a U-Net."""

NUCLEI = 40
"""In each image: what a detector does depends on what it sees."""

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What to measure.

    Attributes:
        models: names, weights files, or `networks.RESNET34_UNET`.
        precisions: each with every model.
        shape: (H, W) of the images.
        images: in a batch, or as many as the model's segmenter takes at a time where it is fewer.
        variants: of `networks.VARIANTS`, besides our own.
    """

    models: tuple[str, ...]
    precisions: tuple[Precision, ...]
    shape: tuple[int, int]
    images: int
    variants: tuple[str, ...]
    device: str
    threads: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Entrant:
    """A network that takes part; `flops` are of one call, which does `images`."""

    model: str
    variant: str
    precision: Precision
    images: int
    flops: int
    run: Call


@dataclass(frozen=True, slots=True)
class Speed:
    """Of the quickest call; `share` is of the convolution peak in the same precision."""

    model: str
    variant: str
    precision: Precision
    images: int
    gflop_per_image: float
    images_per_second: float
    gflops: float
    share: float


@dataclass(frozen=True, slots=True)
class Peak:
    """GFLOP per second: of a matrix product, and of a 3x3 convolution."""

    product: float
    convolution: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was measured; by precision, and in the order of the question."""

    peaks: dict[Precision, Peak]
    speeds: list[Speed]

    def to_dict(self, conditions: Conditions) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "benchmark": "forward",
            "peak_gflops": {precision: asdict(peak) for precision, peak in self.peaks.items()},
            "networks": {
                f"{speed.model} {speed.precision} {speed.variant}": {
                    name: value
                    for name, value in asdict(speed).items()
                    if name not in ("model", "variant", "precision")
                }
                for speed in self.speeds
            },
            "conditions": asdict(conditions),
        }

    def to_text(self, conditions: Conditions) -> str:
        """Tables for a terminal."""
        peaks = [("peak, GFLOP/s", "matrix product", "3x3 convolution")]
        for precision, peak in self.peaks.items():
            peaks.append((precision, f"{peak.product:,.0f}", f"{peak.convolution:,.0f}"))
        rows = [("network", "", "", "GFLOP", "images/s", "GFLOP/s", "of the peak")]
        rows += [
            (
                one.model,
                one.precision,
                one.variant,
                f"{one.gflop_per_image:.1f}",
                f"{one.images_per_second:.2f}",
                f"{one.gflops:,.0f}",
                f"{one.share:.0%}",
            )
            for one in self.speeds
        ]
        wanted = f"wanted of the peak, a ResNet-34 U-Net: >= {TARGET:.0%}"
        return "\n\n".join([table(peaks), table(rows), wanted, conditions.to_text()])


def measure(question: Question) -> Answer:
    """Ask all networks in turn, round after round.

    Raises:
        SpecError: no such model or precision.
    """
    entrants = [
        entrant
        for model in question.models
        for precision in question.precisions
        for entrant in _entrants(model, precision, question)
    ]
    products = [networks.product(one, question.device) for one in question.precisions]
    convolutions = [networks.convolutions(one, question.device) for one in question.precisions]
    works = [*products, *chain(*convolutions), *((one.run, one.flops) for one in entrants)]
    rates = iter(
        networks.in_own_thread(question.threads, lambda: best_rates(works, question.rounds))
    )
    product = [next(rates) for _ in products]
    convolution = [max(next(rates) for _ in sizes) for sizes in convolutions]
    peaks = dict(zip(question.precisions, map(Peak, product, convolution), strict=True))
    return Answer(
        peaks,
        [
            _speed(entrant, rate, peaks[entrant.precision])
            for entrant, rate in zip(entrants, rates, strict=True)
        ],
    )


def best_rates(works: Sequence[tuple[Call, int]], rounds: int) -> list[float]:
    """GFLOP/s of the quickest call of each, in turn, round after round.

    The first call is not counted: libraries choose how to compute in it, or compile.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(1 + rounds):
        for (run, _), times in zip(works, seconds, strict=True):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return [flops / min(times[1:]) / 1e9 for (_, flops), times in zip(works, seconds, strict=True)]


def _entrants(name: str, precision: Precision, question: Question) -> list[Entrant]:
    """The segmenter itself, and each variant of its network that there is."""
    model = None
    if name != networks.RESNET34_UNET:
        asked = {"device": question.device, "precision": precision}
        model = resolve_model(name, "segpipe bench forward", **asked)
    fields = simulated_images(question.images, question.shape, NUCLEI)
    images = [field.image for field in fields]
    found: list[Entrant] = []
    size = question.images
    if model is not None:
        size = min(size, model.spec.batch_of(question.shape))
        segmenter = build(model.spec, model.weights_path, question.threads)
        batch = [segmenter.prepare(image) for image in images[:size]]
    rule = model.spec.model.preprocess if model is not None else Preprocess(scaling=RangeScaling())
    assert rule is not None
    planes = networks.stack([to_planes(one.pixels, rule) for one in images[:size]], question.device)
    network = networks.load_network(model).to(question.device)
    flops = networks.count_flops(network, planes)
    if model is not None:
        found.append(Entrant(name, OURS, precision, size, flops, lambda: segmenter.forward(batch)))
    for variant in question.variants:
        network = networks.load_network(model).to(question.device)
        run = networks.as_variant(network, variant, precision, planes)
        if run is not None:
            found.append(Entrant(name, variant, precision, size, flops, run))
    return found


def _speed(entrant: Entrant, rate: float, peak: Peak) -> Speed:
    gflop = entrant.flops / entrant.images / 1e9
    return Speed(
        entrant.model,
        entrant.variant,
        entrant.precision,
        entrant.images,
        gflop_per_image=gflop,
        images_per_second=rate / gflop,
        gflops=rate,
        share=rate / peak.convolution,
    )
