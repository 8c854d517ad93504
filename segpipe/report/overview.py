"""What a store holds, at a glance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from segpipe.store import Snapshot


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run in a line."""

    run_id: str
    status: str
    model: str
    ok: int
    failed: int
    skipped: int
    objects: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ModelLine:
    """The newest results of one model under one spec."""

    model: str
    spec_id: str
    images: int
    ok: int
    objects: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Runs (oldest first), models, and failures: reason -> (images, an example)."""

    chunks: int
    runs: tuple[RunLine, ...]
    models: tuple[ModelLine, ...]
    failures: dict[str, tuple[int, str]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """For a terminal, free of markup."""
        runs = [
            f"  {r.run_id}  {r.status:<11}  {r.model:<20}  {r.ok:>8,} ok  {r.failed:>6,} failed  "
            f"{r.skipped:>8,} skipped  {r.objects:>10,} objects  {r.seconds:>8.1f} s"
            for r in self.runs
        ]
        models = [
            f"  {m.model:<20}  spec {m.spec_id[:12]}  {m.ok:>8,} of {m.images:,} images ok  "
            f"{m.objects:>10,} objects"
            for m in self.models
        ]
        failures = [
            f"  {count:>8,}  {reason:<24}  e.g. {example!r}"
            for reason, (count, example) in self.failures.items()
        ]
        parts = [f"{self.chunks:,} chunks", "runs", *(runs or ["  none"])]
        parts += ["models", *(models or ["  none"]), "failed images", *(failures or ["  none"])]
        return "\n".join(parts)


def overview(snapshot: Snapshot) -> Overview:
    """Count what a snapshot holds: of each image and spec the newest result."""
    columns = ["model", "spec_id", "image_id", "run_id", "status", "reason", "path", "n_objects"]
    images = snapshot.read("images", columns)
    keys = ["spec_id", "image_id"]
    newest = images.group_by(keys).aggregate([("run_id", "max")])
    newest = newest.rename_columns({"run_id_max": "run_id"})
    images = images.join(newest, [*keys, "run_id"], join_type="inner")
    return Overview(
        chunks=len(snapshot.chunk_ids),
        runs=tuple(_run_line(record) for record in snapshot.records()),
        models=_model_lines(images),
        failures=_failures(images),
    )


def _run_line(record: dict[str, Any]) -> RunLine:
    summary = record["summary"] or {}
    counts = {key: summary.get(key, 0) for key in ("ok", "failed", "skipped", "objects", "seconds")}
    model = record["segment_spec"]["model"]["name"]
    return RunLine(record["run_id"], record["status"], model, **counts)


def _model_lines(images: pa.Table) -> tuple[ModelLine, ...]:
    ok = pc.cast(pc.equal(images["status"], "ok"), pa.int64())
    grouped = (
        images.append_column("ok", ok)
        .group_by(["model", "spec_id"])
        .aggregate([("status", "count"), ("ok", "sum"), ("n_objects", "sum")])
        .sort_by([("model", "ascending"), ("spec_id", "ascending")])
    )
    return tuple(
        ModelLine(
            row["model"],
            row["spec_id"],
            row["status_count"],
            row["ok_sum"],
            row["n_objects_sum"] or 0,
        )
        for row in grouped.to_pylist()
    )


def _failures(images: pa.Table) -> dict[str, tuple[int, str]]:
    failed = images.filter(pc.equal(images["status"], "failed"))
    grouped = failed.group_by("reason").aggregate([("path", "count"), ("path", "min")])
    rows = grouped.sort_by([("path_count", "descending")]).to_pylist()
    return {row["reason"]: (row["path_count"], row["path_min"]) for row in rows}
