"""A run record as an event of OpenLineage, by its own client (the extra `lineage`).

A run's id is a UUID derived from its `run_id`; the job is named after collection and model, so that
every night of a collection is a run of the same job. Inputs are the collection and the weights,
outputs the tables and the masks of the store, named as OpenLineage asks for files and buckets.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    JobFacet,
    OutputDatasetFacet,
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
    source_code_location_job,
    storage_dataset,
    tags_run,
)
from openlineage.client.transport.http import HttpConfig, HttpTransport, create_token_provider

from segpipe.provenance.lineage import is_on_the_way
from segpipe.provenance.record import RunRecord
from segpipe.schema import TABLES, arrow_schema

_PRODUCER = "urn:segpipe"
_STATES = {
    "running": RunState.START,
    "completed": RunState.COMPLETE,
    "failed": RunState.FAIL,
    "interrupted": RunState.ABORT,
}


def connect(seconds: float) -> OpenLineageClient:
    """A client of the server in the environment, which tries once, for `seconds`.

    A transport that is configured in another of OpenLineage's ways, such as Kafka, is taken as it
    is.
    """
    if os.environ.get("OPENLINEAGE_CONFIG") or os.environ.get("OPENLINEAGE__TRANSPORT__TYPE"):
        return OpenLineageClient()
    key = os.environ.get("OPENLINEAGE_API_KEY")
    config = HttpConfig(
        url=os.environ["OPENLINEAGE_URL"],
        endpoint=os.environ.get("OPENLINEAGE_ENDPOINT", "api/v1/lineage"),
        timeout=seconds,
        auth=create_token_provider({"type": "api_key", "apiKey": key} if key else {}),
        retry={"total": 0},
    )
    return OpenLineageClient(transport=HttpTransport(config))


def run_uuid(run_id: str) -> str:
    """The same for the same run, whoever asks: a UUID of version 5 (RFC 9562)."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:segpipe:run:{run_id}"))


def run_event(record: RunRecord) -> RunEvent:
    """What a record says of its run: at its start, on its way (with its counts), at its end."""
    model = record.segment_spec["model"]
    on_the_way = is_on_the_way(record)
    return RunEvent(
        eventType=RunState.RUNNING if on_the_way else _STATES[record.status],
        eventTime=_reached(record) if on_the_way else record.ended or record.started,
        producer=_PRODUCER,
        run=Run(run_uuid(record.run_id), _run_facets(record)),
        job=Job(
            os.environ.get("OPENLINEAGE_NAMESPACE", "segpipe"),
            f"segment {record.run_spec['source']} with {model['name']}",
            _job_facets(record),
        ),
        inputs=list(_inputs(record)),
        outputs=list(_outputs(record)),
    )


def _reached(record: RunRecord) -> str:
    """When a run had what it has, as ISO 8601."""
    seconds = record.summary.seconds if record.summary else 0.0
    reached = datetime.fromisoformat(record.started) + timedelta(seconds=seconds)
    return reached.isoformat(timespec="milliseconds")


def _run_facets(record: RunRecord) -> dict[str, RunFacet]:
    tags = {
        "run_id": record.run_id,
        "spec_id": record.spec_id,
        "device": record.device.name,
        "precision": record.device.precision,
    }
    facets: dict[str, RunFacet] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=record.environment["segpipe"], name="segpipe"
        ),
        "tags": tags_run.TagsRunFacet(
            [tags_run.TagsRunFacetFields(key, value, "segpipe") for key, value in tags.items()]
        ),
    }
    if record.status in {"failed", "interrupted"}:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            message=record.error or record.status, programmingLanguage="python"
        )
    return facets


def _job_facets(record: RunRecord) -> dict[str, JobFacet]:
    facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet("BATCH", "SEGPIPE", jobType="JOB")
    }
    if git := record.environment.get("git"):
        # A commit by its content, wherever the repository lies (SWHID, ISO/IEC 18670).
        facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
            type="git", url=f"swh:1:rev:{git['commit']}", version=git["commit"]
        )
    return facets


def _inputs(record: RunRecord) -> Iterator[InputDataset]:
    count = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
        fileCount=record.plan.images
    )
    place = _dataset(record.run_spec["source"])
    yield InputDataset(*place, inputFacets={"inputStatistics": count})
    model = record.segment_spec["model"]
    if sha256 := model["weights_sha256"]:
        version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=sha256)
        yield InputDataset("segpipe-weights", model["name"], facets={"version": version})


def _outputs(record: RunRecord) -> Iterator[OutputDataset]:
    namespace, store = _dataset(record.run_spec["store"])
    summary = record.summary
    rows = {"images": summary.ok + summary.failed, "objects": summary.objects} if summary else {}
    for table in TABLES:
        statistics: dict[str, OutputDatasetFacet] = {}
        if table in rows:  # at its start there are none
            statistics["outputStatistics"] = (
                output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rows[table])
            )
        yield OutputDataset(
            namespace,
            f"{store}/{table}",
            facets={
                "schema": schema_dataset.SchemaDatasetFacet(_fields(arrow_schema(table))),
                "storage": storage_dataset.StorageDatasetFacet("file", "parquet"),
            },
            outputFacets=statistics,
        )
    yield OutputDataset(namespace, f"{store}/masks.zarr")


def _fields(schema: pa.Schema) -> list[schema_dataset.SchemaDatasetFacetFields]:
    return [
        schema_dataset.SchemaDatasetFacetFields(
            field.name, str(field.type), description=field.metadata[b"meaning"].decode()
        )
        for field in schema
    ]


def _dataset(place: str) -> tuple[str, str]:
    """Namespace and name of a folder, a file or a prefix of a bucket."""
    if "://" not in place:
        return "file", str(Path(place).absolute())
    parts = urlsplit(place)
    if parts.scheme == "file":
        return "file", parts.path
    return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") or "/"
