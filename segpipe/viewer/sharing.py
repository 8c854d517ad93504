"""What was selected, taken elsewhere: as a table, as paths, as SQL, as a command."""

from __future__ import annotations

import io
import shlex
from typing import Annotated, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from segpipe.errors import SpecError
from segpipe.provenance.redact import redact_url
from segpipe.query import format_table
from segpipe.query.statement import MAX_CHARACTERS
from segpipe.viewer.filters import quoted
from segpipe.viewer.viewer import Viewer

PATH = "/api/selection"
"""Takes POST: a selection is too long for an address."""

MAX_ITEMS = 20_000

Id = Annotated[str, Field(max_length=100)]


class Item(BaseModel):
    """An image in one run, or with a label one of its objects."""

    image_id: Id
    run: Id
    label: int | None = None


class Selection(BaseModel):
    """What to write: the images of the items (also those of objects), or the objects."""

    format: Literal["csv", "parquet", "paths", "sql", "command"]
    what: Literal["images", "objects"] = "images"
    items: Annotated[list[Item], Field(max_length=MAX_ITEMS)]

    @property
    def keys(self) -> list[tuple[str, ...] | tuple[str, str, int]]:
        """(run_id, image_id), with label for objects; each once, in the order of the items."""
        if self.what == "images":
            return list(dict.fromkeys((item.run, item.image_id) for item in self.items))
        with_label = (item for item in self.items if item.label is not None)
        return list(dict.fromkeys((i.run, i.image_id, i.label or 0) for i in with_label))


def routes(viewer: Viewer) -> APIRouter:
    """`POST /api/selection`."""
    router = APIRouter()

    @router.post(PATH)
    def export(selection: Selection) -> Response:
        """The rows; the header `X-Missing` counts items that the store does not have any more."""
        if not selection.keys:
            raise SpecError(f"no {selection.what} are selected")
        if selection.format in ("sql", "command"):
            return _text(as_sql(selection, redact_url(viewer.name)), 0)
        rows = selected_rows(viewer, selection)
        missing = len(selection.keys) - len(rows)
        match selection.format:
            case "paths":
                # One a line: a path with a line end in it would be two.
                paths = dict.fromkeys(
                    path.replace("\n", "%0A") for path in rows["path"].to_pylist()
                )
                return _text("".join(f"{path}\n" for path in paths), missing)
            case "csv":
                text = io.StringIO()
                format_table(rows, "csv", text)
                return _text(text.getvalue(), missing, "text/csv")
            case _:
                buffer = io.BytesIO()
                pq.write_table(rows, buffer, compression="zstd")
                return Response(
                    buffer.getvalue(),
                    media_type="application/vnd.apache.parquet",
                    headers={"X-Missing": str(missing)},
                )

    return router


def selected_rows(viewer: Viewer, selection: Selection) -> pa.Table:
    """The rows of the store, all columns; those of objects begin with their image's path."""
    keys = selection.keys
    names = ["run_id", "image_id", "label"][: len(keys[0])]
    wanted = pa.table([pa.array(column) for column in zip(*keys, strict=True)], names)
    images = pc.unique(wanted["image_id"])
    chunks = viewer.chunks_of(images.to_pylist())
    part = viewer.snapshot().of_chunks(chunks)
    here = ds.field("image_id").isin(images)
    paths = part.dataset("images").to_table(filter=here)
    if selection.what == "images":
        found = paths
    else:
        wanted = wanted.set_column(2, "label", wanted["label"].cast(pa.int32()))
        found = part.dataset("objects").to_table(filter=here)
    kept = _joined(found, wanted, names)
    if selection.what == "images":
        return kept.sort_by([("path", "ascending"), ("run_id", "ascending")])
    with_path = _joined(kept, paths.select(["run_id", "image_id", "path"]), ["run_id", "image_id"])
    ordered = with_path.sort_by([("path", "ascending"), ("label", "ascending")])
    return ordered.select(["path", *(name for name in kept.column_names)])


def _joined(left: pa.Table, right: pa.Table, keys: list[str]) -> pa.Table:
    """Inner join; done by row numbers, since Arrow joins no tables with lists in them."""
    numbered = left.select(keys).append_column("number", pa.array(range(len(left)), pa.int64()))
    found = numbered.join(right, keys, join_type="inner").sort_by("number")
    joined = left.take(found["number"])
    for name in right.column_names:
        if name not in keys:
            joined = joined.append_column(name, found[name])
    return joined


def as_sql(selection: Selection, store: str) -> str:
    """The selection as a query, or as the command that asks it.

    Raises:
        SpecError: it is longer than `segpipe query` reads.
    """
    columns = "run_id, image_id" + ", label" * (selection.what == "objects")
    tuples = ", ".join(
        "(" + ", ".join(quoted(k) if isinstance(k, str) else str(k) for k in key) + ")"
        for key in selection.keys
    )
    sql = f"SELECT * FROM {selection.what} WHERE ({columns}) IN ({tuples})"  # noqa: S608 - quoted
    if len(sql) > MAX_CHARACTERS:
        raise SpecError(
            f"as SQL these {len(selection.keys):,} {selection.what} are {len(sql):,} characters; "
            f"segpipe query reads {MAX_CHARACTERS:,}: export a table, or take the SQL of the filter"
        )
    if selection.format == "sql":
        return sql
    return shlex.join(["segpipe", "query", store, sql, "--format", "csv"])


def _text(text: str, missing: int, kind: str = "text/plain") -> Response:
    return Response(
        text.encode("utf-8", "backslashreplace"),
        media_type=f"{kind}; charset=utf-8",
        headers={"X-Missing": str(missing)},
    )
