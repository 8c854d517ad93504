"""The comparison of the family as a table and as JSON, with the conditions it was made under."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from segpipe.bench.family import FASTER, MASK, R_CNN, RECALL_AT, Outcome
from segpipe.bench.images import BenchImage
from segpipe.provenance.environment import cpu_model, installed_packages
from segpipe.segmenters.catalog import ResolvedModel

PACKAGES = ("segpipe", "torch", "torchvision", "timm", "opencv-contrib-python-headless", "numpy")

_MILLISECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """What numbers like these depend on.

    Attributes:
        device: name of the processor or the accelerator.
        threads: of torch.
        precision: of each model.
        rounds: that the median is of.
        sizes: `height x width` -> number of images.
        models: name in the family -> the model's name, and the first digits of its sha256.
        options: name in the family -> the model's options.
        packages: versions.
    """

    device: str
    threads: int
    precision: dict[str, str]
    rounds: int
    sizes: dict[str, int]
    models: dict[str, str]
    options: dict[str, dict[str, Any]]
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """Outcomes by name, and the conditions."""

    outcomes: dict[str, Outcome]
    conditions: Conditions

    def slower(self, name: str) -> float:
        """How many times as long as Mask R-CNN a model takes for an image."""
        return self.outcomes[name].seconds.total / self.outcomes[MASK].seconds.total

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; times in milliseconds per image, `recall` by number of proposals."""
        return {
            "models": {name: self._model_dict(name) for name in self.outcomes},
            "conditions": asdict(self.conditions),
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
        return _table(rows)

    def _recalls(self) -> str:
        """Faster and Mask R-CNN propose the same."""
        rows = [("recall at IoU 0.5 of the first", *(f"{n:,}" for n in RECALL_AT), "per image")]
        for label, name in (("selective search", R_CNN), ("region proposal network", FASTER)):
            outcome = self.outcomes[name]
            shares = (f"{share:.3f}" for share in outcome.recall or ())
            rows.append((label, *shares, f"{outcome.proposals:,.0f}"))
        return _table(rows)

    def _conditions(self) -> str:
        found = self.conditions
        sizes = ", ".join(f"{count} of {size}" for size, count in found.sizes.items())
        packages = ", ".join(f"{name} {version}" for name, version in found.packages.items())
        models = ", ".join(f"{name}: {model}" for name, model in found.models.items())
        precisions = ", ".join(dict.fromkeys(found.precision.values()))
        threads = f"{found.threads} thread{'s' * (found.threads != 1)}"
        return (
            f"images: {sizes}; median of {found.rounds} rounds after one to warm up\n"
            f"{found.device}; torch with {threads}, {precisions}\n"
            f"{models}\n{packages}"
        )


def describe_conditions(
    models: Mapping[str, ResolvedModel],
    images: Sequence[BenchImage],
    rounds: int,
    threads: int,
) -> Conditions:
    """The conditions of a comparison on this machine."""
    specs = {name: model.spec for name, model in models.items()}
    sizes = Counter("{} x {}".format(*one.image.header.shape) for one in images)
    installed = installed_packages()
    return Conditions(
        device=_device(specs[MASK].device),
        threads=threads,
        precision={name: spec.precision for name, spec in specs.items()},
        rounds=rounds,
        sizes=dict(sizes),
        models={
            name: f"{spec.model.name} {str(spec.model.weights_sha256)[:12]}"
            for name, spec in specs.items()
        },
        options={name: spec.options.model_dump() for name, spec in specs.items()},
        packages={name: installed[name] for name in PACKAGES if name in installed},
    )


def _device(kind: str) -> str:
    if kind == "cpu":
        return cpu_model()
    from segpipe.segmenters.devices import device_name

    return device_name()


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns, the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
