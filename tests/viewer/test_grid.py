"""The first page, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image
from playwright.sync_api import Browser, Route, expect

from tests.servers.process import wait_for
from tests.viewer.archive import HOSTILE, STRICT, Archive, add_run, field
from tests.viewer.conftest import Visit, viewing


def total(visit: Visit) -> str:
    return visit.page.locator("#total").inner_text()


def test_all_images_with_their_pictures_and_those_that_failed(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#total")).to_have_text(re.compile("^43 images, [0-9]+ objects$"))
    expect(page.locator(".card .picture.failed").first).to_contain_text("truncated")
    picture = page.locator(".card img").first
    expect(picture).to_be_visible()
    # Waits until it is there; fails if it cannot be shown.
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_a_hostile_name_stays_text(visit: Visit) -> None:
    page = visit.goto("/?name=onerror")
    expect(page.locator("#total")).to_contain_text("1 image,")
    expect(page.locator(".card .name")).to_have_text(HOSTILE)
    assert page.locator(".card img").count() == 1
    assert not page.locator("img[onerror], img[src=x]").count()


def test_filters_are_in_the_address_and_can_be_gone_back_to(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#total")).to_contain_text("43 images")
    page.get_by_label("Model").select_option("threshold")
    page.locator("#classes").get_by_role("button", name="debris").click()
    expect(page.locator("#total")).to_contain_text("matching objects")
    shown = total(visit)
    assert "model=threshold&cls=debris" in page.url
    page.get_by_label("Name contains").fill("plate-1")
    expect(page.locator("#total")).not_to_have_text(shown)
    page.go_back()
    expect(page.locator("#total")).to_contain_text("43 images")
    page.go_forward()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#total")).to_contain_text("43 images")
    assert page.url == f"{visit.origin}/"


def test_brushing_a_histogram_sets_the_range(visit: Visit) -> None:
    page = visit.goto("/?model=threshold")
    bars = page.locator("[data-column=n_objects] svg")
    expect(bars.locator("rect.shown").first).to_be_attached()
    box = bars.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 25, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("range=n_objects%3A[0-9]+%3A[0-9]+"))
    low, high = (int(n) for n in re.findall(r"%3A(\d+)", page.url))
    expect(page.get_by_label("n_objects from")).to_have_value(str(low))
    expect(page.locator("#total")).not_to_contain_text("43 images")
    texts = page.locator(".card .facts").all_inner_texts()
    assert texts
    assert all(low <= int(text.split()[0]) <= high for text in texts)
    page.get_by_role("button", name="Clear").first.click()
    expect(page.locator("#total")).to_contain_text("43 images")


def test_what_a_person_does_before_the_store_is_known_is_not_lost(visit: Visit) -> None:
    held: list[Route] = []
    page = visit.page
    page.route("**/api/store", lambda route: held.append(route))
    with page.expect_request("**/api/store"):
        visit.goto("/")
    box = page.get_by_label("SQL condition")
    box.fill("n_objects >= 11")
    box.press("Control+Enter")
    expect(page).to_have_url(re.compile("where=n_objects"))
    for route in held:
        route.continue_()
    expect(page.locator("#total")).to_contain_text(" images, ")
    expect(page.locator("#total")).not_to_contain_text("43 images")
    expect(box).to_have_value("n_objects >= 11")


def test_a_condition_in_sql_and_what_is_wrong_with_it(visit: Visit) -> None:
    visit.expected.append("400")
    page = visit.page
    box = page.get_by_label("SQL condition")
    box.fill("n_objects >= 5")
    box.press("Control+Enter")
    expect(page.locator("#total")).not_to_contain_text("43 images")
    box.fill("1) OR (1")
    box.press("Control+Enter")
    expect(page.locator("#where-problem")).to_be_visible()
    expect(page.locator(".card")).to_have_count(0)
    box.fill("nonsense = 1")
    box.press("Control+Enter")
    expect(page.locator("#where-problem")).to_contain_text("nonsense")
    box.fill("")
    box.press("Control+Enter")
    expect(page.locator("#where-problem")).to_be_hidden()
    expect(page.locator("#total")).to_contain_text("43 images")


def test_a_selection_is_kept_and_saved(visit: Visit, tmp_path: Path) -> None:
    page = visit.goto("/?name=plate-1")
    expect(page.locator("#total")).to_contain_text("20 images")
    page.locator(".card .choose").nth(1).check()
    page.locator(".card .choose").nth(3).check()
    expect(page.locator("#selected-count")).to_have_text("2 images selected")
    page.reload()
    expect(page.locator("#selected-count")).to_have_text("2 images selected")
    expect(page.locator(".card.chosen")).to_have_count(2)
    for format_, ending in (("csv", "csv"), ("paths", "txt"), ("parquet", "parquet")):
        page.locator("#export-format").select_option(format_)
        with page.expect_download() as started:
            page.get_by_role("button", name="Save").click()
        started.value.save_as(tmp_path / f"saved.{ending}")
    assert len(pq.read_table(tmp_path / "saved.parquet")) == 2
    assert (tmp_path / "saved.txt").read_text().count("plate-1/field-") == 2
    assert len((tmp_path / "saved.csv").read_text().splitlines()) == 3
    page.get_by_role("button", name="Select all shown").click()
    expect(page.locator("#selected-count")).to_have_text("20 images selected")
    page.locator("#select-none").click()
    expect(page.locator("#selected-count")).to_have_text("0 images selected")


def test_the_grid_by_keyboard(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#total")).to_contain_text("43 images")
    page.locator(".card .open").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.locator("#selected-count")).to_have_text("1 image selected")
    page.keyboard.press("End")
    expect(page.locator(".card .open:focus .name")).to_have_text("field-39.png")
    page.keyboard.press("/")
    expect(page.get_by_label("Name contains")).to_be_focused()


def test_on_a_phone_filters_are_a_drawer(browser: Browser, viewer_address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    page = Visit(context, viewer_address).page
    expect(page.locator("#total")).to_contain_text("43 images")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Name contains").fill("broken")
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#total")).to_contain_text("2 images")
    context.close()


def test_new_results_and_images_that_are_gone(browser: Browser, tmp_path: Path) -> None:
    archive = Archive(tmp_path, count=4)
    (archive.images / "plate-0" / "field-02.png").unlink()
    with viewing(archive.store, tmp_path / "log") as address:
        context = browser.new_context()
        visit = Visit(context, address)
        page = visit.page
        expect(page.locator("#total")).to_contain_text("7 images")
        Image.fromarray(field(7)).save(archive.images / "new.png")
        add_run(archive.files, archive.images, 3, STRICT)

        def told() -> bool:
            page.evaluate("dispatchEvent(new Event('focus'))")  # it looks when it is looked at
            return page.locator("#news").is_visible()

        wait_for(told, "new results")
        page.locator("#news button").click()
        expect(page.locator("#total")).to_contain_text("8 images")
        gone = page.locator(".card", has_text="field-02.png")
        expect(gone.locator(".why")).to_contain_text("no such file", ignore_case=True)
        context.close()
