"""One large image on several workers, some of which die."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from distributed import Client

import tests.generated
import tests.parts
from segpipe.engine import Looked, Work, equipped, local_cluster, run_chunks
from segpipe.pipeline import process_chunk
from segpipe.records import Commit, DecodedImage, Segmentation
from segpipe.segmenters.base import View
from segpipe.spec import SegmentSpec
from segpipe.store import Snapshot, create_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests.parts import Parts, chunk_in, keep, scene

# The workers do not have the tests; the segmenter travels to them whole.
cloudpickle.register_pickle_by_value(tests.generated)
cloudpickle.register_pickle_by_value(tests.parts)
cloudpickle.register_pickle_by_value(sys.modules[__name__])

POISON = 77
"""A pixel of this value kills whoever looks at it, unless it sees the whole image."""


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


def load(spec: SegmentSpec, told: Path | None, threads: int | None) -> Any:
    return Telling(told)


def load_mortal(spec: SegmentSpec, told: Path | None, threads: int | None) -> Any:
    return Mortal(told)


class Telling(Parts):
    """Writes down who has looked at parts."""

    def __init__(self, told: Path | None) -> None:
        super().__init__()
        self._told = told

    def finish(self, raw: np.ndarray, image: DecodedImage) -> Segmentation:
        assert self._told
        with self._told.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return super().finish(raw, image)


class Mortal(Telling):
    def prepare_part(self, part: DecodedImage, view: View) -> np.ndarray:
        if (part.pixels == POISON).any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare_part(part, view)


def run(client: Client, folder: Path, loaded: Any) -> tuple[list[Commit | Looked], Snapshot]:
    files = create_store(folder / "store")
    told = folder / "told"
    told.touch()
    work = Work("run", str(files.root), Parts().spec, told, 1, loaded)
    with equipped(client, work) as staff:
        answers = list(run_chunks(staff, [chunk_in(folder, Parts())]))
    return answers, Snapshot(files)


def test_its_parts_go_to_all_workers(client: Client, tmp_path: Path) -> None:
    keep(tmp_path, scene(1, (1500, 400), 20))
    keep(tmp_path, scene(2, (300, 300), 20), "other.tif")
    keep(tmp_path, scene(3, (50, 60), 20), "small.tif")
    answers, there = run(client, tmp_path, load)
    looked = [one for one in answers if isinstance(one, Looked)]
    assert [one.done for one in looked] == list(range(1, 30))
    assert {one.total for one in looked} == {29}
    assert isinstance(answers[-1], Commit)
    assert len(set((tmp_path / "told").read_text().split())) == 2, "both have looked at parts"

    here = create_store(tmp_path / "here")
    process_chunk(chunk_in(tmp_path, Parts()), Parts(), here, "run")
    assert logical_digest(there) == logical_digest(Snapshot(here))
    assert not list(there.files.names("units"))


def test_a_part_that_kills_costs_two_workers_and_its_image(client: Client, tmp_path: Path) -> None:
    pixels = scene(1, (600, 600), 20)
    pixels[300, 150] = POISON  # where the first look at a few parts does not come
    keep(tmp_path, scene(2, (300, 300), 20), "good.tif")
    keep(tmp_path, pixels)
    answers, snapshot = run(client, tmp_path, load_mortal)
    good, bad = snapshot.image_rows()
    assert (good["status"], bad["reason"]) == ("ok", "worker_died")
    assert [type(one) for one in answers].count(Commit) == 1
    assert list(check_store(snapshot.files)) == []
