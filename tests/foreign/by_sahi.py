"""SAHI's `get_sliced_prediction`."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tests.foreign.jobs import Job, Way, as_instances, overlapping
from tests.foreign.slice_model import SliceModel, colour, slice_model


def way(kind: str, metric: str, by_itself: bool = False) -> Way:
    """With one of its postprocessings; see `slice_model` for `by_itself`."""
    options = {"postprocess_type": kind, "postprocess_match_metric": metric}
    return Way(partial(_ready, by_itself=by_itself, options=options), _objects, overlapping)


def _ready(job: Job, by_itself: bool, options: dict[str, Any]) -> Any:
    from sahi.predict import get_sliced_prediction

    return partial(
        get_sliced_prediction,
        colour(job),
        _as_detection_model(slice_model(job, by_itself)),
        slice_height=job.side,
        slice_width=job.side,
        overlap_height_ratio=job.overlap / job.side,
        overlap_width_ratio=job.overlap / job.side,
        perform_standard_pred=False,  # which looks at the whole image at once
        verbose=0,
        **options,
    )


def _as_detection_model(model: SliceModel) -> Any:
    from sahi.models.base import DetectionModel
    from sahi.prediction import ObjectPrediction
    from sahi.utils.cv import get_coco_segmentation_from_bool_mask

    class Sliced(DetectionModel):
        """A class within a function, since SAHI is not there where this module is imported."""

        def set_model(self, model: SliceModel, **_: object) -> None:
            self.model = model

        def perform_inference(self, image: np.ndarray) -> None:
            self._original_predictions = self.model(image)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: Any = None, full_shape_list: Any = None
        ) -> None:
            masks, scores = self._original_predictions
            outlines = map(get_coco_segmentation_from_bool_mask, masks)
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        segmentation=outline,
                        category_id=0,
                        category_name="nucleus",
                        score=float(score),
                        shift_amount=shift_amount_list[0],
                        full_shape=full_shape_list[0],
                    )
                    for outline, score in zip(outlines, scores, strict=True)
                    if outline  # SAHI takes no object that is too thin for a polygon
                ]
            ]

    return Sliced(model=model, device="cpu")


def _objects(found: Any) -> Any:
    objects = found.object_prediction_list
    return as_instances(
        (one.mask.bool_mask for one in objects), (one.score.value for one in objects)
    )
