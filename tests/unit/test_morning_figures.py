"""Shapes, names, columns and times of a morning: each says what the pixels and rows say."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw

from segpipe.errors import SpecError
from segpipe.masks.of_object import object_mask
from segpipe.report.morning.columns import ColumnCounts, check_columns, measured_columns
from segpipe.report.morning.shapes import Masks, Shape, shapes, tags
from segpipe.report.morning.times import limit, parts
from segpipe.schema import arrow_schema

LABELS = arrays(
    np.uint16, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(0, 3)
)


def rows_of(labels: np.ndarray) -> list[dict]:
    rows = []
    for label in np.unique(labels[labels > 0]).tolist():
        y, x = np.nonzero(labels == label)
        rows.append(
            {
                "label": label, "class_id": 1, "class_name": "cell", "score": 0.5, "rle": None,
                "area": len(y),
                "bbox_y0": y.min(), "bbox_x0": x.min(), "bbox_y1": y.max() + 1,
                "bbox_x1": x.max() + 1, "centroid_y": y.mean(), "centroid_x": x.mean(),
            }
        )  # fmt: skip
    return rows


def masks_in(labels: np.ndarray) -> Masks:
    return lambda rows: ((row, object_mask(row, labels)) for row in rows)


def covered(path: str, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centres a path covers, by the even-odd rule, as another program draws it."""
    scale = 2
    inside = np.zeros((shape[0] * scale, shape[1] * scale), bool)
    for ring in path.removesuffix("z").split("z"):
        x, y = (int(number) for number in re.match(r"M(\d+) (\d+)", ring).groups())  # type: ignore[union-attr]
        corners = [(x, y)]
        for step, by in re.findall(r"([hv])(-?\d+)", ring):
            x, y = (x + int(by), y) if step == "h" else (x, y + int(by))
            corners.append((x, y))
        drawn = Image.new("1", inside.shape[::-1])
        # The border is drawn too, which centres between two corners do not lie on.
        ImageDraw.Draw(drawn).polygon([(scale * x, scale * y) for x, y in corners], fill=1)
        inside ^= np.array(drawn)
    return inside[1::scale, 1::scale]


@given(LABELS)
def test_a_path_covers_the_pixels_of_its_object(labels: np.ndarray) -> None:
    found = shapes(rows_of(labels), masks_in(labels), 1)
    assert [shape.label for shape in found] == [
        row["label"] for row in sorted(rows_of(labels), key=lambda r: (-r["area"], r["label"]))
    ]
    for shape in found:
        assert np.array_equal(covered(shape.path, labels.shape), labels == shape.label)


@given(LABELS, st.integers(2, 5))
def test_of_a_reduced_picture_it_covers_the_pixels_in_the_middle(
    labels: np.ndarray, step: int
) -> None:
    small = labels[step // 2 :: step, step // 2 :: step]
    for shape in shapes(rows_of(labels), masks_in(labels), step):
        own = small == shape.label
        if own.any():
            assert np.array_equal(covered(shape.path, small.shape), own)
        else:
            assert "L" in shape.path  # its box stands for it


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 0.3), st.text("abc", max_size=9)
        ),
        max_size=30,
    ),
    st.floats(0.3, 3),
)
def test_names_lie_inside_the_figure(found: list[tuple], ratio: float) -> None:
    width, height = 500.0, 500.0 * ratio
    drawn = [
        Shape(
            i + 1, "", (x * width, y * height, min(1, x + size) * width, min(1, y + size) * height),
            "#000000", text, None, 1,
        )
        for i, (x, y, size, text) in enumerate(found)
    ]  # fmt: skip
    placed = tags(drawn, width, height)
    assert len({one.shape.label for one in placed}) == len(placed) <= len(drawn)
    assert all(0 <= one.x <= 1 and 0 <= one.y <= 1 for one in placed)


def objects_of(classes: list[str], values: list[float], channels: list[list[float]]) -> pa.Table:
    schema = arrow_schema("objects")
    return pa.table(
        {
            "class_name": pa.array(classes, schema.field("class_name").type),
            "solidity": pa.array(values, schema.field("solidity").type),
            "mean_intensity": pa.array(channels, schema.field("mean_intensity").type),
        }
    )


def test_columns_are_counted_by_class_and_channel() -> None:
    counts = ColumnCounts(["solidity", "mean_intensity"])
    table = objects_of(["a", "b", "a"], [0.5, float("nan"), 0.25], [[-5.0], [1.0, 2.0, 3.0], [7.0]])
    counts.add(table, np.array([0, 0, 1]), np.array([0, 1, 0]), ["a", "b"], images=4)
    found = {column.name: column.classes for column in counts.columns()}
    assert list(found) == ["solidity", *(f"mean_intensity {i}" for i in (1, 2, 3))]
    assert {name: one.total for name, one in found["solidity"].items()} == {"a": 2, "b": 0}
    assert found["mean_intensity 1"]["a"].quantile(0) == pytest.approx(-5, rel=1 / 64)
    assert {name: one.total for name, one in found["mean_intensity 3"].items()} == {"a": 0, "b": 1}
    per_image = counts.per_image()
    assert per_image["a"].to_dict() == {"scale": "whole", "bins": [0, 1], "counts": [2, 2]}
    assert per_image["b"].to_dict() == {"scale": "whole", "bins": [0, 1], "counts": [3, 1]}


def test_what_is_no_measured_column_is_refused_with_those_that_are() -> None:
    assert {"area", "eccentricity", "mean_intensity"} <= set(measured_columns())
    assert not {"label", "rle", "class_name", "touches_border"} & set(measured_columns())
    with pytest.raises(SpecError, match=r"'rle' is no measured column .* solidity"):
        check_columns(["area", "rle"])


@pytest.mark.parametrize(
    ("forward", "images", "room", "said"),
    [
        (90.0, 5.0, 5.0, "it is the limit"),
        (40.0, 50.0, 10.0, "waited 50% for images"),
        (40.0, 10.0, 50.0, "waited 50% for results"),
    ],
)
def test_the_limit_is_what_the_model_waits_for(
    forward: float, images: float, room: float, said: str
) -> None:
    stages = {"forward": forward, "wait_for_images": images, "wait_for_room": room, "decode": 999.0}
    assert said in (limit(stages) or "")
    assert parts(stages)["wait"] == images + room
    assert limit({"decode": 1.0}) is None
