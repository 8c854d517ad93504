"""Whether a statement is one SELECT that can do nothing but read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from segpipe.errors import SpecError

MAX_CHARACTERS = 100_000

# Closed lists: what a later DuckDB adds is refused until somebody has looked at it.
_QUERIES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
_TABLE_FUNCTIONS = {"generate_series", "range", "unnest"}


def check_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Refuse all but one SELECT (or WITH, VALUES, FROM, DESCRIBE, SUMMARIZE) without effects.

    A data-modifying WITH counts as a SELECT for DuckDB, and some table functions read files or
    change settings, so the parsed statement is searched for both.

    Raises:
        SpecError: says what was found, and what is allowed.
    """
    if len(sql) > MAX_CHARACTERS:
        raise SpecError(f"the query has {len(sql)} characters; at most {MAX_CHARACTERS} are read")
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise SpecError(f"{len(statements)} statements; a query is exactly one SELECT")
    kind = statements[0].type
    if kind != duckdb.StatementType.SELECT:
        raise SpecError(f"{kind.name} is not allowed; a query is exactly one read-only SELECT")
    for node in _nodes(syntax_tree(connection, sql)):
        _check_node(node)


def syntax_tree(connection: duckdb.DuckDBPyConnection, sql: str) -> Any:
    """The parsed statements, as DuckDB serialises them.

    Raises:
        SpecError: it is not a plain SELECT, or nested too deeply.
    """
    rows = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchall()
    try:
        tree = json.loads(rows[0][0])
    except RecursionError:
        raise SpecError("the query is nested too deeply") from None
    if tree["error"]:
        raise SpecError(f"not a plain SELECT: {tree['error_message']}")
    return tree["statements"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _check_node(node: dict[str, Any]) -> None:
    kind = node.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith("_NODE") and kind not in _QUERIES:
        what = kind.removesuffix("_NODE").removesuffix("_QUERY")
        raise SpecError(f"{what} is not allowed; a query only reads")
    if kind == "TABLE_FUNCTION":
        name = node["function"]["function_name"]
        if name not in _TABLE_FUNCTIONS:
            raise SpecError(
                f"the table function {name} is not allowed; use the views of the store, or "
                + ", ".join(sorted(_TABLE_FUNCTIONS))
            )
