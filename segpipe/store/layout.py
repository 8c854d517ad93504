"""Where everything lies in a store: names only, relative to the store, with forward slashes.

segpipe.json                      format version
masks.zarr/<chunk>.<attempt>/     label_image and semantic, Zarr v3
staging/<chunk>.<attempt>/        objects.parquet and images.parquet until they are published
commits/<chunk>.json              exists <=> the chunk is done
objects/  images/                 published parts, <chunk>.parquet
runs/<run_id>/                    plan, record, RO-Crate
"""

from __future__ import annotations

FORMAT_VERSION = 1

MARKER = "segpipe.json"
MASKS = "masks.zarr"
STAGING = "staging"
COMMITS = "commits"
RUNS = "runs"

TABLES = ("objects", "images")
"""In the order of publication: whoever sees a chunk's images finds its objects."""


def masks_group(chunk_id: str, attempt: str) -> str:
    return f"{MASKS}/{chunk_id}.{attempt}"


def staging_folder(chunk_id: str, attempt: str) -> str:
    return f"{STAGING}/{chunk_id}.{attempt}"


def staged_part(chunk_id: str, attempt: str, table: str) -> str:
    return f"{staging_folder(chunk_id, attempt)}/{table}.parquet"


def published_part(chunk_id: str, table: str) -> str:
    return f"{table}/{chunk_id}.parquet"


def commit_file(chunk_id: str) -> str:
    return f"{COMMITS}/{chunk_id}.json"


def run_file(run_id: str, name: str) -> str:
    return f"{RUNS}/{run_id}/{name}"
