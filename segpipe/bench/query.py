"""How long questions over many objects take, before and after `segpipe compact`.

A store is made of chunks with random objects, committed as a run commits them, without images and
without masks: a query reads neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import numpy as np

from segpipe.query import query
from segpipe.records import Chunk, ImageRef
from segpipe.schema import IMAGES, OBJECTS
from segpipe.store import create_store, open_store
from segpipe.store.commits import Attempt
from segpipe.store.compaction import compact
from segpipe.store.files import Files

CHUNK_IMAGES = 64
IMAGE_OBJECTS = 100
CLASSES = ("cell", "nucleus", "debris")

QUESTIONS = {
    "filter": "SELECT class_name, count(*) AS n, avg(area) AS mean_area FROM {objects} "
    "WHERE class_name = 'cell' AND area > 500 GROUP BY class_name",
    "by image": "SELECT image_id, count(*) AS n, avg(area) AS mean_area FROM {objects} "
    "GROUP BY image_id ORDER BY n DESC, image_id LIMIT 100",
    "top 100": "SELECT image_id, label, area FROM {objects} ORDER BY area DESC LIMIT 100",
}
"""Name -> a question to a table of objects."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Seconds of each question over one layout of the same rows.

    Attributes:
        parts: Parquet files of the table `objects`.
        segpipe: through `segpipe query`, from opening the store to the answer; `latest_objects`.
        plain: DuckDB alone on the same files, without views and without limits.
    """

    parts: int
    segpipe: Mapping[str, float]
    plain: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """Before and after `compact`, and the seconds that took."""

    objects: int
    made: float
    before: Layout
    compacting: float
    after: Layout


def measure(
    objects: int, folder: Path, rounds: int, observe: Callable[[str], None]
) -> QueryOutcome:
    """Make a store in `folder` of at least so many objects, and ask it `QUESTIONS`.

    Args:
        rounds: of which the median counts, after one that does not.
        observe: is told what is being done.
    """
    observe(f"making a store of {objects:,} objects")
    began = time.perf_counter()
    files = create_store(folder)
    made = make_objects(files, objects)
    seconds = time.perf_counter() - began
    observe("asking")
    before = _ask(folder, f"{folder}/objects/*.parquet", rounds)
    observe("compacting")
    began = time.perf_counter()
    compaction = compact(files)
    assert compaction is not None
    compacting = time.perf_counter() - began
    observe("asking again")
    after = _ask(folder, f"{folder}/{compaction.folder}/objects-*.parquet", rounds)
    return QueryOutcome(made, seconds, before, compacting, after)


def make_objects(files: Files, objects: int) -> int:
    """Commit chunks until there are so many objects; returns how many there are."""
    made = 0
    while made < objects:
        rng = np.random.default_rng(made)
        first = made // IMAGE_OBJECTS
        names = [f"{first + index:08d}.png" for index in range(CHUNK_IMAGES)]
        refs = tuple(ImageRef(f"file:///{name}", name, 1000, 1) for name in names)
        chunk = Chunk("bench", refs)
        attempt = Attempt(files, chunk, "bench")
        rows = CHUNK_IMAGES * IMAGE_OBJECTS
        attempt.write_table("objects", _object_columns(chunk, rng))
        attempt.write_table("images", _image_columns(chunk))
        attempt.commit(n_images=CHUNK_IMAGES, n_ok=CHUNK_IMAGES, n_objects=rows)
        made += rows
    return made


def _object_columns(chunk: Chunk, rng: np.random.Generator) -> dict[str, Any]:
    rows = CHUNK_IMAGES * IMAGE_OBJECTS
    class_ids = rng.integers(0, len(CLASSES), rows)
    y, x = rng.integers(0, 2000, (2, rows))
    height, width = rng.integers(5, 60, (2, rows))
    area = height * width * 3 // 4
    intensity = rng.uniform(0, 255, (rows, 1)).astype(np.float32).tolist()
    known = {
        **_keys(chunk, rows),
        "image_id": np.repeat([ref.image_id for ref in chunk.images], IMAGE_OBJECTS),
        "label": np.tile(np.arange(1, IMAGE_OBJECTS + 1), CHUNK_IMAGES),
        "class_id": class_ids + 1,
        "class_name": np.array(CLASSES)[class_ids],
        "score": rng.random(rows),
        "bbox_y0": y,
        "bbox_x0": x,
        "bbox_y1": y + height,
        "bbox_x1": x + width,
        "area": area,
        "area_visible": area,
        "centroid_y": y + height / 2,
        "centroid_x": x + width / 2,
        "perimeter": 2.0 * (height + width),
        "eccentricity": rng.random(rows),
        "solidity": rng.random(rows),
        "orientation": rng.uniform(-1.5, 1.5, rows),
        "mean_intensity": intensity,
        "min_intensity": intensity,
        "max_intensity": intensity,
        "std_intensity": intensity,
        "touches_border": y == 0,
    }
    return {column.name: known.get(column.name, [None] * rows) for column in OBJECTS}


def _image_columns(chunk: Chunk) -> dict[str, Any]:
    refs = chunk.images
    known = {
        **_keys(chunk, len(refs)),
        "image_id": [ref.image_id for ref in refs],
        "model": ["bench"] * len(refs),
        "uri": [ref.uri for ref in refs],
        "path": [ref.path for ref in refs],
        "size_bytes": [ref.size_bytes for ref in refs],
        "mtime_ns": [ref.mtime_ns for ref in refs],
        "etag": [ref.etag for ref in refs],
        "status": ["ok"] * len(refs),
        "n_objects": [IMAGE_OBJECTS] * len(refs),
    }
    return {column.name: known.get(column.name, [None] * len(refs)) for column in IMAGES}


def _keys(chunk: Chunk, rows: int) -> dict[str, list[str]]:
    keys = {"run_id": "bench", "spec_id": chunk.spec_id, "chunk_id": chunk.chunk_id}
    return {name: [value] * rows for name, value in keys.items()}


def _ask(store: Path, pattern: str, rounds: int) -> Layout:
    parts = len(open_store(store).parts("objects"))

    def through_segpipe(question: str) -> Any:
        return query(open_store(store), question.format(objects="latest_objects"))

    def plain(question: str) -> Any:
        with duckdb.connect() as connection:
            files = f"read_parquet('{pattern}')"
            return connection.sql(question.format(objects=files)).to_arrow_table()

    seconds: dict[str, dict[str, list[float]]] = {"segpipe": {}, "plain": {}}
    for name, question in QUESTIONS.items():
        for number in range(1 + rounds):
            for way, ask in (("segpipe", through_segpipe), ("plain", plain)):
                began = time.perf_counter()
                ask(question)
                if number:
                    seconds[way].setdefault(name, []).append(time.perf_counter() - began)
    medians = {way: {k: median(v) for k, v in found.items()} for way, found in seconds.items()}
    return Layout(parts, medians["segpipe"], medians["plain"])
