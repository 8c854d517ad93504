"""The Prefect flow of a run as the workflow of its crate: Workflow Run Crate 0.5.

(https://w3id.org/ro/wfrun/workflow/0.5, on Workflow RO-Crate 1.0.) The profile wants the workflow
itself in the crate, as a file: that is the source of the flow, kept when the run began. A run that
no flow led, such as one from Python or of an older version, has none, and no workflow is invented.

Each key of the resolved spec is a parameter of the workflow with its value in this run; the
collection, the weights and what was written are examples of its other parameters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rocrate.model import ContextEntity, DataEntity
from rocrate.rocrate import ROCrate

from segpipe.provenance.record import FLOW_FILE, RunRecord

PROFILE = "https://w3id.org/ro/wfrun/workflow/0.5"
WORKFLOW_PROFILE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"

_BIOSCHEMAS = "https://bioschemas.org/profiles"
_LANGUAGE = "https://www.python.org/"
# The IRIs that RO-Crate 1.1's context gives these terms; later contexts of it give others.
_KINDS = {bool: "Boolean", int: "Integer", float: "Float"}


def describe_workflow(
    crate: ROCrate,
    record: RunRecord,
    action: ContextEntity,
    inputs: Mapping[str, DataEntity],
    outputs: Mapping[str, DataEntity],
) -> list[ContextEntity]:
    """Make the flow the main entity of a crate, and the instrument of its action.

    Args:
        action: whose instrument is the tool so far; it becomes a part of the workflow.
        inputs, outputs: data by the name of the parameter that they are of.

    Returns:
        The values of the other parameters, which are objects of the action too.
    """
    values = [
        _value(crate, name, value) for name, value in _parameters(record.segment_spec, "") if name
    ]
    workflow = _workflow(crate, record)
    workflow["hasPart"] = action["instrument"]
    action["instrument"] = workflow
    workflow["input"] = [
        *(_parameter(crate, "input", name, part) for name, part in inputs.items()),
        *(_parameter(crate, "input", str(part["name"]), part) for part in values),
    ]
    workflow["output"] = [_parameter(crate, "output", name, part) for name, part in outputs.items()]
    root = crate.root_dataset
    root["mainEntity"] = workflow
    root["conformsTo"] = [
        root["conformsTo"],
        _profile(crate, PROFILE, "Workflow Run Crate"),
        _profile(crate, WORKFLOW_PROFILE, "Workflow RO-Crate"),
    ]
    crate.metadata["conformsTo"] = [
        {"@id": crate.metadata.profile},
        {"@id": WORKFLOW_PROFILE},
    ]
    return values


def _workflow(crate: ROCrate, record: RunRecord) -> DataEntity:
    assert record.flow is not None
    prefect = record.environment.get("packages", {}).get("prefect")
    language = ContextEntity(
        crate,
        _LANGUAGE,
        {
            "@type": "ComputerLanguage",
            "name": "Python",
            "version": record.environment.get("python", "unknown"),
            "url": _LANGUAGE,
        },
    )
    workflow = DataEntity(
        crate,
        FLOW_FILE,
        {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
            "name": f"Prefect flow {record.flow.name!r} of segpipe",
            "description": f"Source of the flow that led this run; flow run {record.flow.run}",
            "version": record.environment["segpipe"],
            "encodingFormat": "text/x-python",
            "license": "https://spdx.org/licenses/Apache-2.0",
            "runtimePlatform": f"Prefect {prefect}" if prefect else "Prefect",
            "sha256": record.flow.sha256,
            "conformsTo": {"@id": f"{_BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"},
        },
    )
    crate.add(language, workflow)
    workflow["programmingLanguage"] = language
    return workflow


def _parameters(values: Any, name: str) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf that says something."""
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _parameters(value, f"{name}.{key}" if name else key)
    elif values not in (None, "", {}, []):
        yield name, values


def _value(crate: ROCrate, name: str, value: Any) -> ContextEntity:
    text = value if isinstance(value, (str, bool, int, float)) else json.dumps(value)
    properties = {"@type": "PropertyValue", "name": name, "value": text}
    entity = ContextEntity(crate, f"#value/{name}", properties)
    crate.add(entity)
    return entity


def _parameter(crate: ROCrate, way: str, name: str, example: ContextEntity) -> ContextEntity:
    kind = example["value"] if example.type == "PropertyValue" else None
    parameter = ContextEntity(
        crate,
        f"#{way}/{name}",
        {
            "@type": "FormalParameter",
            "name": name,
            "additionalType": example.type if kind is None else _KINDS.get(type(kind), "Text"),
            "valueRequired": way == "input" and kind is None,
            "conformsTo": {"@id": f"{_BIOSCHEMAS}/FormalParameter/1.0-RELEASE"},
        },
    )
    crate.add(parameter)
    parameter["workExample"] = example
    example["exampleOfWork"] = parameter
    return parameter


def _profile(crate: ROCrate, identifier: str, name: str) -> ContextEntity:
    version = identifier.rpartition("/")[2]
    properties = {"@type": "CreativeWork", "name": name, "version": version}
    entity = ContextEntity(crate, identifier, properties)
    crate.add(entity)
    return entity
