"""Exports and the evaluation of a store: what other programs read out of them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from pycocotools.coco import COCO

from segpipe.errors import InputError, Reason, SpecError
from segpipe.export.coco import export_coco
from segpipe.export.labels import export_labels
from segpipe.measure.properties import measure_objects
from segpipe.readers.files import file_ref
from segpipe.records import Chunk, CroppedMask, DecodedImage, Header, ImageRef, Segmentation
from segpipe.report.evaluate import evaluate_store, format_evaluation
from segpipe.rows import ChunkTables
from segpipe.spec import ClassicalOptions, ModelSpec, SegmentSpec
from segpipe.store.commits import Attempt
from segpipe.store.opening import create_store, open_store
from segpipe.store.snapshot import Snapshot

Labels = npt.NDArray[np.uint32]


def make_store(
    folder: Path,
    images: Mapping[str, Segmentation | None],
    classes: tuple[str, ...] = ("background", "cell"),
    root: str = "data",
    pixels: Path | None = None,
) -> Snapshot:
    """A real store with these results; None is a failed image.

    Args:
        pixels: folder where the images, which are black, are really written.
    """
    semantic = any(found is not None and found.semantic is not None for found in images.values())
    model = ModelSpec(
        name="m", kind="classical", classes=classes, task="semantic" if semantic else "instances"
    )
    spec = SegmentSpec(model=model, options=ClassicalOptions())
    if pixels is None:
        refs = tuple(ImageRef(f"file:///{root}/{path}", path, 10, 20) for path in images)
    else:
        refs = write_black(pixels, images)
    chunk = Chunk(spec.spec_id, refs)
    attempt = Attempt(create_store(folder), chunk, "run")
    tables = ChunkTables(chunk, spec, "run", attempt, np.uint32)
    tables.plan_masks([s.label_image.shape for s in images.values() if s])
    for ref, found in zip(refs, images.values(), strict=True):
        if found is None:
            tables.add_failure(ref, InputError(Reason.CORRUPT, "broken"))
            continue
        height, width = found.label_image.shape
        header = Header(height, width, 1, "uint8", "png", "test")
        image = DecodedImage(np.zeros((height, width, 1), np.uint8), header, sha256_of(ref))
        measures = measure_objects(found, image.pixels)
        tables.add(ref, image, found, measures, (0.0, 0.0, 0.0))
    tables.commit(set(), {}, {})
    return open_store(folder)


def write_black(folder: Path, images: Mapping[str, Segmentation | None]) -> tuple[ImageRef, ...]:
    for path, result in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if result is None:
            (folder / path).write_bytes(b"broken")
        else:
            Image.fromarray(np.zeros(result.label_image.shape, np.uint8)).save(folder / path)
    return tuple(file_ref(str(folder / path), path) for path in images)


def sha256_of(ref: ImageRef) -> str:
    path = Path(unquote(ref.uri.removeprefix("file://")))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "0" * 64


def found(labels: npt.ArrayLike, **fields: Any) -> Segmentation:
    image = np.array(labels, np.uint32)
    n = max(int(image.max()), *fields.get("own_masks", {0: None}))
    arrays = {"scores": np.full(n, 0.5, np.float32), "class_ids": np.ones(n, np.int32)}
    return Segmentation(image, **(arrays | fields))


def squares(*corners: tuple[int, int]) -> Labels:
    labels = np.zeros((20, 30), np.uint32)
    for label, (y, x) in enumerate(corners, 1):
        labels[y : y + 5, x : x + 6] = label
    return labels


def files_below(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "out"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


class TestLabels:
    def test_paths_and_pixels(self, store: Path, out: Path) -> None:
        one, two = squares((1, 1), (10, 20)), squares()
        snapshot = make_store(
            store, {"a/b/c.tif": found(one), "d.ome.tif": found(two), "bad.png": None}
        )
        summary = export_labels(snapshot, out)
        assert files_below(out) == ["a/b/c.png", "d.ome.png"]
        with Image.open(out / "a/b/c.png") as image:
            assert image.mode == "I;16"
            np.testing.assert_array_equal(np.array(image), one)
        assert summary.to_dict() == {
            "out": str(out), "images": 2, "objects": 2, "failed": 1, "renamed": 0, "wide": 0,
            "large": 0, "unlisted": {}, "absent": {},
        }  # fmt: skip

    def test_twice_gives_the_same(self, store: Path, out: Path) -> None:
        snapshot = make_store(store, {"c.png": found(squares((1, 1)))})
        first = export_labels(snapshot, out), (out / "c.png").read_bytes()
        assert (export_labels(snapshot, out), (out / "c.png").read_bytes()) == first
        assert files_below(out) == ["c.png"]

    def test_more_labels_than_16_bits_become_a_wide_tiff(self, store: Path, out: Path) -> None:
        labels = np.arange(1, 70_001, dtype=np.uint32).reshape(200, 350)
        summary = export_labels(make_store(store, {"a/c.png": found(labels)}), out)
        assert files_below(out) == ["a/c.tif"]
        stored = tifffile.imread(out / "a/c.tif")
        assert stored.dtype == np.uint32
        np.testing.assert_array_equal(stored, labels)
        assert summary.wide == 1

    @pytest.mark.parametrize(
        "paths",
        [
            {"c.tif": "c.tif.png", "c.png": "c.png.png", "a/c.tif": "a/c.png"},
            {"C.tif": "C.tif.png", "c.tif": "c.tif.png"},
            {
                "\N{LATIN SMALL LETTER E WITH ACUTE}.tif": None,
                "e\N{COMBINING ACUTE ACCENT}.tif": None,
            },
            {"c.tif": None, "c.png": None, "c.tif.gif": None},
            {"x.tif": "x.tif.png", "x.png/y.tif": "x.png/y.png"},
            {"x" * 251 + ".tif": None, "x" * 251 + ".png": None},
            {"x.tif": "x.tif.png", "x.classes.tif": "x.classes.tif.png"},
        ],
    )
    def test_no_two_images_share_a_file(
        self, store: Path, out: Path, paths: dict[str, str | None]
    ) -> None:
        one_each = {path: found(squares(*[(0, 0)] * (k > 0))) for k, path in enumerate(paths)}
        summary = export_labels(make_store(store, one_each), out)
        written = files_below(out)
        assert len({name.casefold() for name in written}) == len(paths) == summary.images
        case_twins = {path.casefold() for path in paths}
        if len(case_twins) == len(paths):
            assert {name for name in paths.values() if name} <= set(written)

    def test_class_images_lie_beside_label_images(self, store: Path, out: Path) -> None:
        labels = squares((1, 1), (10, 20))
        classes = (3 * (labels > 0)).astype(np.uint8)
        names = ("background", "a", "b", "c")
        paths = ("a/c.tif", "a/c.classes.tif", "plain.png")
        snapshot = make_store(
            store,
            {
                path: found(labels, semantic=classes * (path == paths[0]), class_ids=[3, 3])
                for path in paths
            },
            classes=names,
        )
        export_labels(snapshot, out)
        assert files_below(out) == [
            "a/c.classes.tif.classes.png", "a/c.classes.tif.png",
            "a/c.tif.classes.png", "a/c.tif.png", "plain.classes.png", "plain.png",
        ]  # fmt: skip
        with Image.open(out / "a/c.tif.classes.png") as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.array(image), classes)
        with Image.open(out / "a/c.tif.png") as image:
            np.testing.assert_array_equal(np.array(image), labels)
        with Image.open(out / "a/c.classes.tif.classes.png") as image:
            assert not np.array(image).any()

    @pytest.mark.parametrize(
        "path",
        [
            "../../evil.png",
            "/evil.png",
            "a/../../../evil.png",
            "..",
            "a\0b.png",
            "./.",
            "//x//y.png",
        ],
    )
    def test_hostile_paths_stay_below_out(
        self, tmp_path: Path, store: Path, out: Path, path: str
    ) -> None:
        snapshot = make_store(store, {path: found(squares((1, 1)))})
        before = set(files_below(tmp_path))
        export_labels(snapshot, out)
        assert len(files_below(out)) == 1
        new = set(files_below(tmp_path)) - before
        assert all(name.startswith("deep/out/") for name in new)

    def test_a_link_out_of_the_folder_is_refused(
        self, tmp_path: Path, store: Path, out: Path
    ) -> None:
        snapshot = make_store(store, {"a/c.png": found(squares((1, 1)))})
        out.mkdir(parents=True)
        (tmp_path / "elsewhere").mkdir()
        (out / "a").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(SpecError, match="leads out of"):
            export_labels(snapshot, out)
        assert files_below(tmp_path / "elsewhere") == []

    def test_a_link_in_place_of_a_file_is_replaced_not_followed(
        self, tmp_path: Path, store: Path, out: Path
    ) -> None:
        snapshot = make_store(store, {"c.png": found(squares((1, 1)))})
        out.mkdir(parents=True)
        precious = tmp_path / "precious.txt"
        precious.write_text("keep")
        (out / "c.png").symlink_to(precious)
        export_labels(snapshot, out)
        assert precious.read_text() == "keep"
        assert not (out / "c.png").is_symlink()

    def test_a_file_in_the_way_is_named(self, tmp_path: Path, store: Path) -> None:
        snapshot = make_store(store, {"c.png": found(squares((1, 1)))})
        (tmp_path / "file").touch()
        with pytest.raises(SpecError, match="file"):
            export_labels(snapshot, tmp_path / "file")


def load_coco(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


class TestCoco:
    def test_pycocotools_reads_the_same_masks(self, store: Path, out: Path) -> None:
        labels = squares((1, 1), (10, 20))
        hidden = CroppedMask(0, 0, np.ones((8, 9), bool))
        odd = 'a/=cmd "quoted" é.png'
        snapshot = make_store(
            store,
            {
                odd: found(
                    labels,
                    own_masks={2: hidden},
                    scores=np.array([0.75, np.nan], np.float32),
                    class_ids=np.array([2, 1], np.int32),
                ),
                "empty.png": found(squares()),
                "failed.png": None,
            },
            classes=("background", "cell", "debris"),
        )
        summary = export_coco(snapshot, out)
        assert (summary.images, summary.objects, summary.failed) == (2, 2, 1)
        assert files_below(out) == ["instances.json"]
        coco = load_coco(Path(summary.out))
        images = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
        assert set(images) == {odd, "empty.png"}
        assert (images[odd]["height"], images[odd]["width"]) == (20, 30)
        first, second = coco.loadAnns(coco.getAnnIds(imgIds=[images[odd]["id"]]))
        np.testing.assert_array_equal(coco.annToMask(first), labels == 1)
        assert first["bbox"] == [1, 1, 6, 5]
        assert first["area"] == 30
        assert first["score"] == 0.75
        assert coco.loadCats([first["category_id"]])[0] == {"id": 2, "name": "debris"}
        whole = np.zeros(labels.shape, bool)
        whole[:8, :9] = True
        np.testing.assert_array_equal(coco.annToMask(second), whole)
        assert second["area"] == 72
        assert "score" not in second
        assert coco.getAnnIds(imgIds=[images["empty.png"]["id"]]) == []

    def test_ids_count_from_one_over_all_images(self, store: Path, out: Path) -> None:
        images = {f"{k}.png": found(squares((1, 1), (10, 10))) for k in range(3)}
        export_coco(make_store(store, images), out)
        document = json.loads((out / "instances.json").read_text())
        assert [annotation["id"] for annotation in document["annotations"]] == [1, 2, 3, 4, 5, 6]
        assert [annotation["image_id"] for annotation in document["annotations"]] == [
            1, 1, 2, 2, 3, 3
        ]  # fmt: skip

    def test_one_class_id_with_two_names_becomes_two_categories(
        self, store: Path, out: Path
    ) -> None:
        make_store(store, {"a.png": found(squares((1, 1)))})
        snapshot = make_store(
            store, {"b.png": found(squares((1, 1)))}, classes=("background", "person")
        )
        export_coco(snapshot, out)
        coco = load_coco(out / "instances.json")
        names = [
            coco.loadCats([annotation["category_id"]])[0]["name"]
            for annotation in coco.loadAnns(coco.getAnnIds())
        ]
        assert names == ["cell", "person"]

    def test_nothing_to_export_is_a_valid_file(self, store: Path, out: Path) -> None:
        summary = export_coco(make_store(store, {"bad.png": None}), out)
        assert (summary.images, summary.objects, summary.failed) == (0, 0, 1)
        assert load_coco(out / "instances.json").getImgIds() == []


def write_truth(folder: Path, files: Mapping[str, npt.NDArray]) -> Path:
    for name, labels in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.fromarray(labels).save(path)
        else:
            tifffile.imwrite(path, labels)
    return folder


class TestEvaluate:
    def test_numbers_and_what_is_left_over(self, tmp_path: Path, store: Path) -> None:
        exact, half = squares((1, 1), (10, 20)), squares((1, 1))
        snapshot = make_store(
            store,
            {"a/c.tif": found(exact), "d.png": found(half), "e.png": found(half), "f.png": None},
        )
        truth = write_truth(
            tmp_path / "truth",
            {
                "a/c.png": exact.astype(np.uint16),
                "elsewhere/d.tif": exact.astype(np.uint32),
                "f.png": exact.astype(np.uint8),
            },
        )
        evaluation = evaluate_store(snapshot, truth)
        assert [image.name for image in evaluation.images] == ["a/c.tif", "d.png"]
        assert [image.ap for image in evaluation.images] == [1, 0.5]
        assert evaluation.pooled.ap == pytest.approx(3 / 4)
        assert evaluation.images_without_truth == 1
        assert evaluation.truth_without_image == 1
        table = format_evaluation(evaluation)
        assert "0.7500" in table
        assert all(len(line) < 80 for line in table.splitlines())

    def test_an_export_is_the_truth_of_its_own_store(
        self, tmp_path: Path, store: Path, out: Path
    ) -> None:
        labels = np.arange(1, 70_001, dtype=np.uint32).reshape(200, 350)
        snapshot = make_store(
            store,
            {
                "a/c.tif": found(squares((1, 1))),
                "a/c.png": found(squares()),
                "w.png": found(labels),
            },
        )
        export_labels(snapshot, out)
        evaluation = evaluate_store(snapshot, out)
        assert len(evaluation.images) == 3
        assert evaluation.pooled.ap == evaluation.pooled.dice == 1

    @pytest.mark.parametrize(
        ("images", "truth", "message"),
        [
            (["a/c.png", "b/c.png"], ["c.png"], "fits both .*a/c.png and .*b/c.png"),
            (["c.png"], ["x/c.png", "y/c.png"], "x/c.png and .*y/c.png both fit .*c.png"),
            (["c.png", "c.tif"], ["c.png"], None),
            (["c.jpg", "c.tif"], ["c.png"], "fits both"),
            (["c.png"], ["c.png", "c.tif"], "both the truth of 'c'"),
            (["c.png"], ["d.png"], "none of the 1 label images"),
            (["c.png"], [], "not a folder"),
        ],
    )
    def test_pairs_that_are_not_clear_are_refused_by_name(
        self, tmp_path: Path, store: Path, images: list[str], truth: list[str], message: str | None
    ) -> None:
        snapshot = make_store(store, {path: found(squares((1, 1))) for path in images})
        folder = write_truth(
            tmp_path / "truth", {name: squares((1, 1)).astype(np.uint16) for name in truth}
        )
        with pytest.raises(SpecError, match=message or "fits both"):
            evaluate_store(snapshot, folder)

    def test_mirrored_folders_are_never_ambiguous(self, tmp_path: Path, store: Path) -> None:
        one, two = squares((1, 1)), squares((5, 5), (12, 12))
        snapshot = make_store(store, {"a/c.png": found(one), "b/c.png": found(two)})
        truth = write_truth(
            tmp_path / "truth",
            {"a/c.png": one.astype(np.uint16), "b/c.tif": two.astype(np.uint16)},
        )
        assert evaluate_store(snapshot, truth).pooled.ap == 1

    def test_images_of_two_collections_with_one_path(self, tmp_path: Path, store: Path) -> None:
        make_store(store, {"c.png": found(squares((1, 1)))}, root="one")
        snapshot = make_store(store, {"c.png": found(squares((2, 2)))}, root="two")
        truth = write_truth(tmp_path / "truth", {"c.png": squares((1, 1)).astype(np.uint8)})
        with pytest.raises(SpecError, match=r"file:///(one|two)/c.png and file:///(one|two)/c.png"):
            evaluate_store(snapshot, truth)

    @pytest.mark.parametrize(
        ("name", "labels", "message"),
        [
            ("c.png", np.zeros((20, 31), np.uint8), "20 x 31 .* 20 x 30"),
            ("c.tif", np.zeros((21, 30), np.uint16), "21 x 30 .* 20 x 30"),
            ("c.png", np.zeros((20, 30, 3), np.uint8), "3 channels"),
            ("c.tif", np.zeros((20, 30), np.float32), "float32"),
            ("c.tif", np.full((20, 30), -1, np.int16), "-1"),
        ],
    )
    def test_what_is_no_truth_is_refused(
        self, tmp_path: Path, store: Path, name: str, labels: npt.NDArray, message: str
    ) -> None:
        snapshot = make_store(store, {"c.jpg": found(squares((1, 1)))})
        truth = write_truth(tmp_path / "truth", {name: labels})
        with pytest.raises(SpecError, match=message) as refusal:
            evaluate_store(snapshot, truth)
        assert name in str(refusal.value)

    @pytest.mark.parametrize("name", ["c.png", "c.tif"])
    def test_a_damaged_truth_is_named(self, tmp_path: Path, store: Path, name: str) -> None:
        snapshot = make_store(store, {"c.jpg": found(squares((1, 1)))})
        truth = write_truth(tmp_path / "truth", {name: squares((1, 1)).astype(np.uint16)})
        whole = (truth / name).read_bytes()
        for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
            (truth / name).write_bytes(damaged)
            with pytest.raises(SpecError, match=name):
                evaluate_store(snapshot, truth)

    def test_palette_and_one_bit_truth(self, tmp_path: Path, store: Path) -> None:
        labels = squares((1, 1))
        snapshot = make_store(store, {"p.png": found(labels), "b.png": found(labels)})
        truth = tmp_path / "truth"
        truth.mkdir()
        palette = Image.fromarray(labels.astype(np.uint8), mode="P")
        palette.putpalette([0, 0, 0, 200, 10, 10])
        palette.save(truth / "p.png")
        Image.fromarray(labels > 0).save(truth / "b.png")
        assert evaluate_store(snapshot, truth).pooled.ap == 1
