"""Who is alive: a run renews a small file of its own while it works, and says in it what it does.

Nothing that must be right depends on it. A lease keeps `gc` from clearing away the attempts of a
run that works, tells a run that died without a word from one that is still going on, and keeps two
nights from doing the same work.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace

import psutil

from segpipe.errors import BusyError, StoreError
from segpipe.records import first_partition
from segpipe.store import layout
from segpipe.store.files import TEMPORARY, Files

RENEW_SECONDS = 60.0
LEASE_SECONDS = 600.0
"""A run that has not renewed its lease for this long is taken for dead."""

LOOK_SECONDS = 5.0
"""Between two looks of a run that waits for another."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lease says.

    Attributes:
        work: the same for two runs that would do the same images in the same way.
        waiting: for another run with the same work.
        idle_seconds: for which it had committed nothing when it was renewed.
    """

    run_id: str
    host: str
    pid: int
    work: str = ""
    waiting: bool = False
    idle_seconds: float = 0.0


@contextmanager
def lease(
    files: Files, run_id: str, work: str = "", patience: float | None = None
) -> Iterator[Callable[[], None]]:
    """Inside the block the run is alive for others; a thread renews its lease.

    What it yields is called after each commit: others can tell that the run does not hang.

    Args:
        work: see `Holder`.
        patience: seconds to wait for live runs with the same work; None to begin beside them,
            with a warning.

    Raises:
        BusyError: another run was still at it when the patience was over.
    """
    own = _Lease(files, Holder(run_id, socket.gethostname(), os.getpid(), work))
    try:
        if work:
            own.take_turn(patience)
            own.moved()
        yield own.moved
    finally:
        own.end()


class _Lease:
    """The lease of this process, renewed by a thread until it ends."""

    def __init__(self, files: Files, holder: Holder) -> None:
        self._files = files
        self._path = layout.lease_file(holder.run_id)
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._holder = holder
        self.moved()
        self._write(holder)
        self._thread = threading.Thread(target=self._renew, name="segpipe-lease", daemon=True)
        self._thread.start()

    def moved(self) -> None:
        """Something was committed; said with the next renewal."""
        self._moved = time.monotonic()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self._files.remove(self._path)

    def take_turn(self, patience: float | None) -> None:
        """Wait until no other live run is at this work, or go ahead of its patience's end.

        Whoever writes that it works looks again afterwards, and steps back if another does too:
        of two, the one who looks later sees the other. Those who wait go by their ids.
        """
        began = time.monotonic()
        told = False
        while others := self._others_at_work():
            text = "; ".join(f"run {one.run_id} on {one.host}, process {one.pid}" for one in others)
            if patience is None:
                logging.getLogger(__name__).warning(
                    "%s: does the same work; both go on, and may do images twice", text
                )
                return
            self._write(replace(self._holder, waiting=True))
            while self._is_behind():
                if time.monotonic() - began > patience:
                    raise BusyError(
                        f"{text}: still does the same work after {patience:,.0f} seconds "
                        "(night.wait_hours); stop it, or look why it takes so long"
                    )
                if not told:
                    logging.getLogger(__name__).warning("%s: does the same work; waiting", text)
                    told = True
                time.sleep(LOOK_SECONDS)
            self._write(replace(self._holder, waiting=False))

    def _others_at_work(self) -> list[Holder]:
        return [one for one in self._others() if not one.waiting]

    def _is_behind(self) -> bool:
        return any(not one.waiting or one.run_id < self._holder.run_id for one in self._others())

    def _others(self) -> list[Holder]:
        """Live holders with the same work; those of this machine whose process ended are dead."""
        found = holders(self._files, storage_time(self._files))
        here = self._holder.host
        return [
            one
            for one in found
            if one.work == self._holder.work
            and one.run_id != self._holder.run_id
            and (one.host != here or psutil.pid_exists(one.pid))
        ]

    def _write(self, holder: Holder | None = None) -> None:
        with self._writing:
            idle = round(time.monotonic() - self._moved, 3)
            self._holder = replace(holder or self._holder, idle_seconds=idle)
            self._files.replace(self._path, json.dumps(asdict(self._holder)).encode())

    def _renew(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            try:
                self._write()
            except (OSError, StoreError) as error:  # a full disk, say; the next time may do
                text = "%s: not renewed: %s"
                logging.getLogger(__name__).warning(text, self._path, error)


def holders(files: Files, now: float | None = None) -> list[Holder]:
    """Those who are alive; `now` as from `storage_time`, or else by this machine's clock."""
    now = time.time() if now is None else now
    found = []
    for name in files.names(layout.LEASES):
        path = f"{layout.LEASES}/{name}"
        if now - _modified(files, path) < LEASE_SECONDS:
            with suppress(FileNotFoundError):  # it has just ended
                found.append(_holder(name.removesuffix(".json"), files.read(path)))
    return found


def _holder(run_id: str, content: bytes) -> Holder:
    """What a lease says; of one that this version cannot read, that there is such a run."""
    try:
        known = {field.name for field in fields(Holder)}
        said = {key: value for key, value in json.loads(content).items() if key in known}
        return Holder(**said)
    except (ValueError, TypeError, AttributeError):
        return Holder(run_id, host="", pid=0)


def is_live(run_id: str, live: set[str]) -> bool:
    """Whether a run, or the one that it is a partition of, is among the live ones."""
    return run_id in live or first_partition(run_id) in live


def live_runs(files: Files, now: float | None = None) -> set[str]:
    """The runs that are at work; `now` as from `storage_time`, or else by this machine's clock."""
    now = time.time() if now is None else now
    paths = [f"{layout.LEASES}/{name}" for name in files.names(layout.LEASES)]
    alive = [path for path in paths if now - _modified(files, path) < LEASE_SECONDS]
    return {path.rpartition("/")[2].removesuffix(".json") for path in alive}


def storage_time(files: Files) -> float:
    """Seconds by the clock that also stamps the files, whatever the clock of this machine says."""
    probe = f"{TEMPORARY}clock-{secrets.token_hex(8)}"
    try:
        files.write(probe, b"")
        return files.modified(probe)
    finally:
        files.remove(probe)


def _modified(files: Files, path: str) -> float:
    try:
        return files.modified(path)
    except FileNotFoundError:  # the run has just ended
        return float("-inf")
