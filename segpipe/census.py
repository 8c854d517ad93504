"""What a collection holds now, against what a store knows of it: new, changed, done, missing.

Either may be larger than memory. Both go through a scratch database on the local disk, which
spills what is more than its memory; Python sees the images that are due, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

import duckdb
import numpy as np
import pyarrow as pa

from segpipe.errors import Reason
from segpipe.planning.chunks import Due
from segpipe.query.scratch import fill, scratch
from segpipe.records import ImageRef
from segpipe.store import Snapshot

BATCH = 16_384
"""Images that go in or come out at a time."""

LISTING = pa.schema(
    [
        ("uri", pa.string()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("etag", pa.string()),
        ("refused", pa.string()),
        ("refused_detail", pa.string()),
    ]
)

_NUMBERED = LISTING.append(pa.field("position", pa.int64()))

_STORED = ["run_id", "spec_id", "chunk_id", "image_id", "uri", "path", "sha256", "status"]
_STORED += ["size_bytes", "mtime_ns", "etag"]

_DONE = """(SELECT uri, size_bytes, mtime_ns, etag FROM images WHERE spec_id = $1) AS done
ON listed.uri = done.uri AND listed.size_bytes = done.size_bytes
AND listed.mtime_ns = done.mtime_ns AND listed.etag IS NOT DISTINCT FROM done.etag"""
# Listed images that may be due; of what is not among them, size and time are of a result, and
# there is no other. Only where the hashes of two images meet is one of them here in vain.
_NOT_DONE = f"""
SELECT * FROM listing AS listed ANTI JOIN {_DONE}
UNION ALL
SELECT * FROM (
    SELECT * FROM listing WHERE hash(uri) IN (
        SELECT hash(uri) FROM images WHERE spec_id = $1 GROUP BY ALL HAVING count(*) > 1
    )
) AS listed SEMI JOIN {_DONE}
"""  # noqa: S608 - our own texts
_HAVE_FAILED = """
SELECT * FROM listing SEMI JOIN (
    SELECT uri FROM images WHERE spec_id = $1 AND status = 'failed'
) USING (uri)
"""
# Every such query is given the spec; this one has no other use for it.
_ALL = "SELECT * FROM listing WHERE $1 IS NOT NULL"

# Their newest result under the spec, and how many there are.
_NEWEST = """
CREATE OR REPLACE TABLE newest AS SELECT uri, count(*) AS results, arg_max(
    struct_pack(size_bytes, mtime_ns, etag, sha256, status), (run_id, chunk_id)
) AS result FROM images SEMI JOIN suspects USING (uri) WHERE spec_id = $1 GROUP BY uri
"""

_SAME = """size_bytes = result.size_bytes AND mtime_ns = result.mtime_ns
AND etag IS NOT DISTINCT FROM result.etag"""

_LISTED = f"""
SELECT position, coalesce(results, 0), result.sha256, ({_SAME}) IS TRUE,
       uri, path, size_bytes, mtime_ns, refused, refused_detail, etag
FROM suspects LEFT JOIN newest USING (uri) WHERE {{where}} ORDER BY position
"""  # noqa: S608

# What a refusal hides, such as the files of a folder that cannot be read, is not missing; nor is
# a plane of a file that is there.
_MISSING = """
SELECT DISTINCT ON (image_id) image_id, uri, path
FROM images ANTI JOIN listing ON split_part(images.uri, '#', 1) = listing.uri
WHERE starts_with(uri, $1) AND NOT EXISTS (
    SELECT 1 FROM listing AS hidden WHERE hidden.refused IS NOT NULL
    AND (starts_with(images.uri, hidden.uri || '/') OR starts_with(images.uri, hidden.uri || '!/'))
) ORDER BY image_id, run_id DESC
"""


class Census:
    """A listing that was counted, and the store it is held against.

    Attributes:
        listed: images in the listing.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, spec_id: str) -> None:
        self._connection = connection
        self._spec_id = spec_id
        (self.listed,) = connection.execute("SELECT count(*) FROM listing").fetchall()[0]

    def due(self) -> Iterator[Due]:
        """Images that are new, or whose size or time is not that of their newest result."""
        rows = self._rows(_NOT_DONE, where=f"({_SAME}) IS NOT TRUE")
        return (due for due, _, _ in rows)

    def failed(self) -> Iterator[Due]:
        """Images whose newest result is a failure."""
        rows = self._rows(_HAVE_FAILED, where="result.status = 'failed'")
        return (due for due, _, _ in rows)

    def with_content(self) -> Iterator[tuple[Due, str | None, bool]]:
        """All images, each with the sha256 of its newest result, and whether `due` leaves it out.

        The sha256 is None where there is no result, or its bytes could not be read.
        """
        return self._rows(_ALL, where="true")

    def missing(self, place: str) -> Iterator[pa.RecordBatch]:
        """Images with results whose uri begins with `place` and is not in the listing.

        Columns: image_id, uri, path.
        """
        yield from self._batches(_MISSING, [place])

    def _rows(self, suspects: str, where: str) -> Iterator[tuple[Due, str | None, bool]]:
        """As `with_content`, of listed images; `suspects` and `where` are our own texts."""
        table = f"CREATE OR REPLACE TABLE suspects AS {suspects}"
        self._connection.execute(table, [self._spec_id])
        self._connection.execute(_NEWEST, [self._spec_id])
        for batch in self._batches(_LISTED.format(where=where)):
            columns = (column.to_pylist() for column in batch.columns)
            for position, results, sha256, same, *about in zip(*columns, strict=True):
                uri, path, size_bytes, mtime_ns, refused, detail, etag = about
                reason = Reason(refused) if refused else None
                ref = ImageRef(uri, path, size_bytes, mtime_ns, reason, detail, etag)
                yield Due(position, ref, results), sha256, same

    def _batches(self, query: str, values: Iterable[str] = ()) -> Iterator[pa.RecordBatch]:
        with self._connection.cursor() as cursor:
            answer = cursor.sql(query, params=list(values))
            rows: pa.RecordBatchReader = answer.to_arrow_reader(BATCH)
            yield from rows


@contextmanager
def census(listing: Iterable[pa.RecordBatch], snapshot: Snapshot, spec_id: str) -> Iterator[Census]:
    """Hold a listing against the results under a spec.

    Args:
        listing: batches with the columns of `LISTING`; see `listing_batches`.

    Raises:
        StoreError: the images of the store cannot be read, or the scratch disk is full.
    """
    with scratch(snapshot, _STORED) as connection:
        _list(connection, listing)
        yield Census(connection, spec_id)


def listing_batches(refs: Iterable[ImageRef]) -> Iterator[pa.RecordBatch]:
    """A listing as a census takes it."""
    refs = iter(refs)
    while some := tuple(islice(refs, BATCH)):
        columns = [[getattr(ref, name) for ref in some] for name in LISTING.names]
        yield pa.record_batch(columns, schema=LISTING)


def _list(connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch]) -> None:
    """Fill the table `listing`, and number it; what stops the listing is raised as it is."""
    stopped: list[BaseException] = []

    def numbered() -> Iterator[pa.RecordBatch]:
        start = 0
        try:
            for batch in batches:
                positions = np.arange(start, start := start + len(batch))
                yield batch.append_column("position", pa.array(positions))
        except BaseException as error:  # of which DuckDB, in between, would keep the text
            stopped.append(error)

    fill(connection, "listing", pa.RecordBatchReader.from_batches(_NUMBERED, numbered()))
    if stopped:
        raise stopped[0]


def failed_specs(snapshot: Snapshot) -> set[str]:
    """The ids of the specs under which the newest result of some image is a failure."""
    query = """
    SELECT DISTINCT spec_id FROM (
        SELECT spec_id, arg_max(status, (run_id, chunk_id)) AS status
        FROM images GROUP BY spec_id, uri
    ) WHERE status = 'failed'
    """
    with scratch(snapshot, _STORED) as connection:
        return {spec_id for (spec_id,) in connection.execute(query).fetchall()}
