"""A truth as people have it, label images in a folder or COCO files, and the images it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segpipe.errors import SpecError
from segpipe.report.coco_truth import CocoEntry, CocoTruth
from segpipe.report.objects import TrueObjects, unclassed
from segpipe.report.truth import find_truth, pair, read_truth
from segpipe.store.snapshot import Row, Snapshot

Entry = CocoEntry | Path
"""Where the truth of one image is."""


class TruthFiles:
    """
    Attributes:
        coco: None where the truth is a folder of label images.
        entries: by what they are called, see `find_truth` and `CocoTruth`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """
        Args:
            paths: one folder, or COCO annotation files.

        Raises:
            SpecError: it is neither.
        """
        self._first = paths[0]
        self.coco = CocoTruth(paths) if paths[0].suffix.lower() == ".json" else None
        if self.coco is None and len(paths) > 1:
            raise SpecError(f"{paths[1]}: a truth is one folder, or one or more COCO JSON files")
        self.entries: Mapping[str, Entry]
        self.entries = find_truth(paths[0]) if self.coco is None else self.coco.entries

    def pairs(self, snapshot: Snapshot) -> tuple[list[tuple[Row, Entry]], int]:
        """The newest result of each `ok` image that has a truth, with it; and how many have none.

        Raises:
            SpecError: nothing fits, or it is not clear what belongs to what.
        """
        rows = [row for row in snapshot.image_rows() if row["status"] == "ok"]
        found = pair(rows, self.entries)
        if not found:
            kind = "label images" if self.coco is None else "annotated images"
            raise SpecError(
                f"none of the {len(self.entries)} {kind} in {self._first} has the name of one of "
                f"the {len(rows)} segmented images"
            )
        return found, len(rows) - len(found)

    def objects(
        self, entry: Entry, shape: tuple[int, int], classes: Mapping[str, int]
    ) -> TrueObjects:
        """The truth of one image; that of a label image has one class, of index 0.

        Args:
            shape: (H, W) of the image.
            classes: index of each class that counts.

        Raises:
            SpecError: it cannot be read, or does not fit its image.
        """
        if self.coco is None or not isinstance(entry, CocoEntry):
            return unclassed(read_truth(Path(str(entry)), shape))
        return self.coco.objects(entry, shape, classes)
