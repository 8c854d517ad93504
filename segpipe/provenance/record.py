"""The record of one run: what was asked, by what it was done, and what came of it.

Pure: a record is started, finished and turned to JSON here; where it is written is the store's
matter. No string in it holds the password or token of an address.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, get_args

from segpipe.provenance.redact import redact, redact_text, redact_url
from segpipe.provenance.tally import ChunkResult, Outputs, Tally
from segpipe.records import RunSummary
from segpipe.spec import RunSpec, SegmentSpec

Status = Literal["running", "completed", "failed", "interrupted"]
FORMAT_VERSION = 1
FLOW_FILE = "flow.py"
"""Beside the record: the source of the flow that led the run."""

MAX_LISTED_FAILURES = 1000
"""Failures that a record lists one by one; it counts all of them."""


@dataclass(frozen=True, slots=True)
class Device:
    """What computed: `name` is the processor's own, e.g. `NVIDIA H100`."""

    device_class: str
    name: str
    precision: str


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What was planned.

    Attributes:
        digest: of the plan; the same plan has the same digest.
        chunks, images: to do in this run.
        skipped: images left out because they were committed before.
        refused: images that the listing had already refused; planned, and failed.
        ignored: files of the collection whose names are no image's; left alone.
        place: what the uris of all images there begin with; None where the listing does not hold
            every image of a place (a glob, a manifest), or for a later partition of a run.
        missing: images of the place that have results and were not listed any more.
    """

    digest: str
    chunks: int
    images: int
    skipped: int
    refused: int
    ignored: int = 0
    place: str | None = None
    missing: int | None = None

    @classmethod
    def empty(cls) -> PlanSummary:
        """Of a run that is still being planned."""
        return cls("", chunks=0, images=0, skipped=0, refused=0)


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image without a result: its path in the collection, and why."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Failures:
    """All failures counted by reason, and the first `MAX_LISTED_FAILURES` of them."""

    by_reason: Mapping[str, int] = field(default_factory=dict)
    listed: tuple[FailedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """What workers had that were started in the same way.

    Attributes:
        workers: how many took part; one that was started again counts once.
        threads: that each computes with.
        environment: the variables that set its allocator and its libraries' threads.
    """

    workers: int
    threads: int
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Flow:
    """The Prefect flow that led a run, whose source lies beside the record as `FLOW_FILE`.

    Attributes:
        name: of the flow.
        run: id of the flow run, at the Prefect server of then.
        sha256: of the source.
    """

    name: str
    run: str
    sha256: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One execution.

    Attributes:
        started, ended: ISO 8601, UTC, milliseconds; `ended` is None while the run is going on.
        run_spec: what was asked for (`RunSpec`), redacted.
        segment_spec: what it was resolved to (`SegmentSpec`); its digest is `spec_id`.
        environment: from `describe_environment`, of the process that led the run.
        threads: that each worker was to compute with; 0 where an existing cluster decides.
        seconds: of each stage, over all chunks; those of workers side by side add up.
        chunks: that were committed, in that order; none where it was read from its JSON.
        error: why the run failed; None otherwise.
        workers: what the workers really had, by kind; none where there was nothing to do.
        flow: that led it; None where it was called without one.
    """

    run_id: str
    status: Status
    started: str
    ended: str | None
    run_spec: Mapping[str, Any]
    segment_spec: Mapping[str, Any]
    spec_id: str
    environment: Mapping[str, Any]
    device: Device
    threads: int
    plan: PlanSummary
    chunks: tuple[ChunkResult, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    failures: Failures = Failures()
    outputs: Outputs = field(default_factory=Outputs)
    summary: RunSummary | None = None
    error: str | None = None
    workers: tuple[WorkerKind, ...] = ()
    flow: Flow | None = None
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """All but the chunks, of which there may be many: they are written beside it."""
        content = asdict(replace(self, chunks=()))
        del content["chunks"]
        return json.dumps(content, sort_keys=True, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """Read a record back.

        Raises:
            ValueError, TypeError, KeyError: it is not a record of this format version.
        """
        raw: dict[str, Any] = json.loads(text)
        if raw.get("format_version") != FORMAT_VERSION:
            found = raw.get("format_version")
            raise ValueError(f"run record format version {found!r}, this reads {FORMAT_VERSION}")
        if raw["status"] not in get_args(Status):
            raise ValueError(f"status {raw['status']!r}; allowed: {', '.join(get_args(Status))}")
        failures = raw.pop("failures")
        summary = raw.pop("summary")
        flow = raw.pop("flow", None)
        return cls(
            device=Device(**raw.pop("device")),
            plan=PlanSummary(**raw.pop("plan")),
            # Older records hold the chunks themselves.
            chunks=tuple(ChunkResult(**chunk) for chunk in raw.pop("chunks", ())),
            failures=Failures(
                failures["by_reason"], tuple(FailedImage(**image) for image in failures["listed"])
            ),
            outputs=Outputs(**raw.pop("outputs")),
            summary=None if summary is None else RunSummary(**summary),
            # Records from before there was such a list have none.
            workers=tuple(WorkerKind(**kind) for kind in raw.pop("workers", ())),
            flow=None if flow is None else Flow(**flow),
            **raw,
        )


def start_record(
    run_id: str,
    started: datetime,
    run_spec: RunSpec,
    segment_spec: SegmentSpec,
    *,
    environment: Mapping[str, Any],
    device: Device,
    threads: int,
    plan: PlanSummary,
) -> RunRecord:
    """The record of a run that begins; `started` is timezone-aware."""
    return RunRecord(
        run_id=run_id,
        status="running",
        started=_timestamp(started),
        ended=None,
        run_spec=redact(run_spec.model_dump(mode="json")),
        segment_spec=segment_spec.model_dump(mode="json"),
        spec_id=segment_spec.spec_id,
        environment=environment,
        device=device,
        threads=threads,
        plan=plan,
    )


def started_at(record: RunRecord, started: datetime) -> RunRecord:
    """The record of a run whose work began later than it was planned."""
    return replace(record, started=_timestamp(started))


def finish_record(
    record: RunRecord,
    status: Status,
    ended: datetime,
    *,
    tally: Tally,
    workers: Iterable[WorkerKind] = (),
    failed: Iterable[FailedImage] = (),
    summary: RunSummary | None = None,
    error: str | None = None,
) -> RunRecord:
    """The record of a run that ended, well or not.

    Args:
        record: what `start_record` returned.
        tally: of the chunks that this run did.
        workers: that did them.
        failed: its failed images; only the first `MAX_LISTED_FAILURES` are taken.
        error: what went wrong with the run as a whole.
    """
    listed = tuple(
        replace(image, detail=redact_text(image.detail))
        for image in islice(failed, MAX_LISTED_FAILURES)
    )
    return replace(
        record,
        status=status,
        ended=_timestamp(ended),
        workers=tuple(workers),
        chunks=tuple(tally.chunks),
        seconds=tally.seconds,
        failures=Failures(dict(sorted(tally.failures.items())), listed),
        outputs=tally.outputs,
        summary=None if summary is None else replace(summary, store=redact_url(summary.store)),
        error=None if error is None else redact_text(error),
    )


def _timestamp(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone; a record's times are UTC")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
