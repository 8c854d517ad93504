"""The comparison of the family as a table and as JSON, with the conditions it was made under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segpipe.bench.conditions import Conditions, describe_conditions
from segpipe.bench.family import FASTER, MASK, R_CNN, RECALL_AT, Outcome
from segpipe.bench.images import BenchImage
from segpipe.bench.table import table
from segpipe.segmenters.catalog import ResolvedModel

PACKAGES = ("segpipe", "torch", "torchvision", "timm", "opencv-contrib-python-headless", "numpy")

_MILLISECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class FamilyConditions:
    """What numbers like these depend on besides the machine.

    Attributes:
        machine: and the versions.
        precision: of each model.
        rounds: that the median is of.
        sizes: `height x width` -> number of images.
        models: name in the family -> the model's name, and the first digits of its sha256.
        options: name in the family -> the model's options.
    """

    machine: Conditions
    precision: dict[str, str]
    rounds: int
    sizes: dict[str, int]
    models: dict[str, str]
    options: dict[str, dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, flat."""
        own = asdict(self)
        return {**own.pop("machine"), **own}


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """Outcomes by name, and the conditions."""

    outcomes: dict[str, Outcome]
    conditions: FamilyConditions

    def slower(self, name: str) -> float:
        """How many times as long as Mask R-CNN a model takes for an image."""
        return self.outcomes[name].seconds.total / self.outcomes[MASK].seconds.total

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; times in milliseconds per image, `recall` by number of proposals."""
        return {
            "benchmark": "family",
            "models": {name: self._model_dict(name) for name in self.outcomes},
            "conditions": self.conditions.to_dict(),
        }

    def to_text(self) -> str:
        """Tables for a terminal."""
        parts = [self._times()]
        if self.outcomes[R_CNN].recall is not None:
            parts.append(self._recalls())
        parts.append(self._conditions())
        return "\n\n".join(parts)

    def _model_dict(self, name: str) -> dict[str, Any]:
        outcome = self.outcomes[name]
        seconds = outcome.seconds
        return {
            "milliseconds": {
                "total": seconds.total * _MILLISECONDS,
                "proposals": seconds.proposals * _MILLISECONDS,
                "network": seconds.network * _MILLISECONDS,
                "rest": seconds.rest * _MILLISECONDS,
            },
            "times_mask_rcnn": self.slower(name),
            "proposals": outcome.proposals,
            "recall": None
            if outcome.recall is None
            else dict(zip(map(str, RECALL_AT), outcome.recall, strict=True)),
            "box_ap50": outcome.box_ap50,
        }

    def _times(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("ms per image", "total", "proposals", "network", "rest", "x Mask R-CNN", "box AP50")
        ]
        for name, outcome in self.outcomes.items():
            seconds = outcome.seconds
            times = (seconds.total, seconds.proposals, seconds.network, seconds.rest)
            rows.append(
                (
                    name,
                    *(f"{part * _MILLISECONDS:,.1f}" for part in times),
                    f"{self.slower(name):.2f}",
                    "-" if outcome.box_ap50 is None else f"{outcome.box_ap50:.3f}",
                )
            )
        return table(rows)

    def _recalls(self) -> str:
        """Faster and Mask R-CNN propose the same."""
        rows = [("recall at IoU 0.5 of the first", *(f"{n:,}" for n in RECALL_AT), "per image")]
        for label, name in (("selective search", R_CNN), ("region proposal network", FASTER)):
            outcome = self.outcomes[name]
            shares = (f"{share:.3f}" for share in outcome.recall or ())
            rows.append((label, *shares, f"{outcome.proposals:,.0f}"))
        return table(rows)

    def _conditions(self) -> str:
        found = self.conditions
        sizes = ", ".join(f"{count} of {size}" for size, count in found.sizes.items())
        models = ", ".join(f"{name}: {model}" for name, model in found.models.items())
        precisions = ", ".join(dict.fromkeys(found.precision.values()))
        return (
            f"images: {sizes}; median of {found.rounds} rounds after one to warm up\n"
            f"{models}; {precisions}\n{found.machine.to_text()}"
        )


def describe_comparison(
    models: Mapping[str, ResolvedModel],
    images: Sequence[BenchImage],
    rounds: int,
    threads: int,
) -> FamilyConditions:
    """The conditions of a comparison on this machine."""
    specs = {name: model.spec for name, model in models.items()}
    sizes = Counter("{} x {}".format(*one.image.header.shape) for one in images)
    return FamilyConditions(
        machine=describe_conditions(specs[MASK].device, threads, PACKAGES),
        precision={name: spec.precision for name, spec in specs.items()},
        rounds=rounds,
        sizes=dict(sizes),
        models={
            name: f"{spec.model.name} {str(spec.model.weights_sha256)[:12]}"
            for name, spec in specs.items()
        },
        options={name: spec.options.model_dump() for name, spec in specs.items()},
    )
