"""docs/sql.md lists the columns that there are."""

from __future__ import annotations

from segpipe.query import describe
from segpipe.query.views import VIEWS
from tests.conftest import REPOSITORY

LISTED = ("images", "objects", "runs", "missing_images")


def markdown_of(view: str) -> str:
    """The table of a view in the page; what it should be is in the message of a failing test."""
    lines = [f"### {view}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{row['column']}` | {row['type']} | {row['unit']} | {row['meaning']} |"
        for row in describe(view).to_pylist()
    ]
    return "\n".join(lines) + "\n"


def test_the_page_lists_every_column_of_every_view() -> None:
    page = (REPOSITORY / "docs" / "sql.md").read_text("utf-8")
    for view in LISTED:
        assert markdown_of(view) in page, f"docs/sql.md should say:\n{markdown_of(view)}"


def test_the_newest_results_have_the_columns_of_all_results_as_the_page_says() -> None:
    def columns(view: str) -> list[str]:
        return [str(name) for name in describe(view)["column"].to_pylist()]

    assert set(VIEWS) - set(LISTED) == {"latest_images", "latest_objects"}
    assert columns("latest_images") == [*columns("images"), "missing_since"]
    assert columns("latest_objects") == columns("objects")
