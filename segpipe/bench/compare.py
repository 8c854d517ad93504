"""Two results of one benchmark, figure by figure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.bench.table import table
from segpipe.errors import SpecError

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures by their path in the result, such as `images_per_second.end_to_end`.

    Attributes:
        figures: (before, after); None where one result does not have it.
        changed: conditions that differ, in the same form.
    """

    benchmark: str
    figures: dict[str, tuple[float | None, float | None]]
    changed: dict[str, tuple[Any, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; `ratio` is after / before."""
        return {
            "benchmark": self.benchmark,
            "figures": {
                name: {"before": before, "after": after, "ratio": ratio(before, after)}
                for name, (before, after) in self.figures.items()
            },
            "changed": {name: list(values) for name, values in self.changed.items()},
        }

    def to_text(self) -> str:
        """A table, and below it the conditions that differ."""
        rows = [(self.benchmark, "before", "after", "after / before")]
        for name, (before, after) in self.figures.items():
            change = ratio(before, after)
            rows.append((name, _number(before), _number(after), _number(change)))
        lines = [table(rows)]
        lines += [f"{name}: {before} -> {after}" for name, (before, after) in self.changed.items()]
        return "\n".join(lines)


def read_result(path: Path) -> Result:
    """What a benchmark printed with `--json`.

    Raises:
        SpecError: it is not that.
    """
    try:
        result = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(result, dict) or "benchmark" not in result:
        raise SpecError(f"{path}: no result of a benchmark; `segpipe bench ... --json` prints one")
    return result


def compare_results(before: Result, after: Result) -> Comparison:
    """
    Raises:
        SpecError: they are of two benchmarks.
    """
    names = before["benchmark"], after["benchmark"]
    if names[0] != names[1]:
        raise SpecError(f"results of two benchmarks, {names[0]!r} and {names[1]!r}, say nothing")
    conditions = [dict(_leaves(result.pop("conditions", {}))) for result in (before, after)]
    figures = [
        {name: value for name, value in _leaves(result) if _is_number(value)}
        for result in (before, after)
    ]
    every = list(dict.fromkeys([*figures[0], *figures[1]]))
    known = list(dict.fromkeys([*conditions[0], *conditions[1]]))
    pairs = {name: (conditions[0].get(name), conditions[1].get(name)) for name in known}
    return Comparison(
        names[0],
        {name: (figures[0].get(name), figures[1].get(name)) for name in every},
        {name: pair for name, pair in pairs.items() if pair[0] != pair[1]},
    )


def ratio(before: float | None, after: float | None) -> float | None:
    """None where there is none."""
    return after / before if before and after is not None else None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What is no mapping, by path; a list is one value."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
