"""Confidence intervals of any statistic of a set of images, by resampling.

The percentile bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). What is
drawn, with replacement, are whole units. A unit is one image where images are independent of each
other. Where several images show one subject they are not, and the subject is the unit (the
cluster bootstrap of Field and Welsh, J. R. Stat. Soc. B 2007); images as units would then give
intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt

from segpipe.errors import InvariantError

Floats = npt.NDArray[np.float64]

Statistic = Callable[[Floats], Floats]
"""(R, N) how often each of N images is in each of R samples -> (R, K): K numbers per sample."""


def bootstrap_interval(
    statistic: Statistic,
    units: Sequence[Hashable],
    seed: int,
    resamples: int = 1000,
    level: float = 0.95,
) -> Floats | None:
    """Intervals that hold each number of a statistic with probability `level`.

    Args:
        statistic: as `Statistic`; a NaN says that a number is undefined in a sample, and such
            samples are left out for that number.
        units: the unit of each of N images; `range(N)` makes each image one.
        seed: the same seed and units give the same interval.

    Returns:
        (K, 2) lower and upper end; NaN for a number that is undefined in every sample. None where
        there are fewer than two units, which say nothing of how units differ.

    Raises:
        InvariantError: `level` is not between 0 and 1, or there is not one resample.
    """
    if not 0 < level < 1 or resamples < 1:
        raise InvariantError(f"level {level} of {resamples} resamples; allowed is 0 to 1 of 1 up")
    names = list(dict.fromkeys(units))
    if len(names) < 2:
        return None
    number = {name: i for i, name in enumerate(names)}
    member = np.array([number[unit] for unit in units])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    values = statistic(drawn[:, member].astype(np.float64))
    tail = (1 - level) / 2
    ends = np.full((2, values.shape[1]), np.nan)
    defined = ~np.isnan(values).all(axis=0)
    ends[:, defined] = np.nanquantile(values[:, defined], (tail, 1 - tail), axis=0)
    return ends.T
