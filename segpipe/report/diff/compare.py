"""Two runs compared: one walk over their images, which counts, writes and remembers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from segpipe.errors import InputError
from segpipe.export.files import write_below
from segpipe.progress import Observer
from segpipe.report.diff.picture import draw_diff
from segpipe.report.diff.runs import Results, image_pairs
from segpipe.report.diff.tables import SCHEMAS, diff_tables
from segpipe.report.diff.totals import MOST, Totals
from segpipe.store.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class DiffOutcome:
    """What was found, and what was written.

    Attributes:
        written: files.
        not_drawn: path of an image -> why there is no picture of it.
    """

    totals: Totals
    written: tuple[Path, ...]
    not_drawn: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        written = [str(path) for path in self.written]
        return {**self.totals.to_dict(), "written": written, "not_drawn": self.not_drawn}

    def to_text(self) -> str:
        """For a terminal, free of markup."""
        lines = [self.totals.to_text(), *(f"  {path}" for path in self.written)]
        lines += [f"  no picture of {path}: {why}" for path, why in self.not_drawn.items()]
        return "\n".join(lines)


def compare_runs(
    snapshot: Snapshot,
    before: Results,
    after: Results,
    iou: float,
    changed_iou: float,
    out: Path | None,
    pictures: int,
    observe: Observer | None = None,
) -> DiffOutcome:
    """Compare all images of two results; see `diff_image` for the thresholds.

    Args:
        out: folder for tables and pictures; None for none.
        pictures: how many images are drawn, those with the most differences.
        observe: hears after each image where the comparison stands.

    Raises:
        SpecError: something cannot be written.
    """
    totals = Totals(before.name, after.name, kept=max(MOST, pictures))
    with ExitStack() as stack:
        tables = stack.enter_context(diff_tables(out, snapshot)) if out else None
        for pair in image_pairs(snapshot, before, after, iou, changed_iou, observe):
            totals.add(pair)
            if tables is not None:
                tables.add(pair)
    if out is None:
        return DiffOutcome(totals, (), {})
    written = [out / f"{name}.parquet" for name in SCHEMAS]
    not_drawn: dict[str, str] = {}
    for pair in totals.most[:pictures]:
        if not pair.differences:  # classes of pixels differ, which no picture shows
            break
        try:
            picture = draw_diff(snapshot, pair, (before.name, after.name))
        except InputError as error:
            not_drawn[pair.about["path"]] = error.detail
            continue
        name = PurePosixPath("pictures", f"{pair.about['image_id']}.png")
        write_below(out, name, partial(picture.save, format="PNG"))
        written.append(out / name)
    return DiffOutcome(totals, tuple(written), not_drawn)
