"""Connected regions over tiles are those of the whole image, whatever the tiles number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from segpipe.errors import InvariantError
from segpipe.masks.faces import faces_of, join_faces
from segpipe.planning.tiles import plan_tiles

CLASSES = hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 24)] * 2), elements=st.integers(0, 2))


def regions(classes: np.ndarray, diagonal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Connected regions of each class, and the class of each."""
    structure = np.ones((3, 3)) if diagonal else None
    labels, count, class_ids = np.zeros(classes.shape, int), 0, []
    for class_id in (1, 2):
        own, found = ndimage.label(classes == class_id, structure)
        labels[own > 0] = own[own > 0] + count
        count += found
        class_ids += [class_id] * found
    return labels, np.array(class_ids, np.int32)


@settings(deadline=None, max_examples=300)
@given(CLASSES, st.integers(1, 9), st.booleans(), st.randoms(use_true_random=False))
def test_tiled_is_untiled(classes: np.ndarray, core: int, diagonal: bool, random) -> None:
    tiling = plan_tiles(classes.shape, core, 0)
    found = {tiling.number(t): regions(classes[t.core.slices], diagonal) for t in tiling}
    faces = [faces_of(tiling, tiling[number], *one) for number, one in found.items()]
    random.shuffle(faces)
    lookups = join_faces(tiling, faces, diagonal)
    joined = np.zeros(classes.shape, np.uint32)
    for number, (labels, _) in found.items():
        joined[tiling[number].core.slices] = lookups[number][labels]
    expected, class_ids = regions(classes, diagonal)
    together = np.unique(np.stack((joined.ravel(), expected.ravel())), axis=1)
    assert together.shape[1] == len(np.unique(expected)) == len(np.unique(joined))
    assert joined.max() == len(class_ids)
    assert ((joined > 0) == (classes > 0)).all()


def test_what_does_not_fit_is_refused() -> None:
    tiling = plan_tiles((4, 8), 4, 0)
    labels, class_ids = np.ones((4, 4), int), np.ones(1, np.int32)
    with pytest.raises(InvariantError, match="shape"):
        faces_of(tiling, tiling[0], labels[1:], class_ids)
    with pytest.raises(InvariantError, match="label 2"):
        faces_of(tiling, tiling[0], 2 * labels, class_ids)
    one = faces_of(tiling, tiling[0], labels, class_ids)
    for wrong in ([one], [one, one]):
        with pytest.raises(InvariantError, match="of 2 tiles"):
            join_faces(tiling, wrong)
