"""The page of an image, and two runs side by side, in a real browser."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

import segpipe as library
from segpipe.viewer.neighbours import Features
from segpipe.viewer.pyramid import TILE, Pyramids, Strips, mean_of_four, nearest, strips_of
from tests.viewer.archive import HOSTILE, Archive
from tests.viewer.conftest import Visit


@given(st.integers(1, 3 * TILE), st.integers(1, 3 * TILE), st.integers(0, 99))
@settings(max_examples=12, deadline=None)
def test_the_tiles_of_a_level_are_the_level(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    pyramids = Pyramids()
    strips = Strips(picture.shape, picture.dtype, strips_of(picture), mean_of_four)
    pyramid = pyramids.get("one", lambda: strips)
    assert np.array_equal(pyramid.levels[0], picture)
    for larger, smaller in pairwise(pyramid.levels):  # the same as of the whole level at once
        assert np.array_equal(mean_of_four(larger), smaller)
    assert max(pyramid.levels[-1].shape[:2]) <= TILE
    for number, level in enumerate(pyramid.levels):
        rows = [
            np.concatenate(
                [pyramid.tile(number, row, column) for column in range(-(-level.shape[1] // TILE))],
                1,
            )
            for row in range(-(-level.shape[0] // TILE))
        ]
        assert np.array_equal(np.concatenate(rows), level)
    pyramids.close()


def test_the_oldest_pyramids_make_room() -> None:
    pyramids = Pyramids(most_bytes=3000)
    made = []
    for name in ("a", "b", "c", "c", "a"):
        picture = np.zeros((30, 40), np.uint8)

        def strips(name: str = name, picture: np.ndarray = picture) -> Strips:
            made.append(name)
            return Strips(picture.shape, picture.dtype, [picture], nearest)

        pyramids.get(name, strips)
    assert made == ["a", "b", "c", "a"]
    pyramids.close()


def test_the_nearest_objects_are_those_with_the_nearest_measures(archive: Archive) -> None:
    store = library.open_store(archive.store)
    features = Features(store, archive.before)
    rows = store.of_run(archive.before).objects(latest=False).arrow().to_pylist()
    one = next(row for row in rows if row["class_name"] == "cell")
    found = features.nearest(one, 5)
    assert len(found) == 5
    assert [other.distance for other in found] == sorted(other.distance for other in found)
    keys = {(row["image_id"], row["label"]): row for row in rows}
    assert {keys[o.image_id, o.label]["class_name"] for o in found} == {"cell"}
    assert (one["image_id"], one["label"]) not in {(o.image_id, o.label) for o in found}


class Canvas:
    """A canvas, and how often it was drawn when it was looked at last."""

    def __init__(self, page: Page, selector: str = "#canvas") -> None:
        self._page, self._selector = page, selector
        self._times = "0"

    def look(self) -> bytes:
        """What is there once it was drawn again and all its tiles are there."""
        canvas = self._page.locator(self._selector)
        expect(canvas).not_to_have_attribute("data-drawn", self._times)
        expect(self._page.locator(f'{self._selector}[data-waiting="0"]')).to_be_visible()
        self._times = canvas.get_attribute("data-drawn") or ""
        return canvas.screenshot()


def drawn(page: Page, canvas: str = "#canvas") -> bytes:
    """The canvas when all its tiles are there."""
    expect(page.locator(f'{canvas}[data-waiting="0"]')).to_be_visible()
    return page.locator(canvas).screenshot()


@pytest.fixture
def field(archive: Archive) -> dict[str, object]:
    """An image with many objects, in the run `before`."""
    store = library.open_store(archive.store).of_run(archive.before)
    return max(
        (row for row in store.image_rows() if row["status"] == "ok"), key=lambda r: r["n_objects"]
    )


def test_an_image_is_shown_and_its_switches_change_what_is_seen(
    visit: Visit, archive: Archive, field: dict[str, object]
) -> None:
    page = visit.goto(f"/image/{field['image_id']}?run={archive.before}")
    expect(page.locator("#title")).to_have_text(str(field["path"]))
    rows = page.locator("#objects tbody tr")
    expect(rows).to_have_count(field["n_objects"])
    canvas = Canvas(page)
    seen = [canvas.look()]
    for control in ("masks", "outlines", "boxes", "names", "in"):
        page.locator(f"#{control}").click()
        seen.append(canvas.look())
    assert len(set(seen)) == len(seen)


def test_an_object_that_is_clicked_tells_its_row_its_crop_and_its_neighbours(
    visit: Visit, archive: Archive, field: dict[str, object]
) -> None:
    page = visit.goto(f"/image/{field['image_id']}?run={archive.before}")
    drawn(page)
    page.locator("#objects tbody tr").nth(2).click()
    panel = page.locator("#object")
    expect(panel.locator("h2")).to_contain_text("Object 3: ")
    expect(panel.locator(".crops img")).to_have_count(2)
    expect(panel.locator(".near a")).to_have_count(8)
    panel.locator("summary", has_text="All measures").click()
    expect(panel.locator("dl")).to_contain_text("area, px")
    # The object is in the middle now: a click there is a click on it.
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator('#objects tr[aria-selected="true"]')).to_have_count(1)
    panel.locator(".near a").first.click()
    expect(page.locator("#object h2")).to_contain_text("Object ")


def test_the_keyboard_moves_and_zooms(
    visit: Visit, archive: Archive, field: dict[str, object]
) -> None:
    page = visit.goto(f"/image/{field['image_id']}?run={archive.before}")
    canvas = Canvas(page)
    seen = [canvas.look()]
    page.locator("#canvas").focus()
    for key in ("+", "ArrowLeft", "-"):
        page.keyboard.press(key)
        seen.append(canvas.look())
    assert len(set(seen)) == 4
    page.keyboard.press("0")
    expect(page.locator("#scale")).not_to_have_text("0 %")


def test_a_hostile_name_is_text_and_a_failure_says_why(visit: Visit, archive: Archive) -> None:
    rows = {row["path"]: row for row in library.open_store(archive.store).image_rows()}
    page = visit.goto(f"/image/{rows[HOSTILE]['image_id']}")
    expect(page.locator("#title")).to_have_text(HOSTILE)
    page = visit.goto(f"/image/{rows['broken-0.png']['image_id']}")
    expect(page.locator("#problem")).to_contain_text("has no result")


def test_an_image_that_is_gone_keeps_its_masks(visit: Visit, archive: Archive, field) -> None:
    visit.expected += ["404"]
    rows = sorted(
        (r for r in library.open_store(archive.store).image_rows() if r["n_objects"]),
        key=lambda row: row["path"],
    )
    row = next(
        one for one in rows if one["image_id"] != field["image_id"] and one["path"] != HOSTILE
    )
    path = Path(archive.images / row["path"])
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        page = visit.goto(f"/image/{row['image_id']}")
        expect(page.locator("#problem")).to_contain_text("The image cannot be shown")
        drawn(page)
        expect(page.locator("#objects tbody tr")).to_have_count(row["n_objects"])
    finally:
        hidden.rename(path)


def test_two_runs_are_compared(visit: Visit, archive: Archive) -> None:
    page = visit.goto(f"/compare?a={archive.before}&b={archive.after}")
    expect(page.locator("#totals")).to_contain_text(" lost")
    expect(page.locator("#totals")).not_to_contain_text("So far")
    link = page.locator("#images tbody a").first
    link.click()
    expect(page.locator("#kinds")).to_contain_text("lost, only before")
    sides = [Canvas(page, name) for name in ("#before", "#after")]
    seen = [side.look() for side in sides]
    page.locator("#before").hover()
    page.mouse.wheel(0, -300)
    for side, before in zip(sides, seen, strict=True):
        assert side.look() != before  # the other one goes along


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("tile/pixels/0/9/9", 400),
        ("tile/pixels/7/0/0", 400),
        ("tile/nothing/0/0/0", 400),
        ("object/999", 400),
        ("crop/999", 400),
    ],
)
def test_what_is_not_there_is_answered_with_a_sentence(
    path: str, status: int, visit: Visit, field: dict[str, object]
) -> None:
    answer = visit.context.request.get(f"{visit.origin}/api/image/{field['image_id']}/{path}")
    assert answer.status == status
    assert answer.json()["problem"]
