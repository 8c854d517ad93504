"""How loops over pixels are compiled, and what arrays go into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call and keep the machine code; other threads run meanwhile.

    It is kept beside the function's file, or in the user's cache folder where that is read-only,
    or not at all where neither can be written: then every process compiles anew.
    """
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:
        return njit(nogil=True, error_model="numpy")(function)


def readable(array: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A C-contiguous, read-only view of `dtype`; a copy only where it must be one.

    Compiled loops take their inputs so, since numba compiles one variant per array type.
    """
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view
