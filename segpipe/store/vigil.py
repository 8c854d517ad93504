"""Which runs of a store died without a word or hang, seen from outside, and what was told of it.

It needs the store and nothing else: no server, no process of the run. What people were told is
remembered in the store (`told/`): whoever looks, the next night or the watch, tells it once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from segpipe.records import first_partition
from segpipe.store import layout
from segpipe.store.files import Files
from segpipe.store.leases import is_live, live_runs, storage_time
from segpipe.store.sums import SUMS

LOOK_BACK = 500
"""Runs that are looked at, the newest ones: a look costs no more in a store of many years."""

What = Literal["died", "stalled", "moving"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """Something about a run that nobody was told yet.

    Attributes:
        what: `died`: it said that it runs, and nobody renews its lease. `stalled`: it is alive and
            commits nothing. `moving`: it was `stalled`, and is not any more, or has ended.
        text: one sentence for people.
    """

    run_id: str
    what: What
    text: str


def sightings(files: Files, stall_minutes: float) -> Iterator[Sighting]:
    """What people should be told of the runs of a store, and were not.

    Args:
        stall_minutes: a run that has committed nothing for longer is stalled.
    """
    told = set(files.names(layout.TOLD))
    dead = set(_dead(files))
    for run_id in sorted(dead):
        if f"{run_id}.died" not in told:
            yield Sighting(run_id, "died", _obituary(files, run_id))
    stalled = dict(_stalled(files, storage_time(files), stall_minutes * 60))
    for run_id, seconds in sorted(stalled.items()):
        if f"{run_id}.stalled" not in told:
            text = f"run {run_id} lives{_where(files, run_id)}"
            text += f" and has committed nothing for {seconds / 60:.0f} minutes"
            yield Sighting(run_id, "stalled", text)
    for name in sorted(told):
        run_id, _, what = name.rpartition(".")
        if what == "stalled" and run_id not in stalled:
            state = "it has died" if run_id in dead else _state(files, run_id)
            yield Sighting(run_id, "moving", f"run {run_id} hangs no more: {state}")


def remember(files: Files, seen: Iterable[Sighting]) -> None:
    """People were told of these: `sightings` leaves them out from now on."""
    for sighting in seen:
        if sighting.what == "moving":
            files.remove(layout.told_file(sighting.run_id, "stalled"))
        else:
            path = layout.told_file(sighting.run_id, sighting.what)
            files.create(path, sighting.text.encode())


def _dead(files: Files) -> Iterator[str]:
    """Runs that say they are running and are not.

    A run ends its record before its lease: so the record is read once more after the leases.
    """
    newest = sorted(files.names(layout.RUNS))[-LOOK_BACK:]
    running = [run_id for run_id in newest if _says_running(files, run_id)]
    live = live_runs(files, storage_time(files)) if running else set()
    for run_id in running:
        if not is_live(run_id, live) and _says_running(files, run_id):
            yield run_id


def _says_running(files: Files, run_id: str) -> bool:
    # The record of a run that has ended is sealed: the cheap question goes first.
    if files.exists(layout.run_file(run_id, SUMS)):
        return False
    return _read(files, layout.run_file(run_id, "record.json")).get("status") == "running"


def _stalled(files: Files, now: float, limit: float) -> Iterator[tuple[str, float]]:
    """(run, seconds since its last commit) of those that live and hang; to wait is not to hang."""
    for run_id in live_runs(files, now):
        path = layout.lease_file(run_id)
        said = _read(files, path)
        idle = said.get("idle_seconds")
        if not isinstance(idle, int | float) or said.get("waiting"):
            continue
        try:
            seconds = idle + max(0.0, now - files.modified(path))
        except FileNotFoundError:
            continue  # it has just ended
        if seconds > limit:
            yield run_id, seconds


def _obituary(files: Files, run_id: str) -> str:
    where = _where(files, run_id)
    return (
        f"run {run_id} died without a word{where}: it says that it is running, and nobody renews "
        "its lease. What it committed is safe; the next run goes on from there"
    )


def _where(files: Files, run_id: str) -> str:
    """On which machine, as far as its lease is there to say it."""
    holder = _read(files, layout.lease_file(first_partition(run_id)))
    return f" on {holder['host']} (process {holder.get('pid')})" if "host" in holder else ""


def _state(files: Files, run_id: str) -> str:
    status = _read(files, layout.run_file(run_id, "record.json")).get("status", "gone")
    return "it goes on" if status == "running" else f"it is {status}"


def _read(files: Files, path: str) -> Mapping[str, object]:
    """A small JSON file; empty if it is not there, or not an object."""
    try:
        value = json.loads(files.read(path))
    except (FileNotFoundError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
