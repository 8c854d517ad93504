"""The pages that compare two runs: a list of images that differ, and one image side by side."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse, Response

from segpipe.errors import SegpipeError
from segpipe.report.diff import CHANGED_IOU, SAME_IOU, diff_image
from segpipe.report.diff.runs import ImagePair, Results, find_results, image_pairs
from segpipe.report.diff.totals import Totals
from segpipe.store import Snapshot
from segpipe.viewer.pages import page
from segpipe.viewer.viewer import Viewer

SHOWN = 300
"""Images in the list, those with the most differences."""

_KEPT = 4

Name = Annotated[str, Query(min_length=1, max_length=200)]


def routes(viewer: Viewer) -> APIRouter:
    """`/compare`, `/compare/{image_id}`."""
    router = APIRouter()
    comparisons = _Comparisons(viewer)
    viewer.at_the_end(comparisons.stop)

    @router.get("/compare")
    def show() -> Response:
        return page("Compare runs - segpipe", "compare.html", "compare.js", viewer.name, "/compare")

    @router.get("/compare/{image_id}")
    def show_image(image_id: str) -> Response:
        del image_id
        body, script = "compare-image.html", "compare-image.js"
        return page("Compare an image - segpipe", body, script, viewer.name)

    @router.get("/api/runs")
    def runs() -> Response:
        records = viewer.snapshot().records()
        listed = [
            {
                "run_id": one["run_id"],
                "model": one.get("segment_spec", {}).get("model", {}).get("name"),
                "status": one["status"],
                "images": (one.get("summary") or {}).get("ok"),
            }
            for one in records
            if one["status"] != "forgotten"
        ]
        return JSONResponse(listed)

    @router.get("/api/compare")
    def compare(a: Name, b: Name) -> Response:
        return JSONResponse(comparisons.get(a, b).to_dict())

    @router.get("/api/compare/{image_id}")
    def compare_image(image_id: str, a: Name, b: Name) -> Response:
        snapshot = viewer.snapshot()
        chosen = _both(snapshot, a, b)
        before, after = (viewer.find(image_id, one.run_ids) for one in chosen)
        known = chosen[0].classes & chosen[1].classes
        diff = diff_image(snapshot, snapshot, before, after, SAME_IOU, CHANGED_IOU, known)
        return JSONResponse(
            {
                "runs": [before["run_id"], after["run_id"]],
                "lost": diff.lost,
                "gained": diff.gained,
                "changed": [p for p in diff.pairs if p[1] in set(diff.changed)],
                "same": [p for p in diff.pairs if p[1] not in set(diff.changed)],
            }
        )

    return router


def _both(snapshot: Snapshot, a: str, b: str) -> tuple[Results, Results]:
    records = snapshot.records()
    return find_results(snapshot, a, records), find_results(snapshot, b, records)


class _Comparison:
    """Two runs, compared in a thread of its own; what is known so far can be asked for."""

    def __init__(self, viewer: Viewer, before: str, after: str) -> None:
        snapshot = viewer.snapshot()
        self._chosen = _both(snapshot, before, after)
        self._snapshot = snapshot
        self._totals = Totals(self._chosen[0].name, self._chosen[1].name, kept=SHOWN)
        self._lock = threading.Lock()
        self._ended = False
        self._problem = ""
        self.stopping = threading.Event()
        threading.Thread(target=self._work, name="segpipe-compare", daemon=True).start()

    def to_dict(self) -> dict[str, Any]:
        with self._lock:
            return {**self._totals.to_dict(), "ended": self._ended, "problem": self._problem}

    def _work(self) -> None:
        try:
            for pair in image_pairs(self._snapshot, *self._chosen, SAME_IOU, CHANGED_IOU):
                if self.stopping.is_set():
                    return
                self._add(pair)
        except (SegpipeError, OSError) as error:
            self._problem = str(error)
        self._ended = True

    def _add(self, pair: ImagePair) -> None:
        with self._lock:
            self._totals.add(pair)


class _Comparisons:
    """The last few, each as long as the store does not change."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, _Comparison] = OrderedDict()

    def get(self, before: str, after: str) -> _Comparison:
        key = before, after, id(self._viewer.snapshot())
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _Comparison(self._viewer, before, after)
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                _, old = self._kept.popitem(last=False)
                old.stopping.set()
            return self._kept[key]

    def stop(self) -> None:
        with self._lock:
            for one in self._kept.values():
                one.stopping.set()
