"""Questions of the grid to the index: which images, in which order, and how numbers spread."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from segpipe.errors import SpecError
from segpipe.viewer.filters import MEASURES, Filter, all_of
from segpipe.viewer.index import Index

T = TypeVar("T")

SORTS = {
    "path": "place",
    "objects": "n",
    "lowest_score": "lowest",
    "largest_area": "largest",
    "run": "run_id",
    "pixels": "height::BIGINT * width",
    "outcome": "coalesce(reason, '')",
}
"""Name -> expression over what is shown of an image."""

BINS = 40

FIRST = ("n_objects", "area", "score")
"""Histograms that are there before a person asks for others."""

_KEPT_ORDERS = 6
_KEPT_HISTOGRAMS = 200
_LOGARITHMIC = 20
"""Where the largest value is that many times the mean, and none is 0, the axis is logarithmic."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """All images that a filter shows, in order.

    Attributes:
        results: (N,) numbers of the index.
        n, lowest, largest: (N,) objects that meet the filter, their lowest score and largest area;
            masked where there is none.
    """

    results: Any
    n: Any
    lowest: Any
    largest: Any

    @property
    def objects(self) -> int:
        return int(self.n.sum()) if len(self.n) and self.n.sum() is not np.ma.masked else 0


class Answers:
    """Answers, and the last of them kept; safe to use from several threads."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._orders: OrderedDict[Any, Order] = OrderedDict()
        self._histograms: OrderedDict[Any, dict[str, Any]] = OrderedDict()

    def prepare(self) -> None:
        """Have ready what a person sees first."""
        for name in FIRST:
            self.histogram(name, Filter())
        self.order(Filter(), "path", False)

    def order(self, chosen: Filter, sort: str, descending: bool) -> Order:
        """The images of a filter.

        Raises:
            SpecError: no such order.
        """
        if sort not in SORTS:
            raise SpecError(f"sort {sort!r}; allowed: {', '.join(SORTS)}")
        key = self._index.version, chosen, sort, descending
        return self._kept(
            self._orders, _KEPT_ORDERS, key, lambda: self._order(chosen, sort, descending)
        )

    def _order(self, chosen: Filter, sort: str, descending: bool) -> Order:
        way = "DESC" if descending else "ASC"
        sql = f"{_shown(chosen)} ORDER BY {SORTS[sort]} {way} NULLS LAST, place"
        found = self._index.columns(sql)
        return Order(*(found[name] for name in ("result", "n", "lowest", "largest")))

    def rows(self, order: Order, offset: int, limit: int) -> list[dict[str, Any]]:
        """Some of the images, with what a card shows."""
        part = slice(offset, offset + limit)
        results = [int(result) for result in order.results[part]]
        if not results:
            return []
        names = (
            "image_id", "run_id", "model", "path", "status", "reason", "detail", "height", "width",
            "saturated",
        )  # fmt: skip
        found = self._index.ask(
            f"SELECT result, {', '.join(names)} FROM image_rows "  # noqa: S608 - ours
            f"WHERE result IN ({', '.join(map(str, results))})"
        )
        rows = {row[0]: dict(zip(names, row[1:], strict=True)) for row in found}
        facts = zip(results, order.n[part], order.lowest[part], order.largest[part], strict=True)
        return [
            {**rows[result], "n": _plain(n), "lowest": _plain(low), "largest": _plain(large)}
            for result, n, low, large in facts
            if result in rows  # else it was forgotten a moment ago
        ]

    def histogram(self, name: str, chosen: Filter) -> dict[str, Any]:
        """How a measure spreads over what is shown, whatever its own range is.

        Returns:
            `edges` (B + 1), `all` and `shown` (B): counts in the whole run, and in the filter;
            `log`: the edges are equal steps of the logarithm. No edges where there is no value.

        Raises:
            SpecError: there is no such measure.
        """
        if name not in MEASURES:
            raise SpecError(f"column {name[:80]!r}; allowed: {', '.join(MEASURES)}")
        chosen = chosen.without(name)
        key = self._index.version, name, chosen
        return self._kept(
            self._histograms, _KEPT_HISTOGRAMS, key, lambda: self._histogram(name, chosen)
        )

    def _histogram(self, name: str, chosen: Filter) -> dict[str, Any]:
        measure = MEASURES[name]
        about = {"column": name, "level": measure.level, "unit": measure.unit}
        if chosen != chosen.scope:
            # The axis and the grey bars are those of the whole run.
            whole = self.histogram(name, chosen.scope)
            edges, log = whole["edges"], whole["log"]
            return {**whole, "shown": self._counts(name, chosen, edges, log) if edges else []}
        sql = f"SELECT min(v), max(v), avg(v) FROM ({self._values(name, chosen)})"  # noqa: S608
        ((low, high, mean),) = self._index.ask(sql)
        if low is None:
            return {**about, "edges": [], "all": [], "shown": [], "log": False}
        low, high, mean = float(low), float(high), float(mean)
        edges, log = bin_edges(low, high, mean, measure.whole)
        counts = self._counts(name, chosen, edges, log)
        return {**about, "edges": edges, "all": counts, "shown": counts, "log": log}

    def _values(self, name: str, chosen: Filter) -> str:
        everything = False
        if not chosen.image_conditions():
            scope = all_of(chosen.scope_conditions())
            ((everything,),) = self._index.ask(
                f"SELECT coalesce(bool_and({scope}), true) "  # noqa: S608 - quoted
                "FROM facts JOIN image_rows USING (result)"
            )
        return _values(name, chosen, everything)

    def _counts(self, name: str, chosen: Filter, edges: list[float], log: bool) -> list[int]:
        sql = (
            f"SELECT {bin_of(edges, log)} AS b, count(*) "  # noqa: S608 - ours
            f"FROM ({self._values(name, chosen)}) WHERE v IS NOT NULL GROUP BY b"
        )
        counts = [0] * (len(edges) - 1)
        for place_of, count in self._index.ask(sql):
            counts[place_of] = count
        return counts

    def _kept(self, cache: OrderedDict[Any, T], most: int, key: Any, make: Callable[[], T]) -> T:
        with self._lock:
            if key in cache:
                cache.move_to_end(key)
                return cache[key]
        made = make()
        with self._lock:
            cache[key] = made
            while len(cache) > most:
                cache.popitem(last=False)
        return made


def bin_edges(low: float, high: float, mean: float, whole: bool) -> tuple[list[float], bool]:
    """Edges of at most `BINS` bins, and whether they are steps of the logarithm."""
    if whole and high - low < BINS:
        return [low + step for step in range(int(high - low) + 2)], False
    if high <= low:
        return [low, low + (abs(low) or 1.0)], False
    if low > 0 and high > _LOGARITHMIC * mean:
        step = math.log(high / low) / BINS
        return [low * math.exp(step * index) for index in range(BINS)] + [high], True
    step = high / BINS - low / BINS
    return [low + step * index for index in range(BINS)] + [high], False


def bin_of(edges: list[float], log: bool) -> str:
    """The number of the bin in which `v` is, in SQL; what is beyond the ends is in the last ones.

    As DOUBLE: a number with a point in it is a DECIMAL for DuckDB, which overflows.
    """
    bins = len(edges) - 1
    low, high = (math.log(edge) if log else edge for edge in (edges[0], edges[-1]))
    value = "ln(v::DOUBLE)" if log else "v::DOUBLE"
    step = high / bins - low / bins  # the difference of two floats may overflow
    place = f"floor({value} / {step!r}::DOUBLE - {low / step!r}::DOUBLE)"
    return f"greatest(0, least({bins - 1}, {place}))::INTEGER"


def _hits(chosen: Filter) -> str:
    """Per image, the objects that meet the filter; image columns only where they are needed."""
    source = "object_rows"
    if chosen.where and chosen.level == "objects":
        source += " JOIN image_rows USING (result)"
    return (
        "SELECT result, count(*) AS n, min(score) AS lowest, max(area) AS largest "  # noqa: S608
        f"FROM {source} WHERE {all_of(chosen.object_conditions())} GROUP BY result"
    )


def _shown(chosen: Filter) -> str:
    where = all_of([*chosen.scope_conditions(), *chosen.image_conditions()])
    if chosen.object_conditions():
        return (
            "SELECT result, n::INTEGER AS n, hits.lowest, hits.largest "  # noqa: S608 - quoted, checked
            f"FROM ({_hits(chosen)}) hits "
            f"JOIN (SELECT * EXCLUDE (lowest, largest) FROM facts) USING (result) "
            f"JOIN image_rows USING (result) WHERE {where}"
        )
    return (
        "SELECT result, n_objects AS n, lowest, largest FROM facts "  # noqa: S608
        f"JOIN image_rows USING (result) WHERE {where}"
    )


def _values(name: str, chosen: Filter, everything: bool) -> str:
    """The values of a measure, as `v`; `everything`: all images are shown."""
    measure = MEASURES[name]
    where = [*chosen.scope_conditions(), *chosen.image_conditions()]
    objects = chosen.object_conditions()
    if measure.level == "objects":
        # As few columns as can be go through a join with many rows, and none where all are shown.
        inside = f"SELECT result FROM facts JOIN image_rows USING (result) WHERE {all_of(where)}"  # noqa: S608
        source = "object_rows"
        if chosen.where and chosen.level == "objects":
            source += " JOIN image_rows USING (result)"
        if not everything:
            objects = [f"result IN ({inside})", *objects]
        return f"SELECT {measure.sql} AS v FROM {source} WHERE {all_of(objects)}"  # noqa: S608
    if objects:
        where.append(f"result IN (SELECT result FROM ({_hits(chosen)}))")  # noqa: S608
    return (
        f"SELECT {measure.sql} AS v FROM image_rows JOIN facts USING (result) "  # noqa: S608
        f"WHERE {all_of(where)}"
    )


def _plain(value: Any) -> Any:
    return None if value is np.ma.masked or value != value else value.item()
