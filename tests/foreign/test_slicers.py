"""What segpipe makes of a cut image is no worse than what the slicers make that people use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.foreign.jobs import Job
from tests.foreign.looks import FOREIGN, found_by
from tests.foreign.mosaic import mosaic_of
from tests.foreign.scores import Score, score
from tests.foreign.ways import SEGPIPE, WHOLE

OTHERS = (
    "supervision NMS, IoU, compact",
    "supervision NMM, IoS, compact",
    "SAHI NMS, IoU",
    "SAHI GREEDYNMM, IoS",
)


@pytest.fixture(scope="module")
def scores(shared_data: Path) -> dict[str, Score]:
    for name in ("supervision", "sahi"):
        if not list(FOREIGN.glob(f"lib/python*/site-packages/{name}")):
            pytest.skip(f"{name} is absent (make .venv-foreign/.ready)")
    mosaic = mosaic_of(shared_data / "nuclei", 2)
    found = found_by([WHOLE, SEGPIPE, *OTHERS], Job(mosaic.pixels, 320, 128, threads=1))
    assert len(found[SEGPIPE].slices) > 4
    return {
        name: score(one.objects, found[WHOLE].objects, mosaic.truth, one.slices)
        for name, one in found.items()
    }


def test_nothing_is_there_twice_at_a_seam(scores: dict[str, Score]) -> None:
    assert scores[SEGPIPE].duplicates == scores[WHOLE].duplicates == 0
    assert scores[SEGPIPE].split == 0
    # That is not for want of anything to double: with their usual filters others do.
    assert max(scores[name].on_seams for name in OTHERS) > 0


def test_precision_is_that_of_the_best_of_the_others_at_least(scores: dict[str, Score]) -> None:
    for of in ("ap", "agreement"):
        best = max(getattr(scores[name], of) for name in OTHERS)
        assert getattr(scores[SEGPIPE], of) > best - 0.005
