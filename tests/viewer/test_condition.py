"""The WHERE box: a condition of a person stays a condition."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from segpipe.errors import SpecError
from segpipe.query.condition import check_condition
from segpipe.store import open_store
from segpipe.viewer.index import Index
from tests.viewer.archive import Archive


@pytest.fixture(scope="module")
def index(archive: Archive) -> Iterator[Index]:
    index = Index()
    index.refresh(open_store(archive.store))
    yield index
    index.close()


def level(index: Index, where: str) -> str:
    with index.cursor() as cursor:
        return check_condition(cursor, where)


@pytest.mark.parametrize(
    ("where", "about"),
    [
        ("n_objects > 3", "images"),
        ("path LIKE 'plate-1/%' OR height < 10", "images"),
        ("(n_objects > 3) AND (width > 1)", "images"),
        ("area > 50 AND path LIKE '%7.png'", "objects"),
        ("area > 50 -- large ones", "objects"),
        ("area > /* px */ 50", "objects"),
        ("image_id IN (SELECT image_id FROM objects WHERE area > 100)", "images"),
        ("list_avg(mean_intensity) > 100", "objects"),
        ("path = ')' OR path = '--'", "images"),
    ],
)
def test_a_condition_is_about_images_or_objects(index: Index, where: str, about: str) -> None:
    assert level(index, where) == about


@pytest.mark.parametrize(
    "where",
    [
        "1) OR (1", "true) UNION SELECT 1 FROM images WHERE (true", "true ORDER BY 1",
        "true LIMIT 1", "true GROUP BY path", "true; DROP TABLE image_rows", "true /*", "*/ true",
        "true --\n) OR (1",
        "", "area >", "nonsense = 1", "count(*) > 1", "true HAVING true", "true\0",
        "path IN (SELECT content FROM read_text('/etc/passwd'))",
        "path = (SELECT 1 FROM '/etc/passwd')", "x" * 5000, "true UNION ALL SELECT 2",
        "true QUALIFY true", "true WINDOW w AS ()", "?", "$1 = 1",
    ],
)  # fmt: skip
def test_all_else_is_refused(index: Index, where: str) -> None:
    with pytest.raises(SpecError):
        level(index, where)


def test_nothing_but_the_tables_can_be_reached(index: Index) -> None:
    for sql in ("SELECT * FROM read_text('/etc/passwd')", "SET memory_limit = '9GB'"):
        with pytest.raises(SpecError):
            index.ask(sql)
