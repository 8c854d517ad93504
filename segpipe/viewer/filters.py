"""What is shown: filters as they stand in an address, and as SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segpipe.errors import SpecError
from segpipe.query.condition import Level, wrapped
from segpipe.schema import FLOATS, IMAGES, OBJECTS
from segpipe.viewer.index import IMAGE_COLUMNS, OBJECT_COLUMNS


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that can be filtered by and counted.

    Attributes:
        sql: an expression over the columns of its table.
        whole: it is an integer.
    """

    name: str
    level: Level
    sql: str
    unit: str
    meaning: str
    whole: bool


def _measures() -> dict[str, Measure]:
    found = {}
    for level, table, kept in (
        ("images", IMAGES, IMAGE_COLUMNS),
        ("objects", OBJECTS, OBJECT_COLUMNS),
    ):
        for column in table:
            kind = str(column.type)
            lists = column.type == FLOATS
            if column.name not in kept or not (
                lists or kind.startswith(("int", "float", "double"))
            ):
                continue
            sql = f"list_avg({column.name})" if lists else column.name
            meaning = "mean of the channels" if lists else column.meaning
            found[column.name] = Measure(
                column.name,
                "images" if level == "images" else "objects",
                sql,
                column.unit,
                meaning,
                kind.startswith("int"),
            )
    return found


MEASURES = _measures()
"""By name; channels of an intensity are averaged."""


@dataclass(frozen=True, slots=True)
class Range:
    """Between two ends, both included; None for no end."""

    measure: Measure
    low: float | None
    high: float | None

    @classmethod
    def parse(cls, text: str) -> Range:
        """`area:100:500`, `score::0.5`.

        Raises:
            SpecError: it is no range.
        """
        name, _, ends = text.partition(":")
        low, colon, high = ends.partition(":")
        try:
            measure = MEASURES[name]
            parsed = tuple(float(end) if end else None for end in (low, high))
        except (KeyError, ValueError):
            raise SpecError(
                f"range {text[:80]!r}: give COLUMN:LOW:HIGH; columns: {', '.join(MEASURES)}"
            ) from None
        if not colon or any(end is not None and not abs(end) < float("inf") for end in parsed):
            raise SpecError(f"range {text[:80]!r}: give COLUMN:LOW:HIGH, finite numbers")
        return cls(measure, *parsed)

    @property
    def conditions(self) -> list[str]:
        ends = ((">=", self.low), ("<=", self.high))
        return [
            f"{self.measure.sql} {sign} {end!r}::DOUBLE" for sign, end in ends if end is not None
        ]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which results are shown.

    Attributes:
        run: a run; empty for the newest result of each image.
        model: of one model only; then the newest is the newest of that model.
        name: a part of the path.
        outcomes: `ok`, or reasons of failures; empty for all.
        classes: an image has to have an object of one of them.
        ranges: of images; or of objects: an image has to have one that meets all conditions.
        where: a condition in SQL, checked; `level` says what it is about.
    """

    run: str = ""
    model: str = ""
    name: str = ""
    outcomes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    ranges: tuple[Range, ...] = ()
    where: str = ""
    level: Level = "images"

    def without(self, measure: str) -> Filter:
        """The same without ranges of one measure."""
        kept = tuple(one for one in self.ranges if one.measure.name != measure)
        return replace(self, ranges=kept)

    @property
    def scope(self) -> Filter:
        """The results of the same run and model, all of them."""
        return Filter(self.run, self.model)

    def image_conditions(self) -> list[str]:
        """Of an image row itself, without `scope`."""
        found = [c for one in self.ranges if one.measure.level == "images" for c in one.conditions]
        if self.name:
            found.append(f"contains(lower(path), lower({quoted(self.name)}))")
        if self.outcomes:
            found.append(f"coalesce(reason, status) IN ({_list(self.outcomes)})")
        if self.where and self.level == "images":
            found.append(wrapped(self.where))
        return found

    def object_conditions(self) -> list[str]:
        """Of an object that the image has to have."""
        found = [c for one in self.ranges if one.measure.level == "objects" for c in one.conditions]
        if self.classes:
            found.append(f"class_name IN ({_list(self.classes)})")
        if self.where and self.level == "objects":
            found.append(wrapped(self.where))
        return found

    def scope_conditions(self) -> list[str]:
        """In the index, where `facts` say what is newest."""
        if self.run:
            found = [f"run_id = {quoted(self.run)}"]
        else:
            found = ["newest_of_model" if self.model else "newest"]
        return found + ([f"model = {quoted(self.model)}"] if self.model else [])


def all_of(conditions: Sequence[str]) -> str:
    """One condition; true if there are none."""
    return " AND ".join(conditions) or "true"


def quoted(text: str) -> str:
    """A literal of SQL.

    Raises:
        SpecError: no text of SQL has a NUL in it.
    """
    if "\0" in text:
        raise SpecError("a text with a NUL in it")
    return "'" + text.replace("'", "''") + "'"


def _list(texts: Sequence[str]) -> str:
    return ", ".join(quoted(text) for text in texts)


def as_query(chosen: Filter, what: Level) -> str:
    """The same images, or the objects that meet the conditions, as SQL for `segpipe query`."""
    scope = [f"run_id = {quoted(chosen.run)}"] if chosen.run else []
    scope += [f"model = {quoted(chosen.model)}"] if chosen.model else []
    if chosen.run:
        shown = f"SELECT * FROM images WHERE {all_of(scope)}"  # noqa: S608 - quoted, checked
    elif chosen.model:
        shown = (
            f"SELECT * FROM images WHERE {all_of(scope)} QUALIFY row_number() OVER "  # noqa: S608
            "(PARTITION BY image_id ORDER BY run_id DESC, chunk_id DESC) = 1"
        )
    else:
        shown = "SELECT * EXCLUDE (missing_since) FROM latest_images"
    images, objects = chosen.image_conditions(), chosen.object_conditions()
    picked = f"shown AS ({shown}), picked AS (SELECT * FROM shown WHERE {all_of(images)})"  # noqa: S608
    if what == "images" and not objects:
        return f"WITH {picked} SELECT * FROM picked ORDER BY path"  # noqa: S608
    twice = "run_id, chunk_id, image_id, spec_id, orientation, mask_array, mask_index"
    found = (
        f"found AS (SELECT objects.*, picked.* EXCLUDE ({twice}) "  # noqa: S608
        "FROM objects JOIN picked USING (run_id, chunk_id, image_id))"
    )
    head = f"WITH {picked}, {found} "
    if what == "objects":
        names = ", ".join(column.name for column in OBJECTS)
        where = all_of(objects)
        return f"{head}SELECT path, {names} FROM found WHERE {where} ORDER BY path, label"  # noqa: S608
    return (
        f"{head}SELECT * FROM picked WHERE (run_id, image_id) IN "  # noqa: S608
        f"(SELECT (run_id, image_id) FROM found WHERE {all_of(objects)}) ORDER BY path"
    )
