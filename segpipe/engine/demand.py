"""Workers come as there is work for them, and go when there is none."""

from __future__ import annotations

import math
from typing import Any

from distributed import Adaptive
from distributed.deploy.cluster import Cluster


class Demand:
    """What a run still has to do: its window of chunks says so, adaptive scaling reads it.

    Attributes:
        chunks: that are not done; infinite while the plan has more than the window holds.
    """

    def __init__(self) -> None:
        self.chunks = math.inf


class AsNeeded(Adaptive):
    """As many workers as there are chunks, between two bounds.

    Dask's own rule looks at the tasks that its scheduler has: of a window that grows with the
    workers it would ask for a few more at a time, and a queue may take hours for each step.
    """

    def __init__(self, cluster: Cluster, demand: Demand, **options: Any) -> None:
        super().__init__(cluster, **options)
        self._demand = demand

    async def target(self) -> int:
        return int(min(self._demand.chunks, self.maximum))
