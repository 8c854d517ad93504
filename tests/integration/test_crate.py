"""The RO-Crate of a run is valid under Process Run Crate 0.5, checked without a network.

So it is under Workflow Run Crate 0.5, where a flow led the run.
"""

from __future__ import annotations

import hashlib
import json
import socket
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pyarrow.parquet as pq
import pytest
import requests
import rocrate
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationResult
from rocrate_validator.utils.http import HttpRequester

from segpipe.errors import EngineError, SpecError
from segpipe.execution import planned
from segpipe.provenance.crate import crate_json
from segpipe.provenance.deposit import deposit
from segpipe.provenance.record import (
    FLOW_FILE,
    Device,
    Flow,
    PlanSummary,
    RunRecord,
    finish_record,
    start_record,
)
from segpipe.provenance.tally import Tally
from segpipe.records import Commit, StoredFile
from segpipe.spec import ClassicalOptions, ModelSpec, RunSpec, SegmentSpec, UNetOptions
from segpipe.store import open_store
from segpipe.store.chunk_results import read_chunk_results
from segpipe.store.files import LocalFiles
from tests.generated import make_collection

# rdflib's own parser uses what rdflib has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated")

CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"
# The terms that a crate may use, all of them in RO-Crate 1.1's context. The validator gets these
# alone, so that a term which that version does not know is found to be undefined.
CLASSES = ["CreateAction", "CreativeWork", "Dataset", "File", "Organization"]
PROPERTIES = ["about", "actionStatus", "agent", "conformsTo", "datePublished", "description"]
PROPERTIES += ["encodingFormat", "endTime", "error", "hasPart", "instrument", "license"]
PROPERTIES += ["mentions", "name", "object", "result", "softwareVersion", "startTime", "version"]
CLASSES += ["ComputerLanguage", "PropertyValue", "SoftwareSourceCode"]
PROPERTIES += ["additionalType", "contentSize", "exampleOfWork", "mainEntity"]
PROPERTIES += ["programmingLanguage", "runtimePlatform", "url", "value", "valueRequired"]
PROPERTIES += ["workExample"]
TERMS = [*CLASSES, "SoftwareApplication", *PROPERTIES]
# Of these, `rocrate` ships the IRIs of RO-Crate 1.3; in that of 1.1 they are:
BIOSCHEMAS = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}
# What the validator recommends and a run cannot know without inventing it.
UNKNOWN_TO_A_RUN = {
    "Root Data Entity: `author` property",
    "Root Data Entity: `publisher` property",
    "Organization: RECOMMENDED url property",
    "Application url",
    "SoftwareApplication id",
    "Web-based Data Entity: resource availability",  # of weights, named by their content
}


Validate = Callable[..., ValidationResult]
WORKFLOW = "workflow-run-crate-0.5"
FLOW_SOURCE = b"def segment(): ...\n"


class OneContext(requests.Session):
    """Answers the one address that validation needs, from what `rocrate` ships; no other."""

    def get(self, url: str | bytes, **_: Any) -> requests.Response:
        shipped = json.loads(
            (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text("utf-8")
        )
        response = requests.Response()
        response.url = str(url)
        response.status_code = 200 if url == CONTEXT_URL else 504
        response.headers["Content-Type"] = "application/ld+json"
        terms = {term: shipped["@context"][term] for term in TERMS} | BIOSCHEMAS
        response._content = json.dumps({"@context": terms}).encode()
        return response


@pytest.fixture
def validate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Validate:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("validation reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)

    def run(
        folder: Path, severity: Severity, profile: str = "process-run-crate-0.5"
    ) -> ValidationResult:
        settings = services.ValidationSettings(
            rocrate_uri=folder,
            profile_identifier=profile,
            requirement_severity=severity,
            offline=True,
            cache_path=tmp_path / "cache",
        )
        monkeypatch.setattr(HttpRequester(), "session", OneContext())
        return services.validate(settings)

    return run


def write_run(root: Path, record: RunRecord) -> Path:
    """The run's folder, in a store that holds what the crate speaks of."""
    for folder in ("images", "store/masks.zarr", "store/objects", "store/images", "store/runs/r1"):
        (root / folder).mkdir(parents=True)
    run_folder = root / "store" / "runs" / "r1"
    (run_folder / "record.json").write_text(record.to_json(), "utf-8")
    (run_folder / "ro-crate-metadata.json").write_text(crate_json(record), "utf-8")
    if record.flow:
        (run_folder / FLOW_FILE).write_bytes(FLOW_SOURCE)
    return run_folder


def record_of(root: Path, *, weights: bool = True, source: str = "") -> RunRecord:
    model = (
        ModelSpec(name="unet-nuclei", kind="unet", weights_sha256="5e" * 32, licence="CC0-1.0")
        if weights
        else ModelSpec(name="classical", kind="classical")
    )
    options = UNetOptions() if weights else ClassicalOptions()
    return start_record(
        "r1",
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        RunSpec(source=source or str(root / "images"), store=str(root / "store")),
        SegmentSpec(model=model, options=options),
        environment={"segpipe": "0.1.0", "git": {"commit": "c" * 40, "dirty": True}},
        device=Device("cpu", "a processor", "fp32"),
        threads=2,
        plan=PlanSummary(digest="d" * 64, chunks=1, images=2, skipped=0, refused=0),
    )


def led(record: RunRecord) -> RunRecord:
    """The record of a run that a flow led."""
    return replace(record, flow=Flow("segment", "f" * 36, hashlib.sha256(FLOW_SOURCE).hexdigest()))


def finished(record: RunRecord, status: Any, error: str | None = None) -> RunRecord:
    part = StoredFile(10, "0" * 64)
    commit = Commit("c" * 32, "s" * 64, "r1", "a", 2, 2, 9, {"m": part}, {"objects": part})
    ended = datetime(2026, 1, 2, 3, 5, tzinfo=UTC)
    return finish_record(record, status, ended, tally=Tally([commit]), error=error)


def issues(result: ValidationResult) -> list[str]:
    return [f"{issue.check.name}: {issue.message}" for issue in result.get_issues()]


@pytest.mark.parametrize(
    ("status", "error", "weights"),
    [("completed", None, False), ("failed", "disk full", True), ("interrupted", None, True)],
)
def test_the_crate_is_valid(
    tmp_path: Path, validate: Any, status: str, error: str | None, weights: bool
) -> None:
    record = finished(record_of(tmp_path, weights=weights), status, error)
    assert issues(validate(write_run(tmp_path, record), Severity.REQUIRED)) == []


def test_the_crate_of_a_run_that_goes_on_is_valid(tmp_path: Path, validate: Any) -> None:
    folder = write_run(tmp_path, record_of(tmp_path))
    assert issues(validate(folder, Severity.REQUIRED)) == []


def test_all_that_is_recommended_and_known_is_there(tmp_path: Path, validate: Any) -> None:
    folder = write_run(tmp_path, finished(record_of(tmp_path), "completed"))
    result = validate(folder, Severity.RECOMMENDED)
    assert {issue.check.name for issue in result.get_issues()} <= UNKNOWN_TO_A_RUN, issues(result)


@pytest.mark.parametrize("weights", [False, True])
def test_the_crate_of_a_flow_is_valid_under_both_profiles(
    tmp_path: Path, validate: Validate, weights: bool
) -> None:
    record = finished(led(record_of(tmp_path, weights=weights)), "completed")
    folder = write_run(tmp_path, record)
    assert issues(validate(folder, Severity.REQUIRED)) == []
    result = validate(folder, Severity.RECOMMENDED, WORKFLOW)
    only_in_a_deposit = {"README.md about", "README.md encodingFormat"}
    found = {issue.check.name for issue in result.get_issues()}
    assert found <= UNKNOWN_TO_A_RUN | only_in_a_deposit, issues(result)


def test_a_run_without_a_flow_claims_no_workflow(tmp_path: Path, validate: Validate) -> None:
    folder = write_run(tmp_path, finished(record_of(tmp_path), "completed"))
    assert any(
        "Main Workflow" in issue for issue in issues(validate(folder, Severity.REQUIRED, WORKFLOW))
    )


def test_the_workflow_has_every_value_of_the_spec_as_a_parameter(tmp_path: Path) -> None:
    record = finished(led(record_of(tmp_path)), "completed")
    entities = graph(record)
    workflow = entities[entities["./"]["mainEntity"]["@id"]]
    names = {entities[part["@id"]]["name"] for part in workflow["input"]}
    assert {"source", "weights", "options.min_area", "limits.max_pixels", "precision"} <= names
    outputs = {entities[part["@id"]]["name"] for part in workflow["output"]}
    assert outputs == {"masks.zarr", "objects", "images"}
    assert entities["#value/options.min_area"]["value"] == 16
    assert entities["#r1"]["instrument"]["@id"] == FLOW_FILE
    assert workflow["hasPart"]["@id"] == "#segpipe"


def test_a_record_with_a_flow_makes_the_round_trip(tmp_path: Path) -> None:
    record = led(record_of(tmp_path))
    assert RunRecord.from_json(record.to_json()).flow == record.flow


@pytest.mark.parametrize("with_results", [False, True])
def test_a_deposit_needs_no_store(
    real_run: Path, tmp_path: Path, validate: Validate, with_results: bool
) -> None:
    """Folder and zip hold the same, described with its hashes, and are valid."""
    snapshot = open_store(real_run.parents[1])
    out = tmp_path / "crate"
    deposit(snapshot, real_run.name, out, with_results)
    deposit(snapshot, real_run.name, tmp_path / "crate.zip", with_results)
    assert issues(validate(out, Severity.REQUIRED)) == []
    result = validate(out, Severity.RECOMMENDED, WORKFLOW)
    assert {issue.check.name for issue in result.get_issues()} <= UNKNOWN_TO_A_RUN, issues(result)
    described = json.loads((out / "ro-crate-metadata.json").read_text())["@graph"]
    hashes = {part["@id"]: part["sha256"] for part in described if "sha256" in part}
    assert {"plan.parquet", "chunks.parquet", "sums.json", "README.md", "flow.py"} <= set(hashes)
    assert ("objects.parquet" in hashes) is with_results
    with zipfile.ZipFile(tmp_path / "crate.zip") as archive:
        assert sorted(archive.namelist()) == sorted(path.name for path in out.iterdir())
        for name, sha256 in hashes.items():
            assert hashlib.sha256(archive.read(name)).hexdigest() == sha256
    if with_results:
        rows = pq.read_table(out / "images.parquet")
        assert sorted(rows["status"].to_pylist()) == ["failed", "ok", "ok", "ok"]


def test_a_deposit_overwrites_nothing(real_run: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(SpecError, match="is there already"):
        deposit(open_store(real_run.parents[1]), real_run.name, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


def graph(record: RunRecord) -> dict[str, dict[str, Any]]:
    return {entity["@id"]: entity for entity in json.loads(crate_json(record))["@graph"]}


def test_a_broken_crate_is_found(tmp_path: Path, validate: Any) -> None:
    """The offline validation can fail: otherwise the tests above would say nothing."""
    folder = write_run(tmp_path, finished(record_of(tmp_path), "completed"))
    metadata = folder / "ro-crate-metadata.json"
    metadata.write_text(metadata.read_text("utf-8").replace('"instrument"', '"description"'))
    assert any("instrument" in issue for issue in issues(validate(folder, Severity.REQUIRED)))


def test_the_action_tells_who_did_what_with_what_and_when(tmp_path: Path) -> None:
    entities = graph(finished(record_of(tmp_path), "failed", "disk full"))
    action = entities["#r1"]
    assert action["startTime"] == "2026-01-02T03:04:05.000+00:00"
    assert action["endTime"] == "2026-01-02T03:05:00.000+00:00"
    assert action["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert action["error"] == "disk full"
    assert "modified" in entities[action["instrument"]["@id"]]["softwareVersion"]
    collection, weights = (entities[part["@id"]] for part in action["object"])
    assert collection["@id"] == (tmp_path / "images").as_uri() + "/"
    assert (weights["sha256"], weights["license"]) == ("5e" * 32, "CC0-1.0")
    results = {part["@id"].removeprefix((tmp_path / "store").as_uri()) for part in action["result"]}
    assert results == {"record.json", "/masks.zarr/", "/objects/", "/images/"}


def test_nothing_outside_the_crate_is_named_by_a_relative_id(tmp_path: Path) -> None:
    for identifier in graph(finished(record_of(tmp_path), "completed")):
        assert ".." not in identifier


@pytest.mark.parametrize(
    ("source", "identifier", "kind"),
    [
        ("/data/plates", "file:///data/plates/", "Dataset"),
        ("/data/a b/*/c?.png", "file:///data/a%20b/", "Dataset"),
        ("/data/all.zip", "file:///data/all.zip", "File"),
        ("https://u:secret@host/all.zip", "https://***@host/all.zip", "File"),
    ],
)
def test_a_collection_is_named_by_where_it_is(source: str, identifier: str, kind: str) -> None:
    entities = graph(record_of(Path("/"), source=source))
    assert entities[identifier]["@type"] == kind


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that was really made, workers and all."""
    root = tmp_path_factory.mktemp("real")
    images = make_collection(root / "images", 4, broken=[1])
    (images / "notes.txt").write_text("no image")
    spec = RunSpec(source=str(images), store=str(root / "store"), model="classical")
    with planned(spec) as (run,), run.staffed():
        run.led_by("segment", "a-flow-run", FLOW_SOURCE)
        with run.recorded():
            for _ in run.process():
                pass
    return root / "store" / "runs" / run.run_id


def test_the_crate_of_a_real_run_is_valid(real_run: Path, validate: Validate) -> None:
    result = validate(real_run, Severity.REQUIRED)
    assert result.passed(), [issue.message for issue in result.get_issues()]


def test_the_record_of_a_real_run_says_what_was_done(real_run: Path) -> None:
    record = RunRecord.from_json((real_run / "record.json").read_text())
    assert record.status == "completed"
    assert record.summary is not None
    assert (record.summary.ok, record.summary.failed) == (3, 1)
    assert sum(record.failures.by_reason.values()) == len(record.failures.listed) == 1
    (chunk,) = read_chunk_results(LocalFiles(real_run.parents[1]), record.run_id)
    assert (chunk.images, chunk.ok) == (4, 3)
    assert chunk.seconds["total"] > 0
    assert record.plan.ignored == 1
    assert record.outputs.commits == 1
    (kind,) = record.workers
    assert (kind.workers, kind.threads) == (1, record.threads)
    assert kind.environment["OMP_NUM_THREADS"] == str(record.threads)
    assert kind.environment["MALLOC_ARENA_MAX"] == "1"
    assert SegmentSpec.model_validate(record.segment_spec).spec_id == record.spec_id


def test_a_run_that_fails_says_why(tmp_path: Path) -> None:
    images = make_collection(tmp_path / "images", 2)
    spec = RunSpec(source=str(images), store=str(tmp_path / "store"), model="classical")

    def lose_the_cluster() -> None:
        with planned(spec) as (run,), run.recorded():
            raise EngineError("the cluster is gone")

    with pytest.raises(EngineError):
        lose_the_cluster()
    (record,) = open_store(tmp_path / "store").records()
    assert record["status"] == "failed"
    assert record["error"] == "EngineError: the cluster is gone"


def test_a_run_with_nothing_to_do_starts_no_worker(real_run: Path) -> None:
    record = RunRecord.from_json((real_run / "record.json").read_text())
    before = set(psutil.Process().children(recursive=True))
    with planned(RunSpec(**record.run_spec)) as (run,), run.staffed():
        assert (run.plan.chunks, run.plan.skipped) == (0, record.plan.images)
        assert set(psutil.Process().children(recursive=True)) <= before
