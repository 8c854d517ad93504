"""The hashes of what is kept of a run, so that a flipped bit in a record is found too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

from segpipe.records import StoredFile, digest
from segpipe.store import layout
from segpipe.store.files import Files

SUMS = "sums.json"


def unseal(files: Files, run_id: str) -> None:
    """Before files of the run's folder are changed: until `seal`, nothing is said of them."""
    files.remove(layout.run_file(run_id, SUMS))


def seal(files: Files, run_id: str) -> None:
    """Write down the hash of every file in the run's folder."""
    unseal(files, run_id)
    sums = {}
    for name in sorted(files.names(f"{layout.RUNS}/{run_id}")):
        data = files.read(layout.run_file(run_id, name))
        sums[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps({"files": sums, "sha256": digest(sums)}, sort_keys=True, indent=1)
    files.replace(layout.run_file(run_id, SUMS), text.encode())


def sealed_files(files: Files) -> Iterator[tuple[str, StoredFile]]:
    """(path, size and hash) of the files of all runs that are sealed.

    Raises:
        ValueError, KeyError, TypeError: a list of sums is not what was written.
    """
    for run_id in sorted(files.names(layout.RUNS)):
        yield from sealed_run(files, run_id).items()


def sealed_run(files: Files, run_id: str) -> dict[str, StoredFile]:
    """Path -> size and hash, of one run; empty where it is at work, or died.

    Raises:
        ValueError, KeyError, TypeError: its list of sums is not what was written.
    """
    path = layout.run_file(run_id, SUMS)
    if not files.exists(path):
        return {}
    raw = json.loads(files.read(path))
    if raw["sha256"] != digest(raw["files"]):
        raise ValueError(f"{path} does not match its own sha256")
    return {
        layout.run_file(run_id, name): StoredFile(**about) for name, about in raw["files"].items()
    }
