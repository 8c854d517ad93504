"""A run as a chain: its record, spec, weights, code and machine, and what it made."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from segpipe.errors import SpecError
from segpipe.provenance.chain import Chain, Check, Link
from segpipe.provenance.installed import installed_code, installed_weights
from segpipe.provenance.record import RunRecord
from segpipe.records import digest
from segpipe.store import layout
from segpipe.store.chunk_results import read_chunk_results
from segpipe.store.files import Files
from segpipe.store.fsck import check_chunk, check_files
from segpipe.store.leases import is_live, live_runs
from segpipe.store.snapshot import Snapshot, is_truth
from segpipe.store.sums import SUMS, sealed_run
from segpipe.store.tombstones import is_forgotten

RECORD = "record.json"


def named_run(runs: Sequence[str], name: str) -> str | None:
    """The one of several runs that a person means; None if it is none of them.

    Args:
        runs: ids, oldest first.
        name: an id, the beginning of one, `latest`, or `latest~1` for the one before.

    Raises:
        SpecError: it is the beginning of several.
    """
    if newest := re.fullmatch(r"latest(?:~(\d+))?", name):
        back = 1 + int(newest[1] or 0)
        return runs[-back] if back <= len(runs) else None
    if name in runs:
        return name
    fitting = [run for run in runs if run.startswith(name)]
    if len(fitting) > 1:
        few = ", ".join(fitting[:5])
        raise SpecError(f"{name!r} fits {len(fitting)} runs: {few}; give more of it")
    return fitting[0] if fitting else None


def find_run(files: Files, name: str) -> str:
    """The id of a run, as `named_run` takes it.

    Raises:
        SpecError: there is none, or there are several.
    """
    found = named_run(sorted(files.names(layout.RUNS)), name)
    if found is None:
        raise SpecError(f"no run {name!r} in this store; `segpipe show` lists them")
    return found


def find_run_with_results(snapshot: Snapshot, name: str) -> str:
    """As `find_run`, of the runs with results of a model: `latest` is one that did something.

    Raises:
        SpecError: there is none, or there are several.
    """
    rows = snapshot.read("images", ["run_id"], ~is_truth())
    runs = sorted(pc.unique(rows["run_id"]).to_pylist())
    found = named_run(runs, name)
    if found is None:
        known = ", ".join(runs[-5:]) or "none"
        raise SpecError(f"no run {name!r} with results of a model in this store; newest: {known}")
    return found


def read_record(files: Files, run_id: str) -> RunRecord:
    """The record of a run.

    Raises:
        SpecError: it has none, or none that this segpipe reads.
    """
    path = layout.run_file(run_id, RECORD)
    try:
        return RunRecord.from_json(files.read(path).decode())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SpecError(f"{path}: no run record that this segpipe reads: {error}") from error


def trace_run(snapshot: Snapshot, run_id: str, verify: bool = False) -> Chain:
    """What a run made, and of what.

    Args:
        run_id: as `find_run` found it.
        verify: compute the hashes of everything that it committed again.
    """
    links = run_links(snapshot.files, run_id)
    summary = links[0].facts.get("summary") or {}
    results = {**summary, "outputs": links[0].facts.get("outputs")}
    checks = tuple(_committed(snapshot.files, run_id)) if verify else ()
    return Chain((Link("results", results, checks), *links))


def _committed(files: Files, run_id: str) -> Iterator[Check]:
    """What is wrong in the chunks of a run; where nothing is, that they are as committed."""
    chunks = problems = 0
    for chunk_id in _chunk_ids(files, run_id):
        chunks += 1
        for problem in check_chunk(files, chunk_id):
            problems += 1
            yield Check(problem.path, holds=False, detail=problem.detail)
    if not problems:
        yield Check("commits", holds=True, detail=f"all files of {chunks:,} chunks as committed")


def _chunk_ids(files: Files, run_id: str) -> list[str]:
    if is_forgotten(files, run_id):
        return []
    chunks = read_chunk_results(files, run_id)
    if not chunks:  # older records hold them themselves
        chunks = read_record(files, run_id).chunks
    return [chunk.chunk_id for chunk in chunks]


def list_runs(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """The runs of a store, oldest first: what each was, of what code and weights, and made."""
    for record in snapshot.records():
        model = record["segment_spec"]["model"]
        git = record["environment"].get("git") or {}
        yield {
            "run_id": record["run_id"],
            "status": record["status"],
            "started": record["started"],
            "ended": record["ended"],
            "source": record["run_spec"]["source"],
            "model": model["name"],
            "weights_sha256": model.get("weights_sha256"),
            "spec_id": record["spec_id"],
            "segpipe": record["environment"].get("segpipe"),
            "commit": git.get("commit"),
            "device": record["device"]["name"],
            "summary": record["summary"],
            "outputs": record["outputs"],
        }


def run_links(files: Files, run_id: str) -> tuple[Link, ...]:
    """Run, spec, weights, code, environment, machine, as its record has them."""
    path = layout.run_file(run_id, RECORD)
    try:
        record = json.loads(files.read(path))
    except (OSError, ValueError) as error:
        unread = Check(path, holds=False, detail=f"cannot be read: {error}")
        return (Link("run", {"run_id": run_id}, (unread,)),)
    try:
        return (
            _run(files, run_id, record),
            _spec(record),
            _weights(record),
            *_code(record),
            _machine(record),
        )
    except (KeyError, TypeError, AttributeError) as error:
        strange = Check(path, holds=False, detail=f"is no record of a run: {error!r}")
        return (Link("run", {"run_id": run_id}, (strange,)),)


def _run(files: Files, run_id: str, record: Mapping[str, Any]) -> Link:
    kept = ("status", "started", "ended", "run_spec", "plan", "summary", "outputs", "seconds")
    facts = {name: record.get(name) for name in (*kept, "error")}
    facts["failures"] = record["failures"]["by_reason"]
    facts["record"] = layout.run_file(run_id, RECORD)
    facts["forgotten"] = is_forgotten(files, run_id)
    if facts["status"] == "running" and not is_live(run_id, live_runs(files)):
        facts["status"] = "died"
    return Link("run", {"run_id": run_id, **facts}, tuple(_sealed(files, run_id)))


def _sealed(files: Files, run_id: str) -> Iterator[Check]:
    """The files of its folder; none of a run that is at work, died, or is of format 1."""
    try:
        expected = sealed_run(files, run_id)
    except (ValueError, KeyError, TypeError) as error:
        yield Check(layout.run_file(run_id, SUMS), holds=False, detail=f"is damaged: {error}")
        return
    problems = {problem.path: problem.detail for problem in check_files(files, expected)}
    for path in expected:
        yield Check(path, path not in problems, problems.get(path, "size and sha256 as sealed"))


def _spec(record: Mapping[str, Any]) -> Link:
    values, spec_id = record["segment_spec"], record["spec_id"]
    same = digest("spec", values) == spec_id
    derived = "is the digest of its values" if same else "is not the digest of its values"
    return Link("spec", {"spec_id": spec_id, "values": values}, (Check("spec_id", same, derived),))


def _weights(record: Mapping[str, Any]) -> Link:
    model = record["segment_spec"]["model"]
    sha256 = model.get("weights_sha256")
    facts = {
        "model": model["name"],
        "kind": model.get("kind"),
        "sha256": sha256,
        "licence": model.get("licence", ""),
        "asked": record["run_spec"].get("model"),
    }
    if sha256 is not None:
        facts["here"] = installed_weights(str(facts["asked"]), sha256)
    return Link("weights", facts)


def _code(record: Mapping[str, Any]) -> Iterator[Link]:
    environment = record["environment"]
    code = {"segpipe": environment.get("segpipe"), "git": environment.get("git")}
    yield Link("code", {**code, "here": installed_code()})
    rest = {name: value for name, value in environment.items() if name not in code}
    machine = ("cpu", "cores", "platform")
    yield Link("environment", {name: value for name, value in rest.items() if name not in machine})


def _machine(record: Mapping[str, Any]) -> Link:
    environment = record["environment"]
    return Link(
        "machine",
        {
            "platform": environment.get("platform"),
            "cpu": environment.get("cpu"),
            "cores": environment.get("cores"),
            "device": record["device"],
            "threads": record.get("threads"),
            "workers": record.get("workers", []),
        },
    )
