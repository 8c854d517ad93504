"""The results of a store beside their truth, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from segpipe.errors import SpecError
from segpipe.machine import memory_limit
from segpipe.measure.semantic import SemanticAgreement
from segpipe.report.drawn_objects import DrawnObjects
from segpipe.report.objects import PredictedObjects, TrueObjects, predicted_objects
from segpipe.report.truth import read_truth
from segpipe.report.truth_files import TruthFiles
from segpipe.store.pyramids import blocks
from segpipe.store.snapshot import Row, Snapshot

ClassImage = npt.NDArray[np.integer[Any]]

_OBJECT_BYTES, _CLASS_BYTES = 32, 6
"""Per pixel of an image, of comparing objects and classes: measured 29, and 2 to 4."""

_CHOOSE = "choose one model (--model)"


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """What made the results.

    Attributes:
        names: of the models, sorted.
        task: `instances`, `semantic` or `boxes`.
        classes: names by class id; entry 0 is the background. Of several models of instances,
            all their classes; then the position means nothing.
    """

    names: tuple[str, ...]
    task: str
    classes: tuple[str, ...]


class Comparison:
    """The newest result of every `ok` image that has a truth, and that truth.

    Attributes:
        pairs: image row and what says where its truth is.
        model: what made the results.
        classes: that are compared, by class index from 0. Of a semantic model that is the class
            id, and 0 the background; of instances there is only "object" where the truth, a
            label image, tells no classes.
        images_without_truth: results that had no truth to compare with.
        truth_without_image: truths without a result: the image failed or is not in the store.
    """

    def __init__(
        self, snapshot: Snapshot, truth: Sequence[Path], binary_truth: bool = False
    ) -> None:
        """Find what belongs together; masks are read later.

        Args:
            truth: one folder, or COCO annotation files.
            binary_truth: each value above 0 of a true class image is the model's one class.

        Raises:
            SpecError: nothing fits, or it is not clear what belongs to what.
        """
        self.snapshot = snapshot
        self._binary_truth = binary_truth
        self._truth = TruthFiles(truth)
        self._coco = self._truth.coco
        self.pairs, self.images_without_truth = self._truth.pairs(snapshot)
        self.truth_without_image = len(self._truth.entries) - len(self.pairs)
        self.model = model_in_use(snapshot, [row for row, _ in self.pairs])
        self.classes = self._compared_classes()

    @property
    def names(self) -> list[str]:
        """Path of each image in its collection."""
        return [row["path"] for row, _ in self.pairs]

    @property
    def has_crowds(self) -> bool:
        """Whether the truth can leave regions open, as COCO's files do."""
        return self._coco is not None

    def objects(self, index: int) -> tuple[TrueObjects, PredictedObjects]:
        """True and predicted objects of a pair.

        Raises:
            SpecError: the truth cannot be read, does not fit its image, or takes more memory than
                there is.
        """
        row, entry = self.pairs[index]
        shape = row["height"], row["width"]
        _check_memory(row, _OBJECT_BYTES)
        positions = {name: i for i, name in enumerate(self.classes)}
        truth = self._truth.objects(entry, shape, positions)
        told = None if self._coco is None else positions
        return truth, predicted_objects(self.snapshot, row, told)

    def class_images(self, index: int) -> tuple[ClassImage, ClassImage]:
        """True and predicted class per pixel (H, W) of a pair of a semantic model.

        Raises:
            SpecError: the truth cannot be read, does not fit its image or the classes, or takes
                more memory than there is.
        """
        predicted = self.snapshot.semantic(self.pairs[index][0])
        assert predicted is not None
        return self._true_classes(index), predicted

    def class_agreement(self, index: int) -> SemanticAgreement:
        """How far the two agree; raises as `class_images`."""
        row, _ = self.pairs[index]
        truth = self._true_classes(index)
        parts = []
        for block in blocks((row["height"], row["width"])):
            predicted = self.snapshot.semantic(row, block)
            assert predicted is not None
            part = truth[block.slices], predicted, len(self.classes)
            parts.append(SemanticAgreement.of(row["path"], *part))
        return SemanticAgreement.pool(row["path"], parts)

    def _true_classes(self, index: int) -> ClassImage:
        row, entry = self.pairs[index]
        _check_memory(row, _CLASS_BYTES)
        path = Path(str(entry))
        truth = read_truth(path, (row["height"], row["width"]))
        if self._binary_truth:
            truth = (truth > 0).astype(np.uint8)
        highest = len(self.classes) - 1
        if truth.max(initial=0) > highest:
            advice = "; where its values are regions of that one class, say --binary-truth"
            raise SpecError(
                f"{path}: holds class {truth.max()}; model {self.model.names[0]!r} has classes "
                f"0 to {highest}{advice * (highest == 1)}"
            )
        return truth

    def _compared_classes(self) -> tuple[str, ...]:
        model = self.model
        if self._binary_truth and (model.task != "semantic" or len(model.classes) != 2):
            raise SpecError("--binary-truth is for semantic models of one class")
        if model.task == "semantic":
            if self._coco is not None:
                raise SpecError(
                    "a semantic model is compared with a folder of class images, not with objects"
                )
            return model.classes
        if self._coco is None:
            return ("object",)
        both = tuple(name for name in model.classes[1:] if name in self._coco.class_names)
        if not both:
            raise SpecError(
                "no class of the model has the name of one in the truth: "
                f"{_some(model.classes[1:])}; {_some(self._coco.class_names)}"
            )
        return both


def _check_memory(row: Row, pixel_bytes: int) -> None:
    """
    Raises:
        SpecError: the truth of an image, which is read whole, and its comparison take too much.
    """
    needed, limit = row["height"] * row["width"] * pixel_bytes, memory_limit()
    if needed > limit:
        raise SpecError(
            f"{row['path']}: an image of {row['height']:,} x {row['width']:,} pixels is compared "
            f"with its truth in one piece, which takes about {needed / 1e9:.1f} GB; this process "
            f"may use {limit / 1e9:.1f} GB. Leave its truth out, or compare on a larger machine"
        )


def model_in_use(snapshot: Snapshot, rows: Sequence[Row]) -> ModelInUse:
    """The models of some image rows, as the records of their runs describe them.

    Where a store has no such record, the objects tell the classes.

    Raises:
        SpecError: semantic and instance results, or semantic ones of different classes.
    """
    recorded = {record["spec_id"]: record["segment_spec"]["model"] for record in snapshot.records()}
    tasks, classes = set(), []
    for row in {row["spec_id"]: row for row in rows}.values():
        model = recorded.get(row["spec_id"])
        guess = "semantic" if row["semantic_array"] else "instances"
        tasks.add(model["task"] if model else guess)
        classes.append(tuple(model["classes"]) if model else _classes_of_objects(snapshot, rows))
    names = tuple(sorted({row["model"] for row in rows}))
    if len(tasks) > 1:
        raise SpecError(f"results of models {_some(names)}, of different kinds; {_CHOOSE}")
    (task,) = tasks
    if task == "semantic" and len(set(classes)) > 1:
        raise SpecError(f"results of models {_some(names)}, of different classes; {_CHOOSE}")
    merged = tuple(dict.fromkeys(name for own in classes for name in own[1:]))
    return ModelInUse(names, task, classes[0] if task == "semantic" else ("background", *merged))


def _classes_of_objects(snapshot: Snapshot, rows: Sequence[Row]) -> tuple[str, ...]:
    found: dict[int, str] = {}
    for row in rows:
        found |= DrawnObjects.of(snapshot.object_table(row)).class_names()
    last = max(found, default=0)
    return ("background", *(found.get(i, f"class {i}") for i in range(1, last + 1)))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
