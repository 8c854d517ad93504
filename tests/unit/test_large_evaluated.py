"""A large image is compared with its truth as the same image in a stack of masks is, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segpipe.errors import SpecError
from segpipe.report import comparison
from segpipe.report.comparison import Comparison
from segpipe.report.evaluate import evaluate
from segpipe.report.evaluation import Intervals
from segpipe.report.evaluation_picture import draw_examples
from tests.large_rows import Twins, scene, twins

SHAPE = 2200, 1000


def with_truth(folder: Path, semantic: bool) -> tuple[Twins, Path]:
    one = scene(11, SHAPE, semantic=semantic)
    found = one.segmentation
    true = found.label_image if found.semantic is None else found.semantic
    truth = folder / "truth"
    truth.mkdir()
    tifffile.imwrite(truth / "scan.tif", np.roll(true, 2, axis=0))
    return twins(folder, one), truth


@pytest.mark.parametrize("semantic", [False, True])
def test_numbers_are_the_same(tmp_path: Path, semantic: bool) -> None:
    pair, truth = with_truth(tmp_path, semantic)
    told, shapes = [], []
    for snapshot in pair.snapshots:
        compared = Comparison(snapshot, [truth])
        found = evaluate(compared, None, Intervals(resamples=0))
        told.append(found.to_dict())
        shapes.append(draw_examples(compared, found).size)
    assert told[0] == told[1]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("semantic", [False, True])
def test_what_takes_more_than_there_is_names_both_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, semantic: bool
) -> None:
    pair, truth = with_truth(tmp_path, semantic)
    monkeypatch.setattr(comparison, "memory_limit", lambda: 10_000_000)
    with pytest.raises(SpecError, match=r"2,200 x 1,000 pixels .* may use 0\.0 GB"):
        evaluate(Comparison(pair.snapshots[1], [truth]), None, Intervals(resamples=0))
