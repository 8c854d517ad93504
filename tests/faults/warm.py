"""Loaded once by the process that others are forked from: imports done, kernels compiled."""

from __future__ import annotations

import numpy as np

import segpipe.pipeline  # noqa: F401 - for those who are forked
from segpipe.measure.properties import measure_objects
from segpipe.records import Segmentation

measure_objects(
    Segmentation(np.ones((2, 2), np.uint32), np.ones(1, np.float32), np.ones(1, np.int32)),
    np.zeros((2, 2, 1), np.uint8),
)
