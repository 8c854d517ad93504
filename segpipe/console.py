"""What a terminal shows of a run: progress with rate and time left, and the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from segpipe.execution import Progress
    from segpipe.records import RunSummary

Observer = Callable[["Progress"], None]


@contextmanager
def progress_display(console: Console) -> Iterator[Observer]:
    """A bar on a terminal; elsewhere, as in a nightly log, a line for every tenth of the work."""
    if not console.is_terminal:
        yield _lines(console)
        return
    with Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
        console=console,
        transient=True,
    ) as bars:
        bar = bars.add_task("starting workers", total=None, rest="")

        def show(progress: Progress) -> None:
            bars.update(
                bar,
                description="segmenting",
                completed=progress.done,
                total=progress.total,
                rest=_rest(progress),
            )

        yield show


def summary_text(summary: RunSummary) -> str:
    """What a run did, in a few lines; markup-free."""
    lines = [
        f"run {summary.run_id}",
        f"  {_count(summary.ok, 'image')} segmented, {_count(summary.objects, 'object')}",
    ]
    if summary.failed:
        lines.append(f"  {_count(summary.failed, 'image')} failed: segpipe show {summary.store}")
    if summary.skipped:
        lines.append(f"  {_count(summary.skipped, 'image')} done before and left alone")
    lines.append(f"  {summary.seconds:.1f} s, {summary.images_per_second:.2f} images/s")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _lines(console: Console) -> Observer:
    shown = -1

    def show(progress: Progress) -> None:
        nonlocal shown
        tenth = 10 * progress.done // max(1, progress.total)
        if tenth > shown:
            shown = tenth
            count = f"{progress.done:,} of {progress.total:,} images"
            line = f"{count}  {_rest(progress)}".rstrip()
            console.print(line, markup=False, highlight=False)

    return show


def _rest(progress: Progress) -> str:
    if progress.seconds_left is None:
        return ""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}"
    failed = f"  {progress.failed:,} failed" if progress.failed else ""
    return f"{progress.rate:.2f} images/s  {left} left{failed}"
