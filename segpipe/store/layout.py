"""Where everything lies in a store: names only, relative to the store, with forward slashes.

segpipe.json                      format version
masks.zarr/<chunk>.<attempt>/     label_image and semantic, Zarr v3
staging/<chunk>.<attempt>/        the attempt's ticket; its parts until they are published
commits/<chunk>.json              exists <=> the chunk is done
objects/  images/                 published parts, <chunk>.parquet
compacted/<number>.json           a compaction: which chunks its parts hold
compacted/<number>.<attempt>/     its parts, objects-0000.parquet, images-0000.parquet, ...
units/<key>/<name>                parts of a large image in work that are done, until the image is
forgetting/<run_id>.json          a run whose results are being removed
leases/<run_id>.json              a run that is alive, renewed while it is
queries/<name>.sql                a question that somebody keeps here
told/<run_id>.<what>              a run that was seen to die or to hang, and people were told
runs/<run_id>/                    plan, record, chunk results, RO-Crate, source of the flow, missing
                                  images, tombstone of what was forgotten, sums; of a night's last
                                  run the report, and its statistics
"""

from __future__ import annotations

import json

FORMAT_VERSION = 4
"""Of what is written. 2 knows tickets, compactions, tombstones and repeated chunks; 3 etags; 4
sizes in micrometres.
"""

OLDER_VERSIONS = (1, 2, 3)
"""Also read, as they are; a store of one is raised to `FORMAT_VERSION` when it is written to."""

MARKER = "segpipe.json"
MASKS = "masks.zarr"
STAGING = "staging"
COMMITS = "commits"
COMPACTED = "compacted"
UNITS = "units"
FORGETTING = "forgetting"
LEASES = "leases"
TOLD = "told"
RUNS = "runs"
QUERIES = "queries"

MASKS_ROOT = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()
"""Content of `masks.zarr/zarr.json`."""

TABLES = ("objects", "images")
"""In the order of publication: whoever sees a chunk's images finds its objects."""


def marker(version: int = FORMAT_VERSION, raised_from: int | None = None) -> bytes:
    """Content of `segpipe.json`; `raised_from` is the format of the oldest that lies there."""
    older = {} if raised_from is None else {"raised_from": raised_from}
    return json.dumps({"program": "segpipe", "format_version": version, **older}).encode()


def masks_group(chunk_id: str, attempt: str) -> str:
    return f"{MASKS}/{chunk_id}.{attempt}"


def staging_folder(chunk_id: str, attempt: str) -> str:
    return f"{STAGING}/{chunk_id}.{attempt}"


def ticket(chunk_id: str, attempt: str) -> str:
    """There from an attempt's start until its commit, which it becomes."""
    return f"{staging_folder(chunk_id, attempt)}/ticket"


def staged_part(chunk_id: str, attempt: str, table: str) -> str:
    return f"{staging_folder(chunk_id, attempt)}/{table}.parquet"


def published_part(chunk_id: str, table: str) -> str:
    return f"{table}/{chunk_id}.parquet"


def commit_file(chunk_id: str) -> str:
    return f"{COMMITS}/{chunk_id}.json"


def units_folder(key: str) -> str:
    return f"{UNITS}/{key}"


def run_folder(run_id: str) -> str:
    return f"{RUNS}/{run_id}"


def run_file(run_id: str, name: str) -> str:
    return f"{run_folder(run_id)}/{name}"


def lease_file(run_id: str) -> str:
    return f"{LEASES}/{run_id}.json"


def told_file(run_id: str, what: str) -> str:
    return f"{TOLD}/{run_id}.{what}"


def forgetting_file(run_id: str) -> str:
    return f"{FORGETTING}/{run_id}.json"


def compaction_file(number: int) -> str:
    return f"{COMPACTED}/{number:06d}.json"
