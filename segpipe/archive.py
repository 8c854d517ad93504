"""The results in a store, for analysis in Python: what `segpipe.open_store` returns.

    archive = segpipe.open_store("results/")
    cells = archive.objects(columns=["image_id", "label", "area"], where="area > 500").pandas()
    mask = archive.mask(cells.image_id[0], cells.label[0])

Nothing is read before it is asked for. All that a `Snapshot` has is here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from segpipe.errors import SpecError
from segpipe.geometry import Box
from segpipe.masks.of_object import mask_in
from segpipe.query import query
from segpipe.records import Pixels
from segpipe.report.source import open_source
from segpipe.store.object_masks import find_object, mask_of
from segpipe.store.snapshot import Row, Snapshot, is_large

if TYPE_CHECKING:
    import dask.array as da
    import duckdb
    import pandas as pd
    import polars as pl

Labels = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of `images` or `objects`, which are read when they are asked for.

    Attributes:
        sql: the query that reads them.
        parameters: of the query.
    """

    archive: Archive
    sql: str
    parameters: Mapping[str, object]

    def arrow(self) -> pa.Table:
        """
        Raises:
            SpecError: an error in `columns` or `where`, or the rows are more than 1 GB.
        """
        return query(self.archive, self.sql, parameters=self.parameters)

    def pandas(self) -> pd.DataFrame:
        """As Arrow-backed columns, which keep nulls and integers apart."""
        import_optional("pandas")
        import pandas as pd

        return self.arrow().to_pandas(types_mapper=pd.ArrowDtype)

    def polars(self) -> pl.DataFrame:
        import_optional("polars")
        import polars as pl

        return pl.DataFrame(self.arrow())

    def duckdb(self, connection: duckdb.DuckDBPyConnection | None = None) -> Any:
        """A relation, to ask further questions with.

        Args:
            connection: that it will belong to; None for DuckDB's own default one.
        """
        import duckdb

        return duckdb.from_arrow(self.arrow(), connection=connection or duckdb.default_connection())


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The masks of one chunk, or of a large image, as they lie; nothing is read before `compute`.

    Attributes:
        images: rows of `images`, in the order of the first axis.
        labels: (N, H, W) Dask array, uint16 or uint32, padded with 0 to the largest image.
        semantic: (N, H, W) uint8 class per pixel; None where the model has none.
    """

    images: tuple[Row, ...]
    labels: da.Array
    semantic: da.Array | None


class Archive(Snapshot):
    """A snapshot with tables, pixels and masks by name."""

    def images(
        self, columns: Sequence[str] | None = None, where: str = "true", latest: bool = True,
        **parameters: object,
    ) -> Rows:  # fmt: skip
        """Rows of `images`: one for each image.

        Args:
            columns: names, as in `segpipe query --schema`; None for all.
            where: a condition in SQL; `$name` stands for a value in `parameters`.
            latest: only the newest result of each image.
        """
        return self._rows("images", columns, where, latest, parameters)

    def objects(
        self, columns: Sequence[str] | None = None, where: str = "true", latest: bool = True,
        **parameters: object,
    ) -> Rows:  # fmt: skip
        """Rows of `objects`, as `images`."""
        return self._rows("objects", columns, where, latest, parameters)

    def image(self, image: str | Row, part: Box | None = None, level: int = 0) -> Pixels:
        """(H, W, C) the pixels that were segmented, read again from where they were.

        Args:
            image: a row of `images`, or image_id, path in the collection, uri, or file name.
            part: of the level, inside of it; only that is returned, and of a large image only
                what it needs is read.
            level: 1 is half as high and wide, 2 a quarter, and so on: means of squares.

        Raises:
            SpecError: there is no such image, or the part reaches beyond the level.
            InputError: it cannot be read, or is not the one that was segmented.
        """
        row = self._row(image)
        with open_source(row) as source:
            whole = Box(0, 0, *source.level_shape(level))
            if part is not None and not whole.contains(part):
                raise SpecError(f"{row['path']}: {part} reaches beyond level {level}: {whole}")
            return source.read(whole if part is None else part, level)

    def label_image(self, image: str | Row, part: Box | None = None, level: int = 0) -> Labels:
        """(H, W) uint16 or uint32: 0 is background, 1..N are the objects.

        Args:
            image: as for `image`; by name it is the newest result.
            part: of the level, not empty; only that is read and returned.
            level: of a large image 1 is half as high and wide, 2 a quarter, and so on.

        Raises:
            SpecError: there is no such image, or it failed.
        """
        return super().label_image(self._row(image), part, level)

    def semantic(self, image: str | Row, part: Box | None = None, level: int = 0) -> Labels | None:
        """(H, W) uint8 class per pixel, or None where the model has none."""
        return super().semantic(self._row(image), part, level)

    def mask(self, image: str | Row, label: int) -> npt.NDArray[np.bool_]:
        """(H, W): the whole object, parts that others hide included.

        Raises:
            SpecError: there is no such object.
        """
        row = self._row(image)
        one = find_object(self, row, label)
        if one is None:
            raise SpecError(f"{row['path']}: has no object {label}; it has {row['n_objects']}")
        return mask_in(mask_of(self, row, one), Box(0, 0, row["height"], row["width"]))

    def stacks(self) -> Iterator[Stack]:
        """The masks of all chunks, for work on many images at once; of each large image alone."""
        for chunk_id in self.chunk_ids:
            rows = self.of_chunks([chunk_id]).image_rows(latest=False)
            images = [row for row in rows if row["mask_array"]]
            small = [row for row in images if not is_large(row)]
            if small:
                yield self._stack_of(sorted(small, key=lambda row: row["mask_index"]))
            for row in images:
                if is_large(row):
                    yield self._stack_of([row])

    def _stack_of(self, images: Sequence[Row]) -> Stack:
        import dask.array as da

        def stack(path: str) -> da.Array:
            array: da.Array = da.from_array(self.zarr_array(path), name=False)
            return array[None] if is_large(images[0]) else array

        labels, semantic = (images[0][name] for name in ("mask_array", "semantic_array"))
        return Stack(tuple(images), stack(labels), stack(semantic) if semantic else None)

    def _row(self, image: str | Row) -> Row:
        return self.find_image(image) if isinstance(image, str) else image

    def _rows(
        self, table: str, columns: Sequence[str] | None, where: str, latest: bool,
        parameters: Mapping[str, object],
    ) -> Rows:  # fmt: skip
        names = ", ".join(_quoted(name) for name in columns) if columns else "*"
        source = f"latest_{table}" if latest else table
        if self.model is not None:
            source = _OF_MODEL[source]
            parameters = {**parameters, "of_model": self.model}
        order = "image_id, run_id" + (", label" if table == "objects" else "")
        # What is not one condition is refused by the parser, as two statements or none.
        sql = f"SELECT {names} FROM {source} WHERE (\n{where}\n) ORDER BY {order}"  # noqa: S608
        return Rows(self, sql, parameters)


_IMAGES = "SELECT * FROM images WHERE model = $of_model"
_NEWEST = (
    f"{_IMAGES} QUALIFY row_number() OVER "
    "(PARTITION BY image_id ORDER BY run_id DESC, chunk_id DESC) = 1"
)
_OBJECTS = "SELECT objects.* FROM objects SEMI JOIN ({}) USING (image_id, run_id, chunk_id)"
_OF_MODEL = {
    "images": f"({_IMAGES})",
    "latest_images": f"({_NEWEST})",
    "objects": f"({_OBJECTS.format(_IMAGES)})",
    "latest_objects": f"({_OBJECTS.format(_NEWEST)})",
}
"""View -> the same of one model."""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def import_optional(package: str) -> None:
    """
    Raises:
        SpecError: it is not installed.
    """
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise SpecError(f"{package} is not installed: pip install {package}; or use arrow()")
