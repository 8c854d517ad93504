"""The page of a night as a person meets it in a browser: figures, keyboard, colours, print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from segpipe.report.morning import Morning, morning
from segpipe.store import Snapshot, create_store
from segpipe.store.files import LocalFiles
from tests.nights import Nights

NAME = "<b>bold<b>&amp;"
"""Of files; it would be markup if it were not escaped."""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Morning:
    """A night in which an image lost three of its objects, and another cannot be read."""
    root = tmp_path_factory.mktemp("page")
    files = create_store(root / "store")
    assert isinstance(files, LocalFiles)
    nights = Nights(files, root / "images")
    nights.add_images(4, name=NAME)
    nights()
    changed = root / "images" / "01" / f"{NAME}-00.png"
    pixels = np.asarray(Image.open(changed)).copy()
    pixels[:16, :] = 0
    Image.fromarray(pixels).save(changed)
    nights.add_images(5, name=NAME, broken=1)
    dense = np.zeros((200, 200), np.uint8)
    dense[::8, ::8] = 255
    Image.fromarray(dense).save(root / "images" / "02" / "dense.png")
    runs = nights()
    return morning(Snapshot(files), runs, columns=("eccentricity", "mean_intensity"))


@pytest.fixture
def page(told: Morning, browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """Opened from a file; what the browser complains of fails the test."""
    path = tmp_path / "page.html"
    path.write_text(told.html(), "utf-8")
    context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: _note_foreign(request.url, complaints))
    opened.goto(path.as_uri())
    yield opened
    context.close()
    assert complaints == []


def _note_foreign(url: str, complaints: list[str]) -> None:
    if not url.startswith(("file:", "data:")):
        complaints.append(url)


def test_every_kind_of_image_is_shown_with_what_was_found(page: Page, told: Morning) -> None:
    for title in ("At random", "Most objects", "Changed most", "Failed"):
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    figures = page.locator(".card button.picture .drawn")
    assert figures.count() >= 7
    for figure in figures.all():
        figure.scroll_into_view_if_needed()
        box = figure.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 100
    drawn = {card.image.path: card.drawn for card in told.cards}
    shapes = sum(len(one.shapes) for one in drawn.values() if one)
    assert page.locator(".card .masks path").count() == shapes
    assert page.locator(".card .boxes rect").count() == shapes
    (dense,) = (one for path, one in drawn.items() if path.endswith("dense.png"))
    assert dense is not None
    assert (dense.painted, dense.shapes) == (625, ())


def test_what_changed_is_told_since_which_run(page: Page, told: Morning) -> None:
    (changed,) = (card.image for card in told.cards if "change" in card.kinds)
    assert changed.path == f"01/{NAME}-00.png"
    assert changed.change is not None
    assert changed.change.lost > 0
    assert changed.change.gained == changed.change.changed == 0
    card = page.locator(".card", has_text="since run").first
    expect(card).to_contain_text(f"{changed.change.lost} lost since run {changed.change.run_id}")


def with_shapes(page: Page) -> Locator:
    """The button of a figure whose objects are shapes; which image it is, chance has chosen."""
    cards = page.locator(".card", has=page.locator(".masks path"))
    return cards.first.get_by_role("button", name="Enlarge")


def test_a_figure_opens_large_by_keyboard_and_shows_names_with_scores(page: Page) -> None:
    with_shapes(page).focus()
    page.keyboard.press("Enter")
    large = page.locator(".large:popover-open")
    expect(large).to_be_visible()
    names = large.locator(".layer-names span")
    assert names.count() > 0
    for shown in names.all():
        expect(shown).to_contain_text("blob")
        assert shown.evaluate("node => getComputedStyle(node).fontSize") == "12px"
    page.keyboard.press("Escape")
    expect(large).to_have_count(0)


def test_names_do_not_hide_each_other(page: Page) -> None:
    for width in (1200, 390):
        page.set_viewport_size({"width": width, "height": 900})
        with_shapes(page).click()
        large = page.locator(".large:popover-open")
        expect(large).to_be_visible()
        boxes = [one.bounding_box() for one in large.locator(".layer-names span:visible").all()]
        assert boxes
        for i, one in enumerate(boxes):
            for other in boxes[:i]:
                assert one is not None
                assert other is not None
                apart_x = abs(one["x"] - other["x"]) >= min(one["width"], other["width"]) - 2
                apart_y = abs(one["y"] - other["y"]) >= one["height"] - 2
                assert apart_x or apart_y, (one, other)
        page.keyboard.press("Escape")


def test_layers_are_switched_without_a_script(page: Page) -> None:
    with_shapes(page).click()
    large = page.locator(".large:popover-open")
    for title, layer in (("Masks", "masks"), ("Boxes", "boxes"), ("Names", "names")):
        shown = large.locator(f".layer-{layer}")
        assert shown.evaluate("node => getComputedStyle(node).display") != "none"
        large.get_by_label(title).uncheck()
        assert shown.evaluate("node => getComputedStyle(node).display") == "none"


def test_columns_that_were_asked_for_are_drawn(page: Page, told: Morning) -> None:
    for column in ("eccentricity, 0..1", "mean_intensity 1, source units"):
        figure = page.locator("figure", has_text=column)
        expect(figure.locator("svg .bar").first).to_be_visible()
    (eccentricity, _) = told.columns
    assert sum(one.total for one in eccentricity.classes.values()) == told.tonight.objects


def test_where_the_time_went_adds_up(page: Page) -> None:
    expect(page.locator(".stacked i.part-device")).to_be_visible()
    widths = page.locator(".stacked i").evaluate_all(
        "nodes => nodes.map(node => parseFloat(node.style.width))"
    )
    assert sum(widths) == pytest.approx(100, abs=0.1)


def test_light_and_dark_have_colours_of_their_own(page: Page) -> None:
    read = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(read)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(read) != light
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(read) == "rgb(255, 255, 255)"


def test_names_of_files_are_text(page: Page) -> None:
    assert page.locator("b", has_text="bold").count() == 0
    expect(page.locator(".card .text .name", has_text=NAME).first).to_be_visible()


def test_nothing_is_wider_than_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
