"""Annotated folders are read whole or refused with the reason, and no group is in two splits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segpipe.errors import SpecError
from segpipe.spec import PercentileScaling, Preprocess
from segpipe.training.augment import Augmentation, Field, unvaried
from segpipe.training.crops import FieldCache, chances, make_field
from segpipe.training.data import Example, data_digest, list_data, of_split, read_example
from segpipe.training.recipe import AugmentRecipe, DataRecipe
from segpipe.training.targets import normalised_distance, touching_edges
from tests.annotated import disc_image, write_image, write_index

CLASSES = ("background", "disc")
DATA = DataRecipe(name="discs", licence="CC0-1.0", file="image_id", subgroup="kind")
AS_IT_IS = Preprocess(scaling=PercentileScaling(low=0, high=100))
GEOMETRY_ONLY = AugmentRecipe(
    gamma=(1, 1), gain=(1, 1), offset=(0, 0), blur_probability=0, noise_probability=0
)


def recipe(**changes: object) -> DataRecipe:
    return DATA.model_copy(update=changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(4):
        write_image(tmp_path, f"{seed}", *disc_image(seed))
    rows = [(f"{seed}", "val" if seed == 3 else "train", "disc", f"p{seed}") for seed in range(4)]
    write_index(tmp_path, rows, "patient")
    return tmp_path


def test_an_index_says_who_belongs_where(folder: Path) -> None:
    data = list_data(folder, recipe(group="patient"), CLASSES)
    assert [one.name for one in of_split(data, "train")] == ["0.png", "1.png", "2.png"]
    assert {(one.subgroup, one.group) for one in of_split(data, "val")} == {("disc", "p3")}
    example = read_example(data[0])
    pixels, labels = disc_image(0)
    assert np.array_equal(example.pixels[..., 0], pixels)
    assert np.array_equal(example.labels > 0, labels > 0)
    assert np.array_equal(example.classes, labels > 0)


def test_without_an_index_whole_groups_are_held_out_and_always_the_same(folder: Path) -> None:
    (folder / "index.csv").unlink()
    plain = DataRecipe(name="d", licence="x", validation=0.5)
    data = list_data(folder, plain, CLASSES)
    assert len(of_split(data, "val")) == len(of_split(data, "train")) == 2
    assert [one.split for one in list_data(folder, plain, CLASSES)] == [one.split for one in data]
    write_index(folder, [(f"{i}", "", "disc", f"p{i % 2}") for i in range(4)], "patient")
    grouped = list_data(folder, recipe(group="patient", validation=0.3), CLASSES)
    assert {one.group for one in of_split(grouped, "val")}.isdisjoint(
        one.group for one in of_split(grouped, "train")
    )
    write_index(folder, [(f"{i}", "", "disc", "only") for i in range(4)], "patient")
    with pytest.raises(SpecError, match="one each"):
        list_data(folder, recipe(group="patient"), CLASSES)


def test_a_patient_in_two_splits_is_refused(folder: Path) -> None:
    rows = [("0", "train", "disc", "ann"), ("1", "val", "disc", "ann")]
    write_index(folder, rows, "patient")
    with pytest.raises(SpecError, match="'ann'"):
        list_data(folder, recipe(group="patient"), CLASSES)


def test_what_was_trained_on_is_known_by_its_bytes(folder: Path) -> None:
    before = data_digest(list_data(folder, DATA, CLASSES))
    assert data_digest(list_data(folder, DATA, CLASSES)) == before
    pixels, labels = disc_image(0)
    labels[0, 0] = 9 if labels[0, 0] == 0 else 0
    write_image(folder, "0", pixels, labels)
    assert data_digest(list_data(folder, DATA, CLASSES)) != before


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda f: write_index(f, [("9", "train", "disc")]), "'9'"),
        (lambda f: (f / "labels" / "0.png").unlink(), "0.png"),
        (lambda f: shutil.rmtree(f / "labels"), "labels"),
        (lambda f: (f / "index.csv").write_text("name,split\n0,train\n"), "image_id"),
        (lambda f: (f / "images" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "0.png"),
        (lambda f: write_image(f, "0", disc_image(0, 40)[0], disc_image(0)[1]), "40"),
        (lambda f: write_index(f, [("0", "test", "disc")]), "'train'"),
    ],
)
def test_unusable_data_is_named(break_it: Callable[[Path], None], says: str, folder: Path) -> None:
    break_it(folder)
    with pytest.raises(SpecError, match=says):
        [read_example(one) for one in of_split(list_data(folder, DATA, CLASSES), "train")]


def coco_folder(folder: Path, **changes: object) -> Path:
    """One image of 20 x 30 pixels with three objects, of which two overlap, and a crowd."""
    write_image(folder, "a", np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8))
    shutil.rmtree(folder / "labels")

    def box(x0: int, y0: int, x1: int, y1: int) -> list[list[int]]:
        return [[x0, y0, x1, y0, x1, y1, x0, y1]]

    crowd = {"size": [20, 30], "counts": [590, 10]}
    content = {
        "images": [{"id": 7, "file_name": "a.png", "height": 20, "width": 30}],
        "categories": [{"id": 30, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": 2, "segmentation": box(2, 2, 6, 6)},
            {"image_id": 7, "category_id": 30, "segmentation": box(0, 0, 12, 12)},
            {"image_id": 7, "category_id": 30, "segmentation": box(20, 10, 25, 15)},
            {"image_id": 7, "category_id": 2, "segmentation": crowd, "iscrowd": 1},
        ],
    } | changes
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_coco_annotations_become_labels_with_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = coco_folder(tmp_path)
    write_index(folder, [("a", "train", "pet")])
    (one,) = list_data(folder, recipe(layout="coco"), ("background", "dog", "cat"))
    example = read_example(one)
    assert example.classes[4, 4] == 1  # the smaller one is on top
    assert example.classes[9, 9] == example.classes[12, 22] == 2
    assert example.labels[9, 9] != example.labels[12, 22]
    assert example.classes[19, 29] == 0
    assert "crowds" in caplog.text
    with pytest.raises(SpecError, match="cat"):
        list_data(folder, recipe(layout="coco"), ("background", "dog"))
    write_image(folder, "a", np.zeros((21, 30), np.uint8), np.zeros((21, 30), np.uint8))
    with pytest.raises(SpecError, match="21, 30"):
        read_example(one)


def field(labels: np.ndarray, pixels: np.ndarray | None = None) -> Field:
    drawn = (labels > 0).astype(np.uint8)[..., None] if pixels is None else pixels
    from segpipe.records import DecodedImage, Header

    header = Header(*labels.shape, drawn.shape[2], str(drawn.dtype), "png", "test")
    classes = (np.arange(int(labels.max()) + 1) > 0).astype(np.int64)
    image = DecodedImage(drawn, header, "")
    return make_field(Example("a", "", image, labels.astype(np.int32), classes), AS_IT_IS, True)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from([40, 96, 160]),
    st.sampled_from([GEOMETRY_ONLY, GEOMETRY_ONLY.model_copy(update={"diameter": (6, 40)})]),
)
def test_the_truth_moves_with_the_image(
    image_seed: int, crop_seed: int, side: int, rules: AugmentRecipe
) -> None:
    _, labels = disc_image(image_seed, side)
    crop = Augmentation(rules, 64, AS_IT_IS)(field(labels), np.random.default_rng(crop_seed))
    assert crop.planes.shape == (3, 64, 64)
    assert crop.planes.dtype == torch.float32
    assert crop.distance is not None
    # Resampling is smooth for the image and nearest for the labels: only borders may differ.
    inside = crop.labels > 0
    border = (crop.planes[0] > 0.05) & (crop.planes[0] < 0.95)
    assert not (((crop.planes[0] > 0.5) ^ inside) & ~border).any()
    assert ((crop.distance > 0.5) & ~inside).float().mean() < 0.01
    assert torch.equal(crop.class_ids[crop.labels] > 0, inside)


def test_mirrored_copies_are_objects_of_their_own() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[15:25, 15:25] = 1
    rules = GEOMETRY_ONLY.model_copy(update={"scale": (0.5, 0.5), "stretch": 1.0})
    crop = Augmentation(rules, 64, AS_IT_IS)(field(labels), np.random.default_rng(0))
    copies = torch.unique(crop.labels[crop.labels > 0])
    assert len(copies) > 4
    assert (crop.class_ids[copies] == 1).all()
    for copy in copies:
        ys, xs = torch.nonzero(crop.labels == copy, as_tuple=True)
        assert max(ys.max() - ys.min(), xs.max() - xs.min()) < 8


def test_objects_are_magnified_to_the_wanted_size() -> None:
    labels = np.zeros((200, 200), np.int32)
    labels[90:110, 90:110] = 1
    rules = unvaried(AugmentRecipe(diameter=(20, 80)))
    crop = Augmentation(rules, 96, AS_IT_IS, focus=1)(field(labels), np.random.default_rng(1))
    area = float((crop.labels > 0).sum())
    assert 2 * (area / np.pi) ** 0.5 == pytest.approx(40, rel=0.1)


def test_focus_finds_the_objects() -> None:
    labels = np.zeros((400, 400), np.int32)
    labels[300:305, 10:15] = 1
    rules = GEOMETRY_ONLY.model_copy(update={"scale": (1, 1), "stretch": 1.0})
    made = field(labels)

    def hits(focus: float) -> int:
        augmentation = Augmentation(rules, 64, AS_IT_IS, focus)
        rng = np.random.default_rng(0)
        return sum(bool(augmentation(made, rng).labels.any()) for _ in range(20))

    assert hits(1.0) == 20
    assert hits(0.0) < 10


def test_a_crop_depends_on_the_seed_alone() -> None:
    made = field(disc_image(1)[1], np.repeat(disc_image(1)[0][..., None], 3, axis=2))
    rules = AugmentRecipe(tint=0.5, grey=0.5, invert=0.5, elastic=0.5, blur_probability=1)
    augmentation = Augmentation(rules, 64, AS_IT_IS)
    state = torch.random.get_rng_state()
    one, same, other = (
        augmentation(made, np.random.default_rng(seed)).planes for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_empty_field_has_no_object() -> None:
    rules = AugmentRecipe(empty=1.0)
    crop = Augmentation(rules, 64, AS_IT_IS)(field(disc_image(0)[1]), np.random.default_rng(0))
    assert not crop.labels.any()
    assert crop.planes.std() > 0.05


def test_subgroups_get_their_share(folder: Path) -> None:
    rows = [(f"{i}", "train", "rare" if i == 0 else "common", "p") for i in range(4)]
    write_index(folder, rows, "patient")
    data = list_data(folder, recipe(), CLASSES)
    fields = FieldCache(data, AS_IT_IS, False, 10_000_000)
    assert chances(fields, recipe(weights={"rare": 0.5, "common": 0.5})) == pytest.approx(
        [0.5, *[0.5 / 3] * 3]
    )
    assert chances(fields, recipe()) == pytest.approx([0.25] * 4)
    with pytest.raises(SpecError, match="common"):
        chances(fields, recipe(weights={"rare": 1.0}))


def test_the_cache_keeps_to_its_size_and_answers_the_same(folder: Path) -> None:
    data = list_data(folder, DATA, CLASSES)
    small, large = (FieldCache(data, AS_IT_IS, True, size) for size in (1, 10**9))
    for index in (0, 1, 2, 0):
        assert np.array_equal(small[index].labels, large[index].labels)
    assert len(small._kept) == 1
    assert len(large._kept) == 3


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_distance_peaks_once_in_each_object(seed: int) -> None:
    _, labels = disc_image(seed, 50)
    distance = normalised_distance(labels)
    assert distance.dtype == np.float32
    assert np.all((distance > 0) == (labels > 0))
    for label in np.unique(labels[labels > 0]):
        assert distance[labels == label].max() == 1


def test_an_object_that_fills_the_image_has_no_border() -> None:
    assert np.all(normalised_distance(np.full((5, 7), 2, np.uint16)) == 1)


def test_the_borders_of_the_image_are_not_borders_of_objects() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[:10] = 1
    assert np.allclose(normalised_distance(labels)[:10, 3], np.linspace(1, 0.1, 10))


def test_edges_are_where_two_objects_are_near() -> None:
    labels = np.zeros((9, 20), np.uint16)
    labels[:, :6] = 1
    labels[:, 6:12] = 2  # touches 1
    labels[:, 17:] = 3  # is five pixels away from 2
    columns = np.flatnonzero(touching_edges(labels).all(0))
    assert columns.tolist() == [4, 5, 6, 7]
    assert not touching_edges(labels)[:, 8:].any()
