"""Histograms that add, comparisons that are robust, names that are shown and not obeyed."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from segpipe.report.morning.bins import Histogram
from segpipe.report.morning.candidates import CHOSEN, Candidates, Change, Seen
from segpipe.report.morning.charts import Axis, distribution
from segpipe.report.morning.drift import MIN_NIGHTS, THRESHOLD, compare, expected_range
from segpipe.report.morning.markdown import escaped
from segpipe.report.morning.markup import Markup, name, tag
from segpipe.report.morning.statistics import MAX_CLASSES, OTHERS, NightStatistics, merge_rare
from segpipe.report.morning.wording import legible

WHOLE = st.lists(st.integers(0, 1 << 40), min_size=1, max_size=60)
FLOATS = st.floats(-1e6, 1e6, allow_nan=False)


# Histograms


@given(WHOLE, WHOLE)
def test_histograms_of_parts_add_up(one: list[int], other: list[int]) -> None:
    parts = [Histogram.of("whole", np.array(values)) for values in (one, other)]
    whole = Histogram.of("whole", np.array(one + other))
    assert Histogram.sum("whole", parts).to_dict() == whole.to_dict()
    assert whole.total == len(one) + len(other)


@given(WHOLE, st.floats(0, 1))
def test_a_quantile_is_within_a_bin_of_the_true_one(values: list[int], share: float) -> None:
    found = Histogram.of("whole", np.array(values)).quantile(share)
    true = float(np.quantile(np.array(values, np.float64), share))
    largest = max(values)
    exact = largest < 128
    assert found == pytest.approx(true, rel=1e-9, abs=1e-9 if exact else largest / 64)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_of_scores_is_within_a_bin(values: list[float], share: float) -> None:
    found = Histogram.of("unit", np.array(values)).quantile(share)
    assert found == pytest.approx(np.quantile(values, share), abs=1 / 500)


REALS = st.lists(st.floats(-1e30, 1e30, allow_nan=False), min_size=1, max_size=60)


@given(REALS, st.floats(0, 1))
def test_a_quantile_of_any_numbers_is_within_a_64th(values: list[float], share: float) -> None:
    found = Histogram.of("real", np.array(values)).quantile(share)
    order = np.sort(np.array(values))
    place = share * (len(values) - 1)
    ends = order[int(place)], order[min(int(place) + 1, len(values) - 1)]
    slack = max(abs(end) for end in ends) / 64 + 1e-37
    assert found is not None
    assert min(ends) - slack <= found <= max(ends) + slack


@given(REALS, REALS)
def test_any_numbers_of_parts_add_up(one: list[float], other: list[float]) -> None:
    parts = [Histogram.of("real", np.array(values)) for values in (one, other)]
    whole = Histogram.of("real", np.array(one + other))
    assert Histogram.sum("real", parts).to_dict() == whole.to_dict()
    assert Histogram.from_dict(whole.to_dict()).to_dict() == whole.to_dict()
    edges = np.array([-2e30, -1.0, 0.0, 1.0, 2e30])
    assert whole.shares(edges).sum() == pytest.approx(1)


def test_what_is_no_number_is_left_out_and_what_is_off_the_scale_is_refused() -> None:
    assert Histogram.of("unit", np.array([0.5, np.nan])).total == 1
    assert Histogram.of("whole", np.array([], np.int64)).quantile(0.5) is None
    for scale, value in (("unit", 1.1), ("unit", -0.1), ("whole", -1)):
        with pytest.raises(ValueError, match="not on the"):
            Histogram.of(scale, np.array([value]))  # type: ignore[arg-type]


@given(WHOLE)
def test_a_histogram_comes_back_from_json(values: list[int]) -> None:
    raw = Histogram.of("whole", np.array(values)).to_dict()
    assert Histogram.from_dict(raw).to_dict() == raw


@pytest.mark.parametrize(
    "changed", [{"bins": [2, 1]}, {"counts": [0, 1]}, {"counts": [1]}, {"scale": "odd"}]
)
def test_what_is_no_histogram_is_refused(changed: dict) -> None:
    with pytest.raises(ValueError, match="not a histogram"):
        Histogram.from_dict({"scale": "whole", "bins": [1, 2], "counts": [1, 1], **changed})


@given(WHOLE, WHOLE)
def test_the_distance_is_that_of_the_samples(one: list[int], other: list[int]) -> None:
    small = [np.array(values) % 128 for values in (one, other)]  # where each value has a bin
    edges = np.arange(128)
    shares = [np.searchsorted(np.sort(v), edges, side="right") / len(v) for v in small]
    first, second = (Histogram.of("whole", values) for values in small)
    assert first.distance(second) == pytest.approx(np.abs(shares[0] - shares[1]).max())
    assert first.distance(first) == 0
    assert first.distance(Histogram("whole")) == 0


@given(WHOLE)
def test_shares_between_edges_that_hold_all_add_up_to_one(values: list[int]) -> None:
    edges = np.array([0.0, 10, 500, 1e6, 2.0**42])
    assert Histogram.of("whole", np.array(values)).shares(edges).sum() == pytest.approx(1)


def test_rare_classes_are_counted_together() -> None:
    classes = {f"c{i:03d}": Histogram.of("whole", np.arange(i + 1)) for i in range(MAX_CLASSES + 3)}
    merged = merge_rare("whole", classes)
    assert len(merged) == MAX_CLASSES + 1
    assert merged[OTHERS].total == 1 + 2 + 3
    assert sum(one.total for one in merged.values()) == sum(c.total for c in classes.values())


# Drift


def night(
    rng: np.random.Generator,
    images: int = 400,
    objects: float = 40,
    area: float = 300,
    score: float = 0.9,
    failed: float = 0.01,
    speed: float = 10,
) -> NightStatistics:
    """A night like any other, which differ by a few percent as nights do."""
    level = np.exp(rng.normal(0, 0.03, 3))
    n_failed = rng.binomial(images, failed)
    counts = rng.poisson(objects * level[0] * rng.gamma(8, 1 / 8, images - n_failed))
    areas = area * level[1] * rng.lognormal(0, 0.5, 2000)
    scores = np.clip(rng.normal(score, 0.05, 2000), 0, 1)
    return NightStatistics(
        run_ids=("r",), source="s", spec_id="i", model="m", device="d", started="", ended=None,
        images=images, ok=images - n_failed, objects=int(counts.sum()),
        seconds=images / (speed * level[2]),
        objects_per_image=Histogram.of("whole", counts),
        foreground=Histogram.of("whole", np.rint(counts * areas[: len(counts)] * 3)),
        area={"cell": Histogram.of("whole", np.rint(areas))},
        score={"cell": Histogram.of("unit", scores)},
    )  # fmt: skip


def alarms(tonight: NightStatistics, earlier: list[NightStatistics]) -> dict[str, str]:
    return {one.measure.key: one.verdict for one in compare(tonight, earlier) if one.alarm}


def test_nights_that_are_alike_raise_few_alarms() -> None:
    """At most one in twenty, of 14 alike before it, with nine looks at each."""
    rng = np.random.default_rng(1)
    nights = [night(rng) for _ in range(14 + 150)]
    found = [bool(alarms(nights[i], nights[i - 14 : i])) for i in range(14, len(nights))]
    assert np.mean(found) <= 0.05


def test_normal_values_are_outside_of_the_range_as_often_as_is_said() -> None:
    """docs/morning.md says how often, when no floor holds."""
    rng = np.random.default_rng(0)
    for count, at_most in ((7, 0.05), (14, 0.015), (30, 0.006)):
        outside = 0
        for values in rng.normal(size=(4000, count + 1)):
            found = expected_range(values[:-1], 0)
            outside += not found.low <= values[-1] <= found.high
        assert outside / 4000 <= at_most


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"objects": 25}, {"objects_per_image": "lower", "foreground": "lower"}),
        ({"objects": 70}, {"objects_per_image": "higher", "foreground": "higher"}),
        ({"area": 450}, {"object_area": "higher", "foreground": "higher"}),
        ({"score": 0.7}, {"score": "lower"}),
        ({"failed": 0.1}, {"failed": "higher"}),
        ({"speed": 4}, {"images_per_second": "lower"}),
        ({"failed": 0.0}, {}),
        ({"speed": 30}, {}),
    ],
)
def test_a_shift_is_an_alarm(changed: dict, expected: dict) -> None:
    rng = np.random.default_rng(2)
    earlier = [night(rng) for _ in range(10)]
    assert alarms(night(rng, **changed), earlier) == expected


def test_another_shape_around_the_same_median_is_an_alarm() -> None:
    rng = np.random.default_rng(3)
    earlier = [night(rng) for _ in range(10)]
    tonight = night(rng)
    counts = np.concatenate([np.full(195, 2), np.full(10, 40), np.full(195, 90)])
    two_kinds = replace(tonight, objects_per_image=Histogram.of("whole", counts))
    assert alarms(two_kinds, earlier)["objects_per_image"] == "different"


@pytest.mark.parametrize("place", [0, 4, 9])
def test_one_bad_night_before_neither_hides_nor_makes_an_alarm(place: int) -> None:
    rng = np.random.default_rng(4)
    earlier = [night(rng) for _ in range(10)]
    earlier[place] = night(rng, objects=400, area=5000, score=0.2, failed=0.9, speed=0.1)
    assert alarms(night(rng), earlier) == {}
    assert set(alarms(night(rng, objects=80), earlier)) == {"objects_per_image", "foreground"}


@settings(max_examples=50)
@given(st.lists(FLOATS, min_size=MIN_NIGHTS, max_size=30), st.floats(0.01, 100), FLOATS)
def test_the_range_goes_with_scale_and_shift(values: list[float], scale: float, by: float) -> None:
    one = expected_range(values, 1.0)
    other = expected_range([scale * value + by for value in values], scale)
    room = 1e-6 * (1 + max(map(abs, values)) * scale + abs(by))
    assert other.low == pytest.approx(scale * one.low + by, abs=room)
    assert other.high == pytest.approx(scale * one.high + by, abs=room)


def test_nights_that_were_all_equal_leave_room_for_the_floor() -> None:
    found = expected_range([5.0] * 10, 0.2)
    assert (found.low, found.high) == pytest.approx((5 - THRESHOLD * 0.2, 5 + THRESHOLD * 0.2))


def test_too_little_to_compare_is_said_and_is_no_alarm() -> None:
    rng = np.random.default_rng(5)
    earlier = [night(rng) for _ in range(MIN_NIGHTS - 1)]
    odd = night(rng, objects=400)
    assert {one.verdict for one in compare(odd, earlier)} == {"too few nights"}
    earlier += [night(rng, images=9) for _ in range(5)]
    assert {one.verdict for one in compare(odd, earlier)} == {"too few nights"}
    earlier += [night(rng) for _ in range(5)]
    small = night(rng, images=9)
    assert {one.verdict for one in compare(small, earlier)} == {"too few images"}
    assert alarms(small, earlier) == {}


def test_speed_is_compared_on_the_same_machine_alone() -> None:
    rng = np.random.default_rng(6)
    earlier = [replace(night(rng, speed=100), device="fast") for _ in range(10)]
    assert alarms(night(rng, speed=1), earlier) == {}


def test_a_night_without_scores_has_no_verdict_on_them() -> None:
    rng = np.random.default_rng(7)
    nights = [replace(night(rng), score={"cell": Histogram("unit")}) for _ in range(10)]
    found = {one.measure.key: one.verdict for one in compare(nights[-1], nights[:-1])}
    assert found["score"] == "too few images"


def test_statistics_come_back_from_their_file() -> None:
    tonight = night(np.random.default_rng(8))
    assert NightStatistics.from_json(tonight.to_json()).to_dict() == tonight.to_dict()
    for text in (b"{}", b"[]", tonight.to_json().replace('version":1', 'version":9').encode()):
        with pytest.raises((ValueError, KeyError, TypeError)):
            NightStatistics.from_json(text)


# Which images


def test_the_furthest_images_are_chosen_and_none_twice() -> None:
    counts = np.arange(200.0)
    candidates = Candidates(seed=0)
    for part in np.split(counts, 4):  # as chunks come

        def seen(place: int, part: np.ndarray = part) -> Seen:
            count = int(part[place])
            return Seen(f"{count:03d}", "c", f"{count:03d}.png", objects=count, foreground=1e5)

        score, share = np.linspace(0.1, 1, len(part)), np.full(len(part), 1e5)
        candidates.offer(part, score, share, part == 7, seen)
    candidates.offer_failed(
        Seen(f"f{i}", "c", f"f{i}", reason=reason) for i, reason in enumerate("aaaaaab")
    )
    changed = Seen("150", "c", "150.png", change=Change("before", 1, 2, 3))
    chosen = candidates.choose(100.0, 1e5, [changed])
    kinds = {image.path: kinds for image, kinds in chosen}
    assert len(kinds) == len(chosen) <= sum(CHOSEN.values())
    assert {path for path, own in kinds.items() if "count" in own} >= {"000.png", "001.png"}
    assert "saturated" in kinds["007.png"]
    assert sum("random" in own for own in kinds.values()) == CHOSEN["random"]
    assert [path for path, own in kinds.items() if "change" in own] == ["150.png"]
    most = [path for path, own in kinds.items() if "most" in own]
    assert sorted(most) == ["196.png", "197.png", "198.png", "199.png"]
    assert sum("foreground" in own for own in kinds.values()) == 0  # all alike
    failed = [image.reason for image, own in chosen if own == ("failed",)]
    assert failed == ["a", "b", "a", "a"]


# Names


class Shown(HTMLParser):
    """Text and tags, as a browser reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.text += dict(attrs)["alt"] or ""

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        [
            "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a|b|c", "`code`", "*a*",
            "[a](http://b)", "\u202egnp.exe", "a\nb", "\x00", "\ud800",
            "</bdi></td>", "&lt;", "# h",
            "https://example.org/x", "www.example.org", "![](x)", "$$x$$", "~~a~~", "1. a", "- a",
        ]
    ),
)  # fmt: skip


@given(HOSTILE)
def test_a_name_in_html_is_text_and_one_line(text: str) -> None:
    html = tag("p", name(text), title=text)
    shown = Shown(html)
    assert shown.tags == {"p", "bdi"}
    assert shown.text == legible(text)
    assert legible(text).isprintable()
    html.encode()


@given(HOSTILE)
def test_a_name_in_markdown_is_one_cell_and_text(text: str) -> None:
    cell = escaped(text)
    html = MarkdownIt("commonmark").enable("table").render(f"| a | b |\n|---|---|\n| {cell} | x |")
    shown = Shown(html)
    assert shown.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert html.count("<td") == 2
    assert legible(text, 120).strip() in shown.text
    assert "https://" not in cell
    assert "www." not in cell


def test_markup_is_not_escaped_twice() -> None:
    assert tag("b", tag("i", "<")) == Markup("<b><i>&lt;</i></b>")


@given(WHOLE, st.sampled_from(["count", "log", "share", "real"]))
@settings(max_examples=40, deadline=None)
def test_any_distribution_can_be_drawn(values: list[int], kind: str) -> None:
    most = 1_000_000 if kind == "share" else 1 << 40
    found = Histogram.of("whole", np.minimum(np.array(values), most))
    drawn = distribution(found, Histogram("whole"), Axis("x", "images", kind), 0)
    assert drawn is not None
    assert "nan" not in drawn
    assert drawn.count('class="bar"') <= 60
