"""What an evaluation found, as records and as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from segpipe.measure.evaluation import Agreement, Evaluation
from segpipe.measure.scores import Estimate, Key
from segpipe.measure.semantic import SemanticAgreement


@dataclass(frozen=True, slots=True)
class Group:
    """The numbers of a set of images.

    Attributes:
        name: `all`, or the value of the column; None for images that the index does not list.
        images: how many.
        units: resampled for the intervals; as many as images, or fewer clusters.
        scores: by name, and class index or None for all classes.
    """

    name: str | None
    images: int
    units: int
    scores: Mapping[Key, Estimate]

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        return {
            "name": self.name,
            "images": self.images,
            "units": self.units,
            "scores": self._of_class(None),
            "classes": [
                {"class_name": name, "scores": self._of_class(c)} for c, name in enumerate(classes)
            ],
        }

    def _of_class(self, class_index: int | None) -> dict[str, dict[str, float | None]]:
        return {
            name: estimate.to_dict()
            for (name, c), estimate in self.scores.items()
            if c == class_index
        }


@dataclass(frozen=True, slots=True)
class NotCompared:
    """What was left out of the compared images, and why.

    Attributes:
        truth_of_other_classes, predicted_of_other_classes: class name -> objects of
            classes that the other side does not have.
        hidden_truth: true objects that smaller ones cover whole: only COCO's numbers know them.
        crowds: true regions of objects that are not told apart.
        excused: predicted objects in such regions, or where the truth says nothing.
    """

    truth_of_other_classes: Mapping[str, int] = field(default_factory=dict)
    predicted_of_other_classes: Mapping[str, int] = field(default_factory=dict)
    hidden_truth: int = 0
    crowds: int = 0
    excused: int = 0


@dataclass(frozen=True, slots=True)
class Intervals:
    """How intervals are made; without resamples there are none.

    Attributes:
        by: column of the index whose values are the subgroups.
        cluster: column whose values are the units that are resampled; None for images.
    """

    by: str | None = None
    cluster: str | None = None
    seed: int = 0
    resamples: int = 1000
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class StoreEvaluation:
    """How well the results of a store agree with a truth, over at least one image.

    Attributes:
        models: names of what made the results.
        task: `instances`, `semantic` or `boxes`.
        classes: compared, by class index.
        images: agreement of each image; of instances, counts added over classes.
        by_class: of instances, class index -> counts added over images.
        whole: numbers of all images.
        groups: of subgroups.
        images_without_truth, truth_without_image: as in `Comparison`.
    """

    models: tuple[str, ...]
    task: str
    classes: tuple[str, ...]
    images: tuple[Agreement, ...] | tuple[SemanticAgreement, ...]
    by_class: Mapping[int, Agreement]
    whole: Group
    groups: tuple[Group, ...]
    images_without_truth: int
    truth_without_image: int
    not_compared: NotCompared
    intervals: Intervals

    @property
    def names(self) -> tuple[str, ...]:
        """Of the images."""
        return tuple(image.name for image in self.images)

    @property
    def pooled(self) -> Agreement | SemanticAgreement:
        """All images taken as one."""
        if self.task == "semantic":
            return SemanticAgreement.pool("pooled", self._of_classes())
        return self.instances.pooled

    @property
    def instances(self) -> Evaluation:
        """The agreement of instances; a semantic model has none."""
        images = tuple(image for image in self.images if isinstance(image, Agreement))
        return Evaluation(images, self.images_without_truth, self.truth_without_image)

    def _of_classes(self) -> list[SemanticAgreement]:
        return [image for image in self.images if isinstance(image, SemanticAgreement)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON; a number that is undefined, or an end that is unknown, is null."""
        return {
            "models": list(self.models),
            "task": self.task,
            "class_names": list(self.classes),
            **self._agreement(),
            "not_compared": asdict(self.not_compared),
            "intervals": asdict(self.intervals),
            "all": self.whole.to_dict(self.classes),
            "groups": [group.to_dict(self.classes) for group in self.groups],
        }

    def _agreement(self) -> dict[str, Any]:
        if self.task != "semantic":
            counts = [
                {"class_name": self.classes[c], **one.to_dict()}
                for c, one in sorted(self.by_class.items())
            ]
            return {**self.instances.to_dict(), "by_class": counts}
        return {
            "n_images": len(self.images),
            "images_without_truth": self.images_without_truth,
            "truth_without_image": self.truth_without_image,
            "pooled": SemanticAgreement.pool("pooled", self._of_classes()).to_dict(self.classes),
            "images": [image.to_dict(self.classes) for image in self._of_classes()],
        }
