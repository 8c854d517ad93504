"""A run as an RO-Crate: metadata that archives and workflow registries understand.

Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5) on RO-Crate 1.1; for a run that a
Prefect flow led, also Workflow Run Crate 0.5, see `workflow`. The crate is the run's folder in the
store, or a copy of it to be deposited elsewhere, see `deposit`. What lies outside this folder (the
collection, the weights, the masks and tables that all runs share) is named by absolute URI, as
RO-Crate asks: a relative id must not climb out of its crate. Weights are named by their content
(RFC 6920), wherever they lie.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rocrate.model import ContextEntity, DataEntity
from rocrate.rocrate import ROCrate

from segpipe.provenance.record import RunRecord
from segpipe.provenance.workflow import describe_workflow

ROCRATE_VERSION = "1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
RECORD_FILE = "record.json"
README = "README.md"

# The part of a glob from its first folder or name with a wildcard on.
_PATTERN = re.compile(r"(?:(?<=.)/)?[^/]*[*?\[].*", re.DOTALL)

_STATUS = {
    "completed": "http://schema.org/CompletedActionStatus",
    "failed": "http://schema.org/FailedActionStatus",
    "interrupted": "http://schema.org/FailedActionStatus",
}
_RESULTS = {
    "masks.zarr": "Label images, Zarr v3; this run's groups are those of its commits",
    "objects": "One row per object, Parquet; this run's rows carry its run_id",
    "images": "One row per image, Parquet; this run's rows carry its run_id",
}


@dataclass(frozen=True, slots=True)
class CrateFile:
    """A file of the crate beside the record.

    Attributes:
        name: in the crate.
        meaning: one sentence.
        encoding: its media type.
    """

    name: str
    meaning: str
    encoding: str
    size: int
    sha256: str


def crate_json(record: RunRecord, files: Iterable[CrateFile] = ()) -> str:
    """Content of `ro-crate-metadata.json`, to lie beside the record's `record.json`.

    Args:
        files: what else lies there; `images.parquet` and `objects.parquet` are rows of this run
            alone, and stand for the tables of the store.
    """
    crate = ROCrate(version=ROCRATE_VERSION)
    # RO-Crate 1.1's context has no term for a hash; defined here, it needs no second context.
    crate.metadata.extra_terms["sha256"] = "http://schema.org/sha256"
    _describe_root(crate, record)
    beside = {file.name: _beside(crate, file) for file in files}
    collection = _collection(crate, record)
    weights = _weights(crate, record)
    outputs = _stored(crate, record, beside)
    action = _action(crate, record)
    objects = [collection, *weights]
    if record.flow is not None:
        inputs = {"source": collection}
        if weights:
            inputs["weights"] = weights[0]
        objects += describe_workflow(crate, record, action, inputs, outputs)
    action["object"] = objects if len(objects) > 1 else objects[0]
    action["result"] = [_record_file(crate), *outputs.values()]
    crate.root_dataset["mentions"] = action
    return json.dumps(crate.metadata.generate(), indent=1, sort_keys=True, ensure_ascii=True)


def _describe_root(crate: ROCrate, record: RunRecord) -> None:
    licence = ContextEntity(
        crate,
        "#licence",
        {
            "@type": "CreativeWork",
            "name": "Licence not stated",
            "description": "Results derive from the images of the collection and from the weights"
            " of the model; their licences apply.",
        },
    )
    profile = ContextEntity(
        crate,
        PROFILE,
        {"@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
    )
    crate.add(licence, profile)
    root = crate.root_dataset
    root["name"] = f"segpipe run {record.run_id}"
    root["description"] = (
        f"Segmentation of {record.plan.images} images with {record.segment_spec['model']['name']}"
    )
    root["datePublished"] = record.ended or record.started
    root["license"] = licence
    root["conformsTo"] = profile


def _collection(crate: ROCrate, record: RunRecord) -> DataEntity:
    source, plan = record.run_spec["source"], record.plan
    properties = {
        "name": "Image collection",
        "description": f"{source}: {plan.images} images planned, {plan.skipped} done by earlier"
        f" runs; plan digest {plan.digest}",
    }
    # A pattern is no address: the folder in which it was looked for is.
    uri = _absolute_uri(source if "://" in source else _PATTERN.sub("", source) or ".")
    encoding, _ = mimetypes.guess_type(uri)
    if encoding:  # an archive, a manifest, an image
        return _data(crate, uri, {"@type": "File", "encodingFormat": encoding, **properties})
    return _data(crate, uri.rstrip("/") + "/", {"@type": "Dataset", **properties})


def _weights(crate: ROCrate, record: RunRecord) -> list[DataEntity]:
    model = record.segment_spec["model"]
    sha256 = model["weights_sha256"]
    if sha256 is None:
        return []
    properties = {
        "@type": "File",
        "name": f"Weights of {model['name']}",
        "encodingFormat": "application/octet-stream",
        "sha256": sha256,
    }
    if model["licence"]:
        properties["license"] = model["licence"]
    return [_data(crate, _content_uri(sha256), properties)]


def _record_file(crate: ROCrate) -> DataEntity:
    return _data(
        crate,
        RECORD_FILE,
        {
            "@type": "File",
            "name": "Run record",
            "description": "Specification, environment, plan, timings, failures and outputs",
            "encodingFormat": "application/json",
        },
    )


def _beside(crate: ROCrate, file: CrateFile) -> DataEntity:
    properties = {
        "@type": "File",
        "name": file.name,
        "description": file.meaning,
        "encodingFormat": file.encoding,
        "contentSize": str(file.size),
        "sha256": file.sha256,
    }
    if file.name == README:
        return _data(crate, file.name, {**properties, "about": {"@id": "./"}})
    return _data(crate, file.name, properties)


def _stored(
    crate: ROCrate, record: RunRecord, beside: Mapping[str, DataEntity]
) -> dict[str, DataEntity]:
    store = _absolute_uri(record.run_spec["store"]).rstrip("/")
    return {
        name: beside.get(f"{name}.parquet")
        or _data(
            crate,
            f"{store}/{name}/",
            {"@type": "Dataset", "name": name, "description": meaning},
        )
        for name, meaning in _RESULTS.items()
    }


def _action(crate: ROCrate, record: RunRecord) -> ContextEntity:
    software = ContextEntity(
        crate,
        "#segpipe",
        {
            "@type": "SoftwareApplication",
            "name": "segpipe",
            "softwareVersion": _software_version(record),
        },
    )
    agent = ContextEntity(
        crate,
        "#operator",
        {
            "@type": "Organization",
            "name": "Operator of this segpipe installation",
            "description": "segpipe does not record who starts a run",
        },
    )
    action = ContextEntity(
        crate,
        f"#{record.run_id}",
        {
            "@type": "CreateAction",
            "name": f"Segmentation run {record.run_id}",
            "description": f"spec {record.spec_id} on {record.device.name}"
            f" ({record.device.precision}, {record.threads} threads)",
            "instrument": software,
            "agent": agent,
            "startTime": record.started,
        },
    )
    crate.add(software, agent, action)
    if record.ended:
        action["endTime"] = record.ended
    if record.status in _STATUS:
        action["actionStatus"] = _STATUS[record.status]
    if record.status in {"failed", "interrupted"}:
        action["error"] = record.error or record.status
    return action


def _software_version(record: RunRecord) -> str:
    version: str = record.environment["segpipe"]
    checkout = record.environment["git"]
    if checkout is None:
        return version
    return f"{version} (git {checkout['commit']}{', modified' if checkout['dirty'] else ''})"


def _data(crate: ROCrate, identifier: str, properties: dict[str, Any]) -> DataEntity:
    entity = DataEntity(crate, identifier, properties)
    crate.add(entity)
    return entity


def _content_uri(sha256: str) -> str:
    """`ni:` URI of a content hash: RFC 6920, Naming Things with Hashes (2013)."""
    value = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{value}"


def _absolute_uri(place: str) -> str:
    return place if "://" in place else Path(place).absolute().as_uri()
