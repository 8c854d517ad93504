"""The comparison of the pipeline with its model as tables and as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median, median_low
from typing import Any, get_args

from segpipe.bench.conditions import Conditions
from segpipe.bench.pipeline import EndToEnd, Measured, Round
from segpipe.bench.table import table
from segpipe.clock import CORES, Stage, Wait
from segpipe.spec import SegmentSpec

TARGETS = {"unet": (0.95, 4.0), "mask_rcnn": (0.97, 2.0)}
"""Kind -> wanted share of the forward pass alone, and how many times as fast as the plain loop."""

STAGES: tuple[Stage, ...] = get_args(Stage)
WAITS: tuple[Wait, ...] = get_args(Wait)

_MILLISECONDS = 1000.0
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds per image; a wait takes no cores."""

    wall: float
    cores: float | None


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """What was measured, and under which conditions."""

    measured: Measured
    conditions: Conditions

    @property
    def rounds(self) -> list[Round]:
        return self.measured.rounds

    @property
    def spec(self) -> SegmentSpec:
        return self.measured.spec

    @property
    def typical(self) -> EndToEnd:
        """The run of the round with the median share, which the table of stages is of."""
        share = median_low(one.share for one in self.rounds)
        return next(one.end_to_end for one in self.rounds if one.share == share)

    def stages(self) -> dict[str, Times]:
        """By stage; `orchestrate` is what is in no stage: scheduler, server, record, idle time."""
        run = self.typical
        of = _MILLISECONDS / run.images
        found: dict[str, Times] = {
            stage: Times(run.seconds.get(stage, 0) * of, run.seconds.get(stage + CORES, 0) * of)
            for stage in STAGES
        }
        between = self.measured.workers * run.window - run.seconds["total"]
        outside = run.cores - run.seconds["total" + CORES]
        found["orchestrate"] = Times(max(0.0, between) * of, max(0.0, outside) * of)
        for wait in WAITS:
            found[wait] = Times(run.seconds.get(wait, 0) * of, None)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: medians of the rounds, the stages of the typical one, the conditions."""
        speeds = {
            "forward_only": self._median(lambda one: one.forward_only),
            "end_to_end": self._median(lambda one: one.end_to_end.images_per_second),
            "with_first_chunk": self._median(lambda one: one.end_to_end.with_first_chunk),
        }
        others = {name: self._against(name) for name in self.rounds[0].against}
        return {
            "benchmark": "pipeline",
            "images_per_second": speeds | {name: speed for name, (speed, _) in others.items()},
            "share_of_forward_only": self._median(lambda one: one.share),
            "times_as_fast": {name: times for name, (_, times) in others.items()},
            "seconds": {
                "start": self._median(lambda one: one.end_to_end.start),
                "whole_command": self._median(lambda one: one.end_to_end.whole),
            },
            "milliseconds_per_image": {
                name: {"wall": times.wall} | ({} if times.cores is None else {"cores": times.cores})
                for name, times in self.stages().items()
            },
            "peak_mb": {"worker": self._peak / _MB, "above_model": self._above_model / _MB},
            "conditions": {
                **asdict(self.conditions),
                "model": f"{self.spec.model.name} {str(self.spec.model.weights_sha256)[:12]}",
                "precision": self.spec.precision,
                "batch_images": self.spec.batch_images,
                "batch_pixels": self.spec.batch_pixels,
                "workers": self.measured.workers,
                "sizes": self.measured.sizes,
                "shares": [one.share for one in self.rounds],
            },
        }

    def to_text(self) -> str:
        """Tables for a terminal."""
        return "\n\n".join([self._speeds(), self._stages(), self._device(), self._conditions()])

    def _speeds(self) -> str:
        found = self.to_dict()
        speeds, start = found["images_per_second"], found["seconds"]["start"]
        share, times = TARGETS.get(self.spec.model.kind, (None, None))
        rows = [("images/s", "", "end to end is", "target")]
        rows.append(("forward pass alone", f"{speeds['forward_only']:.2f}",
                     f"{found['share_of_forward_only']:.1%}", _target(share, ".0%")))  # fmt: skip
        rows.append(("end to end", f"{speeds['end_to_end']:.2f}", "", ""))
        rows.append(("  with its first chunk", f"{speeds['with_first_chunk']:.2f}", "", ""))
        for name, faster in found["times_as_fast"].items():
            if faster is None:
                rows.append((name, "-", f"{name} is not installed", ""))
            else:
                wanted = times if name == "loop" else None
                rows.append((name, f"{speeds[name]:.2f}", f"{faster:.2f} x", _target(wanted, "g")))
        whole = found["seconds"]["whole_command"]
        peak = found["peak_mb"]
        return (
            f"{table(rows)}\n\nthe whole command {whole:.1f} s, of which {start:.1f} s until its "
            f"first chunk begins; a worker took at most {peak['worker']:,.0f} MB, "
            f"{peak['above_model']:,.0f} MB above the loaded model"
        )

    def _stages(self) -> str:
        stages = self.stages()
        cores = sum(times.cores or 0 for times in stages.values())
        rows = [("ms per image", "wall", "cores", "of the cores")]
        for name, times in stages.items():
            of = ("", "") if times.cores is None else (
                f"{times.cores:.2f}", f"{times.cores / cores:.1%}"
            )  # fmt: skip
            rows.append((name.replace("_", " "), f"{times.wall:.2f}", *of))
        return table(rows)

    def _device(self) -> str:
        """What the thread on the device does: all of the window, whatever overlaps it."""
        run = self.typical
        whole = self.measured.workers * run.window
        parts = {name: run.seconds.get(name, 0) / whole for name in ("forward", *WAITS)}
        said = ", ".join(f"{name.replace('_', ' ')} {part:.1%}" for name, part in parts.items())
        return f"the device's time: {said}, between chunks {1 - sum(parts.values()):.1%}"

    def _conditions(self) -> str:
        spec, found = self.spec, self.to_dict()["conditions"]
        sizes = ", ".join(f"{count} of {size}" for size, count in self.measured.sizes.items())
        shares = ", ".join(f"{share:.3f}" for share in found["shares"])
        return (
            f"{found['model']}, {spec.precision}, batches of up to {spec.batch_images}, {sizes} "
            f"pixels; {self.measured.workers} worker{'s' * (self.measured.workers != 1)}\n"
            f"median of {len(self.rounds)} rounds, whose shares are {shares}\n"
            f"{self.conditions.to_text()}"
        )

    def _median(self, figure: Callable[[Round], float]) -> float:
        return median(map(figure, self.rounds))

    def _against(self, name: str) -> tuple[float | None, float | None]:
        """Its images per second, and how many times as fast the pipeline is, each a median."""
        speeds = [(one.end_to_end.images_per_second, one.against[name]) for one in self.rounds]
        known = [(own, other) for own, other in speeds if other is not None]
        if not known:
            return None, None
        return median(other for _, other in known), median(own / other for own, other in known)

    @property
    def _peak(self) -> int:
        return max(one.end_to_end.peak for one in self.rounds)

    @property
    def _above_model(self) -> int:
        return self._peak - self.measured.resident


def _target(wanted: float | None, form: str) -> str:
    return "" if wanted is None else f">= {wanted:{form}}"
