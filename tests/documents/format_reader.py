"""A program that knows a store by docs/format.md alone: it reads one, and checks its invariants.

Nothing of segpipe is imported here. The tables of columns are read from the page itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zarr

TYPES = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "list of float": pa.list_(pa.float32()),
}
COMMIT_KEYS = {
    *("format_version", "chunk_id", "spec_id", "run_id", "attempt", "n_images", "n_ok"),
    *("n_objects", "masks", "parts", "failures", "seconds", "sha256"),
}
LATER_COLUMNS = {
    *("etag", "pixel_size_y_um", "pixel_size_x_um"),
    *("area_um2", "centroid_y_um", "centroid_x_um", "perimeter_um"),
}
LATER_KEYS = {"generation", "ceilings"}


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(*parts: Any) -> str:
    return sha256(canonical(list(parts)).encode())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def section_of(page: str, title: str) -> str:
    found = re.search(rf"^### {title}\n(.*?)(?=^###? )", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def columns_of(page: str, table: str) -> dict[str, tuple[pa.DataType, bool]]:
    """Column -> (type, whether it may be null), from the table below the heading of that name."""
    section = section_of(page, table)
    rows = re.findall(r"^\| `(\w+)`( •)? \| ([\w ]+) \|", section, re.MULTILINE)
    return {name: (TYPES[kind], not never) for name, never, kind in rows}


class StoreByThePage:
    """A store in a folder, as the page says it is read.

    Attributes:
        hidden: chunks that are being forgotten.
        chunks: those that are visible.
    """

    def __init__(self, root: Path, page: str) -> None:
        self._root = root
        self._columns = {table: columns_of(page, table) for table in ("images", "objects")}
        marker = json.loads((root / "segpipe.json").read_text())
        assert marker["program"] == "segpipe"
        assert marker["format_version"] in (1, 2, 3, 4), "a version that this page does not know"
        self._raised = marker["format_version"] < 4 or "raised_from" in marker
        forgetting = [json.loads(path.read_text()) for path in root.glob("forgetting/[!.]*.json")]
        self.hidden = {chunk for one in forgetting for chunk in one["chunks"]}
        self._compaction = self._newest_compaction()
        published = {path.stem for path in root.glob("images/[!.]*.parquet")}
        self.chunks = sorted(published - self.hidden)

    def table(self, name: str) -> pa.Table:
        """All rows of `images` or `objects`, each once."""
        folder, compacted = self._compaction
        since = [chunk for chunk in self.chunks if chunk not in compacted]
        parts = sorted(self._root.glob(f"{folder}/{name}-*.parquet")) if folder else []
        parts += [self._root / name / f"{chunk}.parquet" for chunk in since]
        return pa.concat_tables(self._part(name, path.read_bytes()) for path in parts)

    def newest(self) -> dict[str, dict[str, Any]]:
        """image_id -> its newest row."""
        rows = sorted(self.table("images").to_pylist(), key=lambda row: row["run_id"])
        return {row["image_id"]: row for row in rows}

    def label_image(self, row: dict[str, Any], column: str = "mask_array") -> np.ndarray:
        """(H, W) of an `ok` image."""
        if row["mask_index"] is None:
            return self.level(row, 0, column)
        stack = zarr.open_array(self._root / row[column], mode="r", zarr_format=3)
        assert stack.metadata.dimension_names == ("image", "y", "x")
        whole = np.asarray(stack[row["mask_index"]])
        shown = whole[: row["height"], : row["width"]]
        assert np.count_nonzero(whole) == np.count_nonzero(shown), "the padding is 0"
        return shown

    def level(self, row: dict[str, Any], level: int, column: str = "mask_array") -> np.ndarray:
        """(h, w): a level of the pyramid of a large image."""
        group = zarr.open_group((self._root / row[column]).parent, mode="r", zarr_format=3)
        assert len(group.attrs["ome"]["multiscales"][0]["datasets"]) == len(list(group.arrays()))
        array = group[str(level)]
        assert array.metadata.dimension_names == ("y", "x")
        shape = tuple(-(-row[name] // 2**level) for name in ("height", "width"))
        assert array.shape == shape
        return np.asarray(array[:])

    def problems(self) -> Iterator[str]:
        """What is not as the page says."""
        for path in self._root.glob("images/[!.]*.parquet"):
            if not (self._root / "commits" / f"{path.stem}.json").exists():
                yield f"I3 {path.stem}"
        for path in sorted(self._root.glob("commits/[!.]*.json")):
            if path.stem not in self.hidden:
                yield from self._chunk_problems(path)
        for path in sorted(self._root.glob("runs/*/sums.json")):
            sums = json.loads(path.read_text())
            if digest(sums["files"]) != sums["sha256"]:
                yield f"I7 {path.parent.name}"
            files = {f"{path.parent}/{name}": about for name, about in sums["files"].items()}
            yield from self._file_problems(files, "I7")
        for path in sorted(self._root.glob("runs/*/record.json")):
            record = json.loads(path.read_text())
            if digest("spec", record["segment_spec"]) != record["spec_id"]:
                yield f"spec_id {path.parent.name}"

    def _chunk_problems(self, path: Path) -> Iterator[str]:
        commit = json.loads(path.read_text())
        content = {key: value for key, value in commit.items() if key != "sha256"}
        if set(commit) - LATER_KEYS != COMMIT_KEYS or digest(content) != commit["sha256"]:
            yield f"commit {path.stem}"
            return
        if commit["chunk_id"] != path.stem:
            yield f"I1 {path.stem}"
        found = list(self._file_problems(commit["masks"], "I2"))
        parts: dict[str, bytes] = {}
        for table, about in commit["parts"].items():
            published = self._root / table / f"{path.stem}.parquet"
            staged = self._root / f"staging/{path.stem}.{commit['attempt']}/{table}.parquet"
            parts[table] = (published if published.exists() else staged).read_bytes()
            if (len(parts[table]), sha256(parts[table])) != (about["size"], about["sha256"]):
                found.append(f"I2 {table}/{path.stem}")
        yield from found
        if not found:
            rows = {name: self._part(name, data) for name, data in parts.items()}
            yield from self._row_problems(commit, rows["images"], rows["objects"])

    def _row_problems(
        self, commit: dict[str, Any], images: pa.Table, objects: pa.Table
    ) -> Iterator[str]:
        versions = []
        for row in images.to_pylist():
            version = [row["uri"], row["size_bytes"], row["mtime_ns"], row["etag"]]
            versions.append(version if row["etag"] is not None else version[:3])
            if sha256(row["uri"].encode())[:24] != row["image_id"]:
                yield f"image_id {row['path']}"
        again = [commit["generation"]] if commit.get("generation") else []
        if digest("chunk", commit["spec_id"], versions, *again)[:32] != commit["chunk_id"]:
            yield f"I5 {commit['chunk_id']}"
        done = [row for row in images.to_pylist() if row["status"] == "ok"]
        counts = commit["n_images"], commit["n_ok"], commit["n_objects"]
        if counts != (len(images), len(done), len(objects)):
            yield f"counts {commit['chunk_id']}"
        if set(objects["image_id"].to_pylist()) - {row["image_id"] for row in done}:
            yield f"I6 {commit['chunk_id']}: objects of no image"
        for row in done:
            own = objects.filter(pc.field("image_id") == row["image_id"]).sort_by("label")
            yield from self._label_problems(row, own.to_pylist())

    def _label_problems(self, row: dict[str, Any], own: list[dict[str, Any]]) -> Iterator[str]:
        labels = self.label_image(row)
        counts = np.bincount(labels.ravel(), minlength=len(own) + 1)[1:].tolist()
        if [each["label"] for each in own] != list(range(1, row["n_objects"] + 1)):
            yield f"I6 {row['path']}: labels"
        elif counts != [each["area_visible"] for each in own]:
            yield f"I6 {row['path']}: pixels"
        for each in own:
            mask = self.mask(row, each, labels)
            where = np.argwhere(mask)
            box = (*where.min(axis=0).tolist(), *(where.max(axis=0) + 1).tolist())
            if mask.sum() != each["area"] or box != tuple(
                each[f"bbox_{side}"] for side in ("y0", "x0", "y1", "x1")
            ):
                yield f"mask {row['path']}: {each['label']}"

    @staticmethod
    def mask(row: dict[str, Any], each: dict[str, Any], labels: np.ndarray) -> np.ndarray:
        """(H, W) bool: the whole mask of an object."""
        if each["rle"] is None:
            return labels == each["label"]
        from pycocotools import mask as coco

        code = {"size": [row["height"], row["width"]], "counts": each["rle"]}
        return coco.decode(code).astype(bool)

    def _file_problems(self, files: dict[str, Any], kind: str) -> Iterator[str]:
        for path, about in files.items():
            try:
                data = (self._root / path).read_bytes()
            except FileNotFoundError:
                yield f"{kind} {path} is missing"
                continue
            if (len(data), sha256(data)) != (about["size"], about["sha256"]):
                yield f"{kind} {path}"

    def _part(self, table: str, data: bytes) -> pa.Table:
        """A part, with the columns that the page lists and in that order."""
        rows = pq.read_table(pa.BufferReader(data))
        expected = self._columns[table]
        for place, (name, (kind, _)) in enumerate(expected.items()):
            if self._raised and name in LATER_COLUMNS and name not in rows.column_names:
                rows = rows.add_column(place, name, pa.nulls(len(rows), kind))
        assert rows.column_names == list(expected)
        for name, (kind, may_be_null) in expected.items():
            assert rows.schema.field(name).type == kind, name
            assert may_be_null or not rows[name].null_count, name
            if pa.types.is_floating(kind):
                assert not pc.any(pc.is_nan(rows[name])).as_py(), f"NaN in {name}"
        return rows

    def _newest_compaction(self) -> tuple[str | None, frozenset[str]]:
        manifests = sorted(self._root.glob("compacted/[0-9]*.json"))
        if not manifests:
            return None, frozenset()
        content = json.loads(manifests[-1].read_text())
        assert content.pop("sha256") == digest(content)
        chunks = (self._root / content["folder"] / "chunks.txt").read_text().split()
        if self.hidden & set(chunks):
            return None, frozenset()
        assert not list(self._file_problems(content["files"], "compaction"))
        return content["folder"], frozenset(chunks)
