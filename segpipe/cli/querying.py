"""`segpipe query`: questions in SQL, and the pixels that their answers are about."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segpipe.cli.options import Store
from segpipe.errors import SpecError

if TYPE_CHECKING:
    import pyarrow as pa

    from segpipe.store.snapshot import Snapshot

querying = typer.Typer(rich_markup_mode=None)

QUERY_BYTES = 2 << 30
"""Memory of a query."""


class QueryFormat(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@querying.command()
def query(
    store: Store,
    sql: Annotated[
        str | None, typer.Argument(help="One SELECT; @NAME for one that was saved.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE: the value of $NAME in the query; several times."),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        QueryFormat, typer.Option(help="How to print the answer.")
    ] = QueryFormat.TABLE,
    crop: Annotated[
        Path | None,
        typer.Option(help="Folder for the pixels of each object: needs image_id and label."),
    ] = None,
    margin: Annotated[int, typer.Option(min=0, help="Pixels around each object of --crop.")] = 8,
    overlay: Annotated[
        Path | None, typer.Option(help="Folder for the overlay of each image: needs image_id.")
    ] = None,
    save: Annotated[
        str | None, typer.Option(help="Keep the query in the store under this name.")
    ] = None,
    saved: Annotated[bool, typer.Option("--saved", help="List the queries that are kept.")] = False,
    drop: Annotated[str | None, typer.Option(help="Remove a query that is kept.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="List the columns of all views, or of the one given.")
    ] = False,
) -> None:
    """Ask a question in SQL (DuckDB), read-only.

    Views: images, objects, runs, missing_images; latest_images and latest_objects hold the newest
    result of each image. --schema lists their columns, with unit and meaning.

    \b
    segpipe query results/ "SELECT reason, count(*) FROM images GROUP BY reason"
    segpipe query results/ "SELECT * FROM latest_objects WHERE area > 500" --format csv
    segpipe query results/ 'SELECT * FROM latest_objects WHERE area > $min' --param min=500
    segpipe query results/ "SELECT * FROM latest_objects ORDER BY area DESC LIMIT 20" --crop large/
    segpipe query results/ "SELECT * FROM latest_images WHERE n_objects > 80" --save crowded
    segpipe query results/ @crowded --overlay crowded/
    segpipe query results/ objects --schema
    """
    import segpipe
    from segpipe.query import format_table
    from segpipe.query.saved import save_query

    snapshot = segpipe.open_store(store)
    if schema or saved or drop:
        _about_queries(snapshot, sql, format, saved, drop)
        return
    if sql is None:
        raise SpecError("give one SELECT, or @NAME; --schema lists what can be asked about")
    asked = _named(snapshot, sql)
    answer = _ask(snapshot, asked, param or ())
    if save is not None:
        save_query(snapshot.files, save, asked)
    if crop is None and overlay is None:
        format_table(answer, format.value, sys.stdout)
        return
    _write_pictures(snapshot, answer, crop, overlay, margin)


def _about_queries(
    snapshot: Snapshot, view: str | None, format_: QueryFormat, saved: bool, drop: str | None
) -> None:
    import pyarrow as pa

    from segpipe.query import describe, format_table
    from segpipe.query.saved import drop_query, saved_queries

    if drop is not None:
        drop_query(snapshot.files, drop)
    elif saved:
        kept = saved_queries(snapshot.files)
        table = pa.table({"name": list(kept), "query": list(kept.values())})
        format_table(table, format_.value, sys.stdout)
    else:
        described = describe(view)
        if view is not None:  # which needs no column of its own: there is room for the meaning
            described = described.drop_columns(["view"])
        format_table(described, format_.value, sys.stdout)


def _named(snapshot: Snapshot, sql: str) -> str:
    from segpipe.query.saved import saved_query

    return saved_query(snapshot.files, sql[1:]) if sql.startswith("@") else sql


def _ask(snapshot: Snapshot, sql: str, given: Sequence[str]) -> pa.Table:
    from segpipe.query import query as ask
    from segpipe.query.address_space import limited_address_space

    parameters = dict(map(_parameter, given))
    with limited_address_space(QUERY_BYTES):
        return ask(snapshot, sql, memory_limit=f"{QUERY_BYTES}B", parameters=parameters)


def _parameter(given: str) -> tuple[str, object]:
    """A number, true, false and null are what they look like in JSON; all else is text."""
    name, equals, text = given.partition("=")
    if not equals or not name.isidentifier():
        raise SpecError(f"--param {given!r}: give NAME=VALUE, as in min=500 or class=nucleus")
    try:
        value = json.loads(text)
    except ValueError:
        return name, text
    return name, text if isinstance(value, list | dict) else value


def _write_pictures(
    snapshot: Snapshot, answer: pa.Table, crop: Path | None, overlay: Path | None, margin: int
) -> None:
    """Crops and overlays; exit code 1 if something of the answer could not be written."""
    from segpipe.export.crops import INDEX, write_crops, write_overlays

    if crop is not None and overlay is not None and crop.resolve() == overlay.resolve():
        raise SpecError(f"--crop and --overlay: both write {crop / INDEX}; give two folders")
    written = []
    if crop is not None:
        written.append(write_crops(snapshot, answer, crop, margin))
    if overlay is not None:
        written.append(write_overlays(snapshot, answer, overlay))
    for one in written:
        typer.echo(one.to_text())
    if any(one.left_out for one in written):
        raise typer.Exit(1)
