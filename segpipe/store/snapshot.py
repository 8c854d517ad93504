"""A store as its readers see it: whole committed chunks, the same set in every table."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from segpipe.errors import SpecError
from segpipe.schema import arrow_schema
from segpipe.store import layout
from segpipe.store.files import Files, LocalFiles
from segpipe.store.masks import read_mask

Row = dict[str, Any]


class Snapshot:
    """The chunks that were published when the snapshot was made; later ones are not in it."""

    def __init__(self, files: Files, model: str | None = None) -> None:
        self.files = files
        self._model = model
        self._parts = tuple(sorted(files.names("images")))
        self._chunk_objects = functools.lru_cache(maxsize=4)(self._read_chunk_objects)

    @property
    def chunk_ids(self) -> tuple[str, ...]:
        return tuple(name.removesuffix(".parquet") for name in self._parts)

    def of_model(self, model: str | None) -> Snapshot:
        """The same store, where images have only the results of one model; None for all models.

        Raises:
            SpecError: the model has no results here.
        """
        if model is None:
            return self
        known = pc.unique(self.dataset("images").to_table(columns=["model"])["model"]).to_pylist()
        if model not in known:
            names = ", ".join(sorted(known)) or "none"
            raise SpecError(f"no results of model {model!r} in this store; it has: {names}")
        return Snapshot(self.files, model)

    def parquet_files(self, table: str) -> list[Path]:
        """The parts of `images` or `objects`, of the same chunks for both."""
        return [self.files.local_path(f"{table}/{name}") for name in self._parts]

    def dataset(self, table: str) -> ds.Dataset:
        """`images` or `objects` as an Arrow dataset: lazy, any number of parts."""
        schema = arrow_schema(table)
        return ds.dataset(self.parquet_files(table), schema=schema, format="parquet")

    def records(self) -> list[Row]:
        """The records of all runs, oldest first."""
        runs = sorted(self.files.names(layout.RUNS))
        paths = [layout.run_file(run, "record.json") for run in runs]
        return [json.loads(self.files.read(path)) for path in paths if self.files.exists(path)]

    def image_rows(self, latest: bool = True) -> Iterator[Row]:
        """Rows of `images`, ordered by path; if `latest`, only the newest result of each image."""
        for batch in self._images(ds.scalar(True), latest).to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def find_image(self, name: str) -> Row:
        """The newest row of an image, by `image_id`, path in the collection, uri, or file name.

        Raises:
            SpecError: there is none, or the name fits several images.
        """
        path = ds.field("path")
        exact = (path == name) | (ds.field("image_id") == name) | (ds.field("uri") == name)
        found = self._images(exact)
        if not len(found):
            found = self._images(pc.ends_with(path, f"/{name}"))
        if len(found) == 1:
            return dict(found.to_pylist()[0])
        if len(found):
            paths = ", ".join(found["path"].to_pylist()[:5])
            raise SpecError(f"{name!r} fits {len(found)} images: {paths}; give the whole path")
        raise SpecError(
            f"no image {name!r} in this store; see the columns image_id and path of "
            "latest_images (segpipe query)"
        )

    def _images(self, where: pc.Expression, latest: bool = True) -> pa.Table:
        if self._model is not None:
            where &= ds.field("model") == self._model
        table = self.dataset("images").to_table(filter=where)
        if latest and len(table):
            newest = table.group_by("image_id").aggregate([("run_id", "max")])
            newest = newest.rename_columns({"run_id_max": "run_id"})
            table = table.join(newest, ["image_id", "run_id"], join_type="inner")
        return table.sort_by("path")

    def objects_of(self, image: Row) -> list[Row]:
        """Rows of `objects` of one image row, in label order."""
        table = self._chunk_objects(image["chunk_id"])
        rows = table.filter(pc.field("image_id") == image["image_id"])
        return list(rows.sort_by("label").to_pylist())

    def label_image(self, image: Row) -> npt.NDArray[np.unsignedinteger[Any]]:
        """(H, W) uint16 or uint32: the label image of an `ok` image row."""
        return self._mask(image, "mask_array")

    def semantic(self, image: Row) -> npt.NDArray[np.unsignedinteger[Any]] | None:
        """(H, W) uint8 class per pixel, or None where the model has none."""
        return self._mask(image, "semantic_array") if image["semantic_array"] else None

    def _mask(self, image: Row, column: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        if image["status"] != "ok":
            raise SpecError(f"{image['path']}: has no masks: {image['reason']}: {image['detail']}")
        shape = image["height"], image["width"]
        return read_mask(self.files, image[column], image["mask_index"], shape)

    def _read_chunk_objects(self, chunk_id: str) -> pa.Table:
        return pq.read_table(self.files.local_path(layout.published_part(chunk_id, "objects")))


def open_store(path: str | Path) -> Snapshot:
    """A snapshot of an existing store.

    Raises:
        SpecError: there is no store at `path`, or it is of another format version.
    """
    return Snapshot(open_files(path))


def open_files(path: str | Path) -> LocalFiles:
    """The files of an existing store, after a look at its marker."""
    files = LocalFiles(path)
    try:
        marker = json.loads(files.read(layout.MARKER))
    except OSError as error:
        raise SpecError(f"{path}: no segpipe store here ({layout.MARKER} is missing)") from error
    except ValueError as error:
        raise SpecError(f"{path}: {layout.MARKER} is damaged: {error}") from error
    version = marker.get("format_version") if isinstance(marker, dict) else None
    if version != layout.FORMAT_VERSION:
        raise SpecError(
            f"{path}: store format {version!r}; this segpipe reads {layout.FORMAT_VERSION}"
        )
    return files


def create_store(path: str | Path) -> LocalFiles:
    """The files of a store at `path`, made there if the folder is absent or empty.

    Raises:
        SpecError: the place cannot become a store, since it holds something else.
    """
    if "://" in str(path):
        raise SpecError(f"{path}: this version keeps stores in local or shared folders only")
    files = LocalFiles(path)
    if files.exists(layout.MARKER):
        return open_files(path)
    if files.root.exists() and not files.root.is_dir():
        raise SpecError(f"{path}: is a file; a store is a folder")
    if any(files.names("")):
        raise SpecError(f"{path}: holds something else; give a new or an empty folder")
    marker = {"program": "segpipe", "format_version": layout.FORMAT_VERSION}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    try:
        files.create(layout.MARKER, json.dumps(marker).encode())
        files.create(f"{layout.MASKS}/zarr.json", json.dumps(group).encode())
    except OSError as error:
        raise SpecError(f"{path}: cannot be made: {error.strerror}") from error
    return files
