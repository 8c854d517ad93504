"""Anything, in any order, killed anywhere: against a model that fits in a few lines.

The model knows which bytes each image has and which runs were forgotten. Whatever happens, the
store is sound, shows whole chunks, never loses one, and after a run that ended well every image has
exactly the newest result that its bytes deserve.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image

from segpipe.pipeline import process_chunk
from segpipe.query import query
from segpipe.readers.collection import Listing, list_collection
from segpipe.records import Chunk
from segpipe.store import Snapshot, create_store
from segpipe.store.commits import committed
from segpipe.store.compaction import compact
from segpipe.store.files import LocalFiles
from segpipe.store.forget import forget, plan_forgetting
from segpipe.store.fsck import check_store
from segpipe.store.gc import collect, find_garbage
from segpipe.store.recover import recover
from tests.faults.injected import DeadAt, Killed, faulty
from tests.generated import ThresholdSegmenter, blobs, due_chunks, failed_ids

BROKEN = b"\x89PNG\r\n\x1a\nbroken"

kills = st.none() | st.integers(0, 120)
"""Never, or at this step."""


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.images = self.folder / "images"
        self.images.mkdir()
        self.bytes: dict[str, bytes] = {}
        self.clock = 1_000_000_000
        self.runs: list[str] = []
        self.shown: set[str] = set()
        self.files = create_store(self.folder / "store")

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    # What happens to the archive

    @initialize(count=st.integers(1, 5))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.add(broken=False)

    @rule(broken=st.booleans())
    def add(self, broken: bool) -> None:
        self._put(f"{len(self.bytes):03d}.png", broken)

    @precondition(lambda self: self.bytes)
    @rule(which=st.integers(0, 1000), broken=st.booleans())
    def change(self, which: int, broken: bool) -> None:
        self._put(sorted(self.bytes)[which % len(self.bytes)], broken)

    # What is done with the store

    @rule(kill=kills, size=st.integers(1, 4))
    def run(self, kill: int | None, size: int) -> None:
        def plan(files: LocalFiles, listing: Listing) -> list[Chunk]:
            return due_chunks(Snapshot(files), size, listing)

        if self._segment(kill, plan):
            newest = {row["path"]: row for row in Snapshot(self.files).image_rows()}
            assert newest.keys() == self.bytes.keys()
            for path, data in self.bytes.items():
                if data == BROKEN:
                    assert newest[path]["status"] == "failed"
                else:
                    assert newest[path]["sha256"] == hashlib.sha256(data).hexdigest()

    @rule(kill=kills, size=st.integers(1, 4))
    def retry(self, kill: int | None, size: int) -> None:
        def plan(files: LocalFiles, listing: Listing) -> list[Chunk]:
            return due_chunks(Snapshot(files), size, listing, retry=True)

        failed = failed_ids(Snapshot(self.files), list_collection(str(self.images)))
        if self._segment(kill, plan):
            again = {
                r["image_id"]
                for r in Snapshot(self.files).image_rows()
                if r["run_id"] == self.runs[-1]
            }
            assert again == failed

    @rule(kill=kills, rows=st.integers(1, 20))
    def compact(self, kill: int | None, rows: int) -> None:
        self._do(kill, lambda files: compact(files, rows))

    @rule(kill=kills)
    def gc(self, kill: int | None) -> None:
        def clear(files: LocalFiles) -> None:
            for garbage in list(find_garbage(files, grace_seconds=0)):
                collect(files, garbage)

        if self._do(kill, clear):
            assert list(find_garbage(self.files, grace_seconds=0)) == []

    @precondition(lambda self: self.runs)
    @rule(kill=kills, which=st.integers(0, 1000))
    def forget(self, kill: int | None, which: int) -> None:
        run_id = self.runs[which % len(self.runs)]
        recover(self.files)
        chunks = set(plan_forgetting(self.files, run_id).chunks)
        ended = self._do(kill, lambda files: forget(files, plan_forgetting(files, run_id)))
        left = chunks & set(Snapshot(self.files).chunk_ids)
        assert left in (set(), chunks), "a run is forgotten whole or not at all"
        assert not (ended and left)
        if not left:
            self.shown -= chunks
            recover(self.files)
            if self.files.exists(f"runs/{run_id}/tombstone.json"):
                self.runs.remove(run_id)

    # What holds at any time

    @invariant()
    def it_is_sound(self) -> None:
        assert list(check_store(self.files)) == []

    @invariant()
    def nothing_is_lost(self) -> None:
        now = set(Snapshot(self.files).chunk_ids)
        assert self.shown <= now
        self.shown = now

    @invariant()
    def readers_see_whole_chunks_once(self) -> None:
        snapshot = Snapshot(self.files)
        found = query(
            snapshot,
            """SELECT (SELECT count(*) FROM images) AS rows,
                      (SELECT count(DISTINCT (image_id, run_id, chunk_id)) FROM images) AS keys,
                      (SELECT coalesce(sum(n_objects), 0) FROM images) AS promised,
                      (SELECT count(*) FROM objects) AS objects""",
            threads=1,
        ).to_pylist()[0]
        assert found["rows"] == found["keys"]
        assert found["promised"] == found["objects"]

    # How

    def _put(self, name: str, broken: bool) -> None:
        path = self.images / name
        self.clock += 1
        if broken:
            path.write_bytes(BROKEN)
        else:
            Image.fromarray(blobs(self.clock, (16, 24))).save(path)
        os.utime(path, (self.clock, self.clock))
        self.bytes[name] = path.read_bytes()

    def _segment(
        self, kill: int | None, plan: Callable[[LocalFiles, Listing], list[Chunk]]
    ) -> bool:
        self.clock += 1
        run_id = f"run-{self.clock}"

        def segment(files: LocalFiles) -> None:
            files.replace(f"runs/{run_id}/record.json", b"{}")
            self.runs.append(run_id)
            chunks = plan(files, list_collection(str(self.images)))
            for chunk in chunks:
                process_chunk(chunk, ThresholdSegmenter(), files, run_id)

        return self._do(kill, segment)

    def _do(self, kill: int | None, work: Callable[[LocalFiles], object]) -> bool:
        """Do it as a new process would, which dies at a step; whether it came to its end."""
        files = self.files if kill is None else faulty(self.files.root, DeadAt(kill))
        try:
            recover(files)
            work(files)
        except Killed:
            return False
        assert set(Snapshot(self.files).chunk_ids) == set(committed(self.files))
        return True


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=int(os.environ.get("SEGPIPE_MACHINE_EXAMPLES", "25")),
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
