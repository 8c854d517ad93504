"""From an object or an image of a store to everything that it came of, link by link.

What can be computed again is: ids from what they are derived of, hashes of all files of the chunk
and of the run's folder. Only the image itself lies outside the store: it is read when asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from segpipe.errors import InputError, SegpipeError, SpecError
from segpipe.provenance.chain import Chain, Check, Link
from segpipe.provenance.runs import run_links
from segpipe.readers import Reader
from segpipe.records import ImageRef
from segpipe.spec import Limits
from segpipe.store import layout
from segpipe.store.commits import read_commit
from segpipe.store.files import Files
from segpipe.store.fsck import check_chunk
from segpipe.store.object_masks import find_object
from segpipe.store.snapshot import Row, Snapshot


def trace_object(snapshot: Snapshot, name: str, verify: bool = False) -> Chain:
    """How an object came to be.

    Args:
        name: `IMAGE:LABEL`; the image as `Snapshot.find_image` takes it, the newest result counts.
        verify: read the image again, and see whether it is still the same.

    Raises:
        SpecError: there is no such object.
    """
    image, _, label = name.rpartition(":")
    if not image or not label.isdecimal():
        raise SpecError(f"--object {name!r}: give IMAGE:LABEL, such as 0a1b2c...:7")
    row = _as_committed(snapshot, snapshot.find_image(image))
    found = find_object(snapshot, row, int(label))
    if found is None:
        raise SpecError(f"{row['path']}: no object {label}; {_labels(row)}")
    return Chain((Link("object", found), *_image_links(snapshot.files, row, verify)))


def trace_image(snapshot: Snapshot, name: str, verify: bool = False) -> Chain:
    """How the newest result of an image came to be; as `trace_object`."""
    row = _as_committed(snapshot, snapshot.find_image(name))
    return Chain(_image_links(snapshot.files, row, verify))


def _as_committed(snapshot: Snapshot, row: Row) -> Row:
    """The row as its own chunk has it, and not as a compaction copied it."""
    return snapshot.of_chunks([row["chunk_id"]]).find_image(row["image_id"])


def _labels(row: Row) -> str:
    if row["status"] != "ok":
        return f"the image failed: {row['reason']}: {row['detail']}"
    count = row["n_objects"]
    return f"it has the labels 1 to {count}" if count else "it has none"


def _image_links(files: Files, row: Row, verify: bool) -> tuple[Link, ...]:
    runs = run_links(files, row["run_id"])
    spec: Mapping[str, Any] = next(
        (link.facts.get("values", {}) for link in runs if link.name == "spec"), {}
    )
    return (
        _image(row, _limits(spec) if verify else None),
        *_chunk(files, row),
        *runs,
    )


def _image(row: Row, limits: Limits | None) -> Link:
    ref = ImageRef.of_row(row)
    checks = [Check("image_id", ref.image_id == row["image_id"], "derived from the uri")]
    if limits is not None:
        checks.append(_same_bytes(row, ref, limits))
    return Link("image", row, tuple(checks))


def _same_bytes(row: Row, ref: ImageRef, limits: Limits) -> Check:
    if row["sha256"] is None:
        detail = "it could not be read then: there is no hash to compare with"
        return Check(row["uri"], holds=False, detail=detail)
    try:
        with Reader(limits) as reader:
            found = reader.sha256(ref)
    except (InputError, SegpipeError) as error:
        return Check(row["uri"], holds=False, detail=f"cannot be read any more: {error}")
    if found == row["sha256"]:
        return Check(row["uri"], holds=True, detail="has the bytes that were segmented")
    return Check(row["uri"], holds=False, detail=f"has other bytes now: sha256 {found}")


def _limits(spec: Mapping[str, Any]) -> Limits:
    """Those of the run: an image that it read can be read again."""
    try:
        return Limits.model_validate(spec.get("limits", {}))
    except ValidationError:  # of a version that knows others
        return Limits()


def _chunk(files: Files, row: Row) -> tuple[Link, ...]:
    chunk_id = row["chunk_id"]
    problems = {problem.path: problem.detail for problem in check_chunk(files, chunk_id)}
    path = layout.commit_file(chunk_id)
    try:
        commit = read_commit(files, chunk_id)
    except SegpipeError as error:
        damaged = Check(path, holds=False, detail=problems.get(path, str(error)))
        return (Link("chunk", {"chunk_id": chunk_id}, (damaged,)),)
    stored = {
        **commit.masks,
        **{layout.published_part(chunk_id, table): part for table, part in commit.parts.items()},
    }
    held = problems.get(path, "matches its own sha256, and its chunk's id the images in it")
    checks = [Check(path, path not in problems, held)]
    checks += [
        Check(name, name not in problems, problems.get(name, "size and sha256 as committed"))
        for name in stored
    ]
    checks += [
        Check(name, holds=False, detail=detail)
        for name, detail in problems.items()
        if name not in stored and name != path
    ]
    asked = commit.run_id, commit.spec_id
    checks.append(
        Check("run_id, spec_id", asked == (row["run_id"], row["spec_id"]), "of row and commit")
    )
    counts = {
        "chunk_id": chunk_id,
        "generation": commit.generation,
        "images": commit.n_images,
        "ok": commit.n_ok,
        "objects": commit.n_objects,
        "seconds": dict(commit.seconds),
    }
    attempt = {
        "attempt": commit.attempt,
        "commit": path,
        "files": {name: {"size": one.size, "sha256": one.sha256} for name, one in stored.items()},
    }
    return Link("chunk", counts), Link("attempt", attempt, tuple(checks))
