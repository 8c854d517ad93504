"""The power goes, and what was not synced is lost, in part or in whole, in any order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from segpipe.store.compaction import compact
from segpipe.store.files import LocalFiles
from segpipe.store.forget import forget, plan_forgetting
from tests.faults.injected import Killed
from tests.faults.scenarios.runs import Job, Violations, make_job, resume, work
from tests.faults.scenarios.write_log import Promise, RecordingDisk, WriteLog, cut_power

CUTS = 10
"""Power cuts in each recorded history."""

Happening = Callable[[], object]


class _History:
    """A store whose changes are all written down."""

    def __init__(self, root: Path, job: Job) -> None:
        self.log = WriteLog(root)
        self._job = job
        self._done: set[str] = set()
        self._names = count()

    def run(self, meanwhile: Happening | None = None, at: int = 0) -> None:
        """A run; before its change number `at`, something else happens."""
        files = self._files(_Interrupted(self.log, meanwhile, at))
        work(files, self._job, f"run-{next(self._names)}", self._promise)

    def killed_run(self, at: int) -> None:
        def die() -> None:
            raise Killed

        try:
            self.run(die, at)
        except Killed:
            return

    def compact(self) -> None:
        compact(self._files())

    def forget(self, run_id: str) -> None:
        files = self._files()
        tombstone = plan_forgetting(files, run_id)
        self._done -= tombstone.chunks.keys()
        self.log.events.append(Promise(frozenset(self._done)))
        forget(files, tombstone)

    def _promise(self, chunk_id: str) -> None:
        self._done.add(chunk_id)
        self.log.events.append(Promise(frozenset(self._done)))

    def _files(self, disk: RecordingDisk | None = None) -> LocalFiles:
        return LocalFiles(self.log.root, disk or RecordingDisk(self.log))


class _Interrupted(RecordingDisk):
    """Before its change number `at` something else happens; if that kills, it is dead for good."""

    def __init__(self, log: WriteLog, happening: Happening | None, at: int) -> None:
        super().__init__(log)
        self._happening = happening
        self._left = at
        self._dead = False

    def before(self) -> None:
        if self._dead:
            raise Killed
        self._left -= 1
        if self._left < 0 and self._happening is not None:
            happening, self._happening = self._happening, None
            try:
                happening()
            except Killed:
                self._dead = True
                raise


def lose_what_was_not_synced(times: int, rng: random.Random, folder: Path) -> Iterator[Violations]:
    """Runs alone, at once, killed, and after compacting and forgetting; then the power goes."""
    job = make_job(folder, images=5, chunk_images=3)
    for number in range(times):
        if number % CUTS == 0:
            history = _History(folder / f"recorded-{number}" / "store", job)
            history.log.root.parent.mkdir()
            rng.choice(_SCRIPTS)(history, rng.randrange(job.steps // 2))
        root = folder / f"cut-{number}" / "store"
        promised = cut_power(
            history.log, rng.randrange(len(history.log.events) + 1), rng, root.parent
        )
        commits = {path.stem for path in root.glob("commits/*.json")}
        lost = [f"{chunk_id}: was done and is lost" for chunk_id in sorted(promised - commits)]
        yield lost + resume(root, job)


def _alone(history: _History, at: int) -> None:
    history.run()


def _at_once(history: _History, at: int) -> None:
    history.run(history.run, at)


def _after_a_kill(history: _History, at: int) -> None:
    history.killed_run(at)
    history.run()


def _killed_while_another_runs(history: _History, at: int) -> None:
    def win() -> None:
        history.run()
        raise Killed

    try:
        history.run(win, at)
    except Killed:
        return


def _compacted_and_forgotten(history: _History, at: int) -> None:
    history.killed_run(at)
    history.run()
    history.compact()
    history.forget("run-1")
    history.run()


_SCRIPTS = (_alone, _at_once, _after_a_kill, _killed_while_another_runs, _compacted_and_forgotten)
