"""Questions that are kept in the store: `queries/<name>.sql`, for everybody who opens it."""

from __future__ import annotations

import re

import duckdb

from segpipe.errors import SpecError
from segpipe.query.statement import check_statement
from segpipe.store.files import Files
from segpipe.store.layout import QUERIES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def save_query(files: Files, name: str, sql: str) -> None:
    """Keep a query under a name, in place of one that had it.

    Raises:
        SpecError: it is not one read-only SELECT, the name is none, or the store cannot be
            written to.
    """
    path = _path(name)
    with duckdb.connect(":memory:") as connection:
        try:
            check_statement(connection, sql)
        except duckdb.Error as error:
            raise SpecError(f"not saved: {error}") from error
    try:
        files.replace(path, sql.encode())
    except OSError as error:
        raise SpecError(f"{files.address}/{path}: not saved: {error.strerror or error}") from error


def saved_query(files: Files, name: str) -> str:
    """
    Raises:
        SpecError: there is none of that name.
    """
    try:
        return files.read(_path(name)).decode()
    except FileNotFoundError:
        known = ", ".join(saved_queries(files)) or "none"
        raise SpecError(f"no query {name!r} is saved in this store; there are: {known}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{files.address}/{_path(name)}: not text: {error}") from error


def saved_queries(files: Files) -> dict[str, str]:
    """Name -> query, by name."""
    names = (name.removesuffix(".sql") for name in files.names(QUERIES) if name.endswith(".sql"))
    return {name: saved_query(files, name) for name in sorted(names) if _NAME.fullmatch(name)}


def drop_query(files: Files, name: str) -> None:
    """
    Raises:
        SpecError: there is none of that name, or the store cannot be written to.
    """
    saved_query(files, name)
    try:
        files.remove(_path(name))
    except OSError as error:
        raise SpecError(f"{files.address}: not removed: {error.strerror or error}") from error


def _path(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SpecError(f"{name!r} is no name of a query; use letters, digits, - and _, at most 64")
    return f"{QUERIES}/{name}.sql"
