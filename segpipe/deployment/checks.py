"""What a night needs on this machine: its collection, its store, its model, its cluster."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from segpipe.clusters import Existing, Local
from segpipe.deployment.reading import read_spec
from segpipe.errors import SegpipeError
from segpipe.spec import RunSpec

LOW_BYTES = 5 * 10**9
"""Less room than this is worth a warning before a night."""

ANSWER_SECONDS = 5.0

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of `segpipe deploy check`.

    Attributes:
        what: was looked at.
        found: in a few words.
        todo: a command, or a sentence; empty where nothing is to be done.
    """

    what: str
    state: State
    found: str
    todo: str = ""


def check_config(path: Path) -> tuple[RunSpec | None, Check]:
    """The spec in a collection's file, if it is one."""
    what = f"collection file {path}"
    try:
        return read_spec(path), Check(what, "ok", "a valid run spec")
    except SegpipeError as error:
        return None, Check(what, "missing", str(error), "correct the file, then `prefect deploy`")


def check_machine(spec: RunSpec) -> Iterator[Check]:
    """All that a night of this collection needs of this machine; nothing is left behind."""
    yield _guarded("source", spec.source, _source, spec, "give an existing source, or mount it")
    yield _guarded("store", spec.store, _store, spec, "give the worker's user the right to write")
    yield _guarded("model", spec.model, _model, spec, "`segpipe models` lists what there is")
    cluster = spec.chosen_cluster
    if not isinstance(cluster, Local):
        todo = "install it where the worker of the pool runs"
        yield _guarded("cluster", cluster.kind, _package, spec, todo)
    if isinstance(cluster, Existing):
        todo = "start `dask scheduler`, or correct its address"
        look = partial(_dask, cluster.address)
        yield _guarded("Dask scheduler", cluster.address, look, spec, todo)


def _guarded(
    name: str, value: str, look: Callable[[RunSpec, str], Check], spec: RunSpec, todo: str
) -> Check:
    what = f"{name} {value}"
    try:
        return look(spec, what)
    except (SegpipeError, OSError) as error:
        return Check(what, "missing", str(error), todo)


def _source(spec: RunSpec, what: str) -> Check:
    from segpipe.readers import list_collection

    listing = list_collection(spec.source)
    first = next(iter(listing))
    return Check(what, "ok", f"a {listing.kind} of images; the first is {first.path}")


def _store(spec: RunSpec, what: str) -> Check:
    from segpipe.store.addresses import files_at
    from segpipe.store.files import LocalFiles
    from segpipe.store.opening import open_files

    files = files_at(spec.store)
    if isinstance(files, LocalFiles) and not files.root.exists():
        above = next(folder for folder in files.root.parents if folder.exists())
        LocalFiles(above).probe()
        return _room(what, above, "can be made, and written to")
    state = "a store" if set(files.names("")) else "empty, and can become a store"
    if state == "a store":
        open_files(spec.store)
    files.probe()
    if isinstance(files, LocalFiles):
        return _room(what, files.root, f"{state} that can be written to")
    return Check(what, "ok", f"{state} that can be written to")


def _room(what: str, folder: Path, found: str) -> Check:
    free = shutil.disk_usage(folder).free
    found += f", {free / 1e9:,.0f} GB free"
    if free < LOW_BYTES:
        return Check(what, "warning", found, "free some space: a full disk ends a night")
    return Check(what, "ok", found)


def _model(spec: RunSpec, what: str) -> Check:
    from segpipe.segmenters.catalog import models, resolve

    for card in models():
        if card.name == spec.model and not card.available:
            found = f"weights are not here yet ({card.size_bytes / 1e6:,.0f} MB at {card.weights})"
            return Check(what, "warning", found, "the first night downloads them, or fails")
    model = resolve(spec).spec
    sha256 = model.model.weights_sha256
    weights = f"weights {sha256[:12]}" if sha256 else "no weights"
    return Check(what, "ok", f"{weights}, on {model.device} in {model.precision}")


def _package(spec: RunSpec, what: str) -> Check:
    from segpipe.engine.connect import require_package

    require_package(spec.chosen_cluster.kind)
    return Check(what, "ok", "what it needs is installed here")


def _dask(address: str, _: RunSpec, what: str) -> Check:
    parts = urlsplit(address)
    if parts.hostname is None or parts.port is None:
        return Check(what, "missing", "no host and port", "an address is as tcp://host:8786")
    with socket.create_connection((parts.hostname, parts.port), ANSWER_SECONDS):
        return Check(what, "ok", "something answers there")
