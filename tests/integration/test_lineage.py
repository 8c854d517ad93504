"""What a run says to a lineage server, and that it is none the worse for one that is not there.

The server is a real one; an event is held against the classes that OpenLineage generates from its
JSON schema, which know every field, what is required, and no other.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attr
import pytest
from openlineage.client import event_v2, facet_v2

from segpipe.execution import planned
from segpipe.provenance import lineage
from segpipe.spec import RunSpec
from segpipe.store import open_store
from tests.generated import ThresholdSegmenter, make_collection


class Collector(ThreadingHTTPServer):
    """Keeps what is posted to it; `answer` is what it does with a request."""

    daemon_threads = True

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        self.events: list[dict[str, Any]] = []
        self.heard = threading.Semaphore(0)
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.events.append(json.loads(body))
                collector.keys.append(self.headers["Authorization"])
                collector.paths.append(self.path)
                collector.heard.release()
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


def accept(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(201)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def served(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[Collector]:
    with Collector(answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def collector() -> Iterator[Collector]:
    yield from served(accept)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Of a test; the client leaves variables of its own behind."""
    before = dict(os.environ)
    monkeypatch.setattr(lineage, "END_SECONDS", 120)  # however busy the machine is
    yield monkeypatch
    for name in set(os.environ) - set(before):
        if name.startswith("OPENLINEAGE"):
            del os.environ[name]


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    images = make_collection(tmp_path / "images", 3, broken=[1])
    return RunSpec(source=str(images), store=str(tmp_path / "store"), model="classical")


def run(spec: RunSpec, error: BaseException | None = None, work: bool = False) -> str:
    """A run that does its work, or none, and may be ended by an error; its id."""
    with planned(spec) as (run,), suppress(type(error) if error else ()), run.recorded():
        if error:
            raise error
        if work:
            with run.staffed():
                for _ in run.process():
                    pass
    return run.run_id


# Events


def test_a_run_says_when_it_begins_and_what_it_made(
    collector: Collector, spec: RunSpec, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENLINEAGE_URL", collector.url)
    environment.setenv("OPENLINEAGE_API_KEY", "the-key")
    environment.setenv("OPENLINEAGE_NAMESPACE", "lab")
    run_id = run(spec, work=True)
    start, complete = collector.events
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert collector.keys == ["Bearer the-key"] * 2
    assert collector.paths == ["/api/v1/lineage"] * 2
    for event in collector.events:
        check(event)
    again = str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:segpipe:run:{run_id}"))
    assert start["run"]["runId"] == complete["run"]["runId"] == again
    assert start["job"] == complete["job"]
    assert start["job"]["namespace"] == "lab"
    assert start["job"]["name"] == f"segment {spec.source} with classical"
    (collection,) = start["inputs"]
    assert (collection["namespace"], collection["name"]) == ("file", spec.source)
    assert collection["inputFacets"]["inputStatistics"]["fileCount"] == 3
    outputs = {Path(output["name"]).name: output for output in complete["outputs"]}
    assert set(outputs) == {"images", "objects", "masks.zarr"}
    rows = open_store(spec.store).dataset("objects").count_rows()
    statistics = {
        name: outputs[name]["outputFacets"]["outputStatistics"]["rowCount"]
        for name in ("images", "objects")
    }
    assert statistics == {"images": 3, "objects": rows}
    fields = {field["name"]: field for field in outputs["objects"]["facets"]["schema"]["fields"]}
    assert fields["area"]["type"] == "int64"
    assert "hidden parts" in fields["area"]["description"]
    assert all("outputStatistics" not in output["outputFacets"] for output in start["outputs"])


def test_a_run_says_how_far_it_is(
    collector: Collector, spec: RunSpec, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENLINEAGE_URL", collector.url)
    with planned(spec.model_copy(update={"chunk_images": 1})) as (run,), run.recorded():
        for number, _ in enumerate(run.process_here(ThresholdSegmenter(run.model.spec)), 1):
            if number == 1:
                while len(collector.events) < 2:  # it is heard while the run goes on
                    assert collector.heard.acquire(timeout=60)
    start, *on_the_way, complete = collector.events
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert {event["eventType"] for event in on_the_way} == {"RUNNING"}
    check(on_the_way[0])
    times = [datetime.fromisoformat(event["eventTime"]) for event in collector.events]
    assert times == sorted(times)
    images = next(one for one in on_the_way[0]["outputs"] if one["name"].endswith("/images"))
    assert images["outputFacets"]["outputStatistics"]["rowCount"] == 1


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("disk\nfull"), "FAIL"), (KeyboardInterrupt(), "ABORT")]
)
def test_a_run_that_ends_badly_says_so(
    collector: Collector,
    spec: RunSpec,
    environment: pytest.MonkeyPatch,
    error: BaseException,
    state: str,
) -> None:
    environment.setenv("OPENLINEAGE_URL", collector.url)
    run(spec, error)
    check(collector.events[-1])
    assert [event["eventType"] for event in collector.events] == ["START", state]
    message = collector.events[-1]["run"]["facets"]["errorMessage"]
    assert message["programmingLanguage"] == "python"
    assert message["message"].startswith(type(error).__name__)


def check(event: dict[str, Any]) -> None:
    """Every part has the fields of its class, those that are required, and no other."""
    uuid.UUID(event["run"]["runId"])
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    event_v2.RunState(event["eventType"])
    conforms(event, event_v2.RunEvent)
    conforms(event["run"], event_v2.Run)
    conforms(event["job"], event_v2.Job)
    for kind, datasets in (
        (event_v2.InputDataset, event["inputs"]),
        (event_v2.OutputDataset, event["outputs"]),
    ):
        for dataset in datasets:
            conforms(dataset, kind)
    held = [event["run"], event["job"], *event["inputs"], *event["outputs"]]
    for part in held:
        for name in ("facets", "inputFacets", "outputFacets"):
            for facet in part.get(name, {}).values():
                conforms(facet, FACETS[facet["_schemaURL"].rpartition("/")[2]])


def conforms(part: dict[str, Any], kind: type) -> None:
    fields = {field.name: field for field in attr.fields(kind)}
    assert set(part) <= set(fields), f"{kind.__name__} has no {set(part) - set(fields)}"
    required = {name for name, field in fields.items() if field.default is attr.NOTHING}
    assert required <= set(part), f"{kind.__name__} lacks {required - set(part)}"


def _facets() -> dict[str, type]:
    folder = Path(facet_v2.__file__).parent / "generated"
    modules = [
        importlib.import_module(f"openlineage.client.generated.{path.stem}")
        for path in folder.glob("[a-z]*.py")
    ]
    return {
        name: kind
        for module in modules
        for name, kind in vars(module).items()
        if isinstance(kind, type) and attr.has(kind)
    }


FACETS = _facets()


def test_an_event_that_is_not_as_specified_is_found() -> None:
    with pytest.raises(AssertionError, match="Job lacks"):
        conforms({"namespace": "lab"}, event_v2.Job)
    with pytest.raises(AssertionError, match="Job has no"):
        conforms({"namespace": "lab", "name": "n", "extra": 1}, event_v2.Job)


# Where something is wrong


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == lineage.__name__ and record.levelno == logging.WARNING
    ]


def completed(spec: RunSpec) -> bool:
    return [record["status"] for record in open_store(spec.store).records()] == ["completed"]


def refuse(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(503)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_a_server_that_refuses_is_named_once(
    spec: RunSpec, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for server in served(refuse):
        environment.setenv("OPENLINEAGE_URL", server.url)
        run(spec)
        assert len(server.events) == 2  # it is asked again at the end: it may be back
    assert completed(spec)
    (complaint,) = complaints(caplog)
    assert "503" in complaint


def test_a_server_that_is_not_there_stops_no_run(
    collector: Collector,
    spec: RunSpec,
    environment: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    environment.setenv("OPENLINEAGE_URL", "http://user:secret@127.0.0.1:9/")
    run(spec)
    assert completed(spec)
    (complaint,) = complaints(caplog)
    assert "was not sent" in complaint
    assert "secret" not in complaint


def test_a_server_that_does_not_answer_is_not_waited_for(
    spec: RunSpec, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asleep = threading.Event()
    environment.setattr(lineage, "END_SECONDS", 0.05)
    for server in served(lambda handler: asleep.wait(60) and None):
        environment.setenv("OPENLINEAGE_URL", server.url)
        run(spec)
        assert completed(spec)
        assert any("no answer" in complaint for complaint in complaints(caplog))
        asleep.set()


def test_without_the_package_a_run_says_how_to_get_it(
    spec: RunSpec, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9/")
    environment.delitem(sys.modules, "segpipe.provenance.lineage_events", raising=False)
    environment.setitem(sys.modules, "openlineage", None)
    environment.setitem(sys.modules, "openlineage.client", None)
    run(spec)
    assert completed(spec)
    (complaint,) = complaints(caplog)
    assert "segpipe[lineage]" in complaint


def test_without_the_variable_nothing_is_imported() -> None:
    code = (
        "import sys, threading\n"
        "import segpipe.execution\n"
        "from segpipe.provenance.lineage import told_lineage\n"
        "threads = threading.active_count()\n"
        "with told_lineage() as tell:\n"
        "    tell(None)\n"
        "    assert threading.active_count() == threads\n"
        "assert not any(name.startswith('openlineage') for name in sys.modules)\n"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OPENLINEAGE_URL"}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean)
