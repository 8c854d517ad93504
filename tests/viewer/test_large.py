"""The page of a large image with more objects than the page is told of, in a real browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, expect

from segpipe.records import Segmentation
from segpipe.store import Snapshot, create_store
from segpipe.viewer.image import MOST_OBJECTS
from tests.large_rows import add_result, write_image
from tests.viewer.conftest import Visit, viewing

SIDE, STEP = 1500, 10


def test_all_objects_are_seen_and_those_in_no_list_are_told_when_asked(
    browser: Browser, tmp_path: Path
) -> None:
    across = SIDE // STEP
    cells = 1 + np.arange(across**2, dtype=np.uint32).reshape(across, across)
    labels = np.zeros((SIDE, SIDE), np.uint32)
    for y in range(6):
        for x in range(6):
            labels[y::STEP, x::STEP] = cells
    count = cells.size
    found = Segmentation(labels, np.full(count, 0.5, np.float32), np.ones(count, np.int32))
    files = create_store(tmp_path / "store")
    image = write_image(
        tmp_path / "scan.tif", np.where(labels > 0, 200, 20)[..., None].astype(np.uint8)
    )
    add_result(files, image, found, large=True)
    (row,) = Snapshot(files).image_rows()
    with viewing(tmp_path / "store", tmp_path / "log") as address:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        visit = Visit(context, address)
        page = visit.goto(f"/image/{row['image_id']}?object={count}")
        expect(page.locator("#object h2")).to_contain_text(f"Object {count}: ")
        expect(page.locator("#object .crops img")).to_have_count(2)
        expect(page.locator("#more")).to_contain_text(f"{count - MOST_OBJECTS:,} further objects")
        expect(page.locator('#canvas[data-waiting="0"]')).to_be_visible()
        before = page.locator("#canvas").screenshot()
        page.locator("#masks").click()
        expect(page.locator('#canvas[data-waiting="0"]')).to_be_visible()
        assert page.locator("#canvas").screenshot() != before
        context.close()
    assert visit.unexpected() == []
