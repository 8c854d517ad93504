"""Numbers and names as people read them."""

from __future__ import annotations

from segpipe.report.morning.drift import Comparison, Verdict
from segpipe.report.morning.measures import Measure

MAX_NAME = 160
NONE = "\N{EN DASH}"
"""Where there is no number."""


def whole(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """Three digits that say something."""
    if value is None:
        return NONE
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    text = f"{value:,.{digits}f}"
    return text.removesuffix("." + "0" * digits)


def percent(share: float | None) -> str:
    if share is None:
        return NONE
    digits = 0 if share >= 0.1 or not share else 1 if share >= 0.001 else 2
    return f"{share:.{digits}%}"


def measured(value: float | None, measure: Measure) -> str:
    """With its unit."""
    if value is None:
        return NONE
    if measure.unit == "%":
        return percent(value)
    gap = " " if measure.unit and measure.unit != "/s" else ""
    return f"{number(value)}{gap}{measure.unit}"


def expected(comparison: Comparison) -> str:
    """`20.4 to 26.8`, with the unit; a range does not go below what is possible."""
    found, measure = comparison.expected, comparison.measure
    if found is None:
        return NONE
    top = min(1.0, found.high) if measure.unit == "%" or measure.key == "score" else found.high
    low = max(0.0, found.low)
    if measure.unit == "%":
        return f"{percent(low)} to {percent(top)}"
    return f"{number(low)} to {measured(top, measure)}"


VERDICTS: dict[Verdict, str] = {
    "usual": "as usual",
    "higher": "higher",
    "lower": "lower",
    "different": "spread differently",
    "too few nights": "too few nights to compare",
    "too few images": "too few images to compare",
}


def alarm_sentence(comparison: Comparison) -> str:
    """Value, expected range, and what to look at."""
    measure, nights = comparison.measure, len(comparison.earlier)
    value = measured(comparison.tonight, measure)
    if comparison.verdict == "different" and comparison.distance:
        shape = comparison.distance
        return (
            f"{measure.title.removesuffix(', median')}: the median is as usual, {value}, the "
            f"distribution is not: {shape.distance:.2f} from the last {nights} nights "
            f"(Kolmogorov-Smirnov), expected at most {shape.limit:.2f}. {measure.look}"
        )
    return (
        f"{measure.title}: {value}, expected {expected(comparison)} from the last {nights} nights. "
        f"{measure.look}"
    )


def duration(seconds: float | None) -> str:
    """`41 s`, `12 min`, `3 h 05 min`."""
    if seconds is None:
        return NONE
    if seconds < 100:
        return f"{number(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02d} min"


def moment(timestamp: str | None) -> str:
    """ISO 8601, UTC, to the minute."""
    return NONE if timestamp is None else f"{timestamp[:10]} {timestamp[11:16]} UTC"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def legible(name: str, limit: int = MAX_NAME) -> str:
    """A stranger's name as one line: what cannot be seen, or turns text around, is spelled out.

    The middle of a long one is left out.
    """
    clean = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in name
    )
    if len(clean) <= limit:
        return clean
    half = (limit - 1) // 2
    return f"{clean[:half]}…{clean[-half:]}"
