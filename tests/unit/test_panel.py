"""The panel of a training run can be drawn of whatever the model found."""

from __future__ import annotations

import numpy as np
import pytest

from segpipe.training.panel import _objects


@pytest.mark.parametrize("labels", [[[0, 0], [0, 0]], [[0, 3], [0, 3]], [[2, 2], [5, 5]]])
def test_objects_are_coloured_and_hidden_ones_are_left_out(labels: list[list[int]]) -> None:
    image = np.full((2, 2, 3), 10, np.uint8)
    array = np.array(labels)
    drawn = _objects(image, array)
    changed = (drawn != image).any(axis=2)
    assert np.array_equal(changed, array > 0)
    for label in np.unique(array[array > 0]):
        assert len(np.unique(drawn[array == label], axis=0)) == 1
