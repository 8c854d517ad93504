"""A condition of a person, which must stay one when it stands in a query of ours."""

from __future__ import annotations

from typing import Any, Literal

import duckdb

from segpipe.errors import SpecError
from segpipe.query.statement import check_statement, syntax_tree

Level = Literal["images", "objects"]

MAX_CHARACTERS = 4000

_BARE = "SELECT 1 FROM images WHERE {}\n"


def check_condition(
    connection: duckdb.DuckDBPyConnection, where: str, objects: str = "objects"
) -> Level:
    """What a condition is about: `images`, or `objects` if it names a column of theirs.

    It is parsed twice, bare and in parentheses, and has to be the same condition both times, at
    the same place of the same SELECT: `1) OR (1`, `1 ORDER BY 1`, `1; DROP`, comments that end
    early or late, and all else that would change the query around it fail that.

    Args:
        connection: with the views `images` and `objects`.
        objects: what a condition on objects may be about: a view, or a query in parentheses.

    Raises:
        SpecError: it is no such condition; says why.
    """
    if len(where) > MAX_CHARACTERS:
        raise SpecError(f"the condition has {len(where):,} characters; at most {MAX_CHARACTERS:,}")
    if "\0" in where:
        raise SpecError("the condition has a NUL in it")
    try:
        check_statement(connection, _select("images", where))
        bare = _clause(connection, _BARE.format(where))
        wrapped = _clause(connection, _select("images", where))
    except duckdb.Error as error:
        raise SpecError(_short(error)) from error
    if bare != wrapped:
        raise SpecError("give one condition, such as: area > 500 AND class_name = 'cell'")
    try:
        connection.execute(_select("images", where) + " LIMIT 0")
    except duckdb.BinderException:
        try:
            connection.execute(_select(objects, where) + " LIMIT 0")
        except duckdb.Error as error:
            raise SpecError(_short(error)) from error
        return "objects"
    except duckdb.Error as error:
        raise SpecError(_short(error)) from error
    return "images"


def wrapped(where: str) -> str:
    """A checked condition, to stand among others; a comment in it ends with its line."""
    return f"(\n{where}\n)"


def _select(view: str, where: str) -> str:
    return f"SELECT 1 FROM {view} WHERE {wrapped(where)}"  # noqa: S608 - that is what is checked


def _clause(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The condition of a plain SELECT ... WHERE, without the places where it was written.

    Raises:
        SpecError: the statement is more than that.
    """
    (statement,) = _without_places(syntax_tree(connection, sql))
    (plain,) = _without_places(syntax_tree(connection, "SELECT 1 FROM images WHERE true"))
    clause = statement["node"].pop("where_clause", None)
    plain["node"].pop("where_clause")
    if statement != plain or clause is None:
        raise SpecError("only a condition, what stands behind WHERE: no ORDER BY, GROUP BY, UNION")
    return clause


def _without_places(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: _without_places(v) for k, v in tree.items() if k != "query_location"}
    return [_without_places(item) for item in tree] if isinstance(tree, list) else tree


def _short(error: duckdb.Error) -> str:
    """Without the statement, which is ours."""
    return str(error).partition("\n\nLINE")[0].strip()
