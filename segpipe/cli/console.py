"""What a terminal shows of a run: progress with rate and time left, and the summary."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from segpipe.progress import Progress
    from segpipe.records import RunSummary
    from segpipe.training import Trained, TrainingProgress

Observer = Callable[["Progress"], None]


@contextmanager
def progress_display(
    console: Console, first: str = "starting workers", doing: str = "segmenting"
) -> Iterator[Observer]:
    """A bar on a terminal; elsewhere, as in a nightly log, a line for every tenth of the work.

    Args:
        first: what is done until there is progress.
        doing: what is done with images from then on.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    with _bars(console) as bars:
        bar = bars.add_task(first, total=None, rest="")

        def show(progress: Progress) -> None:
            bars.update(
                bar,
                description=doing,
                completed=progress.done,
                total=progress.total,
                rest=_rest(progress),
            )

        yield show


@contextmanager
def training_display(console: Console) -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar on a terminal; elsewhere a line for every hundredth of the steps."""
    started = time.monotonic()
    if not console.is_terminal:
        yield _training_lines(console, started)
        return
    with _bars(console) as bars:
        bar = bars.add_task("training", total=None, rest="reading images")
        first: list[int] = []

        def show(progress: TrainingProgress) -> None:
            first[:] = first or [progress.step - 1]
            rest = _training_state(progress, first[0], started)
            bars.update(bar, completed=progress.step, total=progress.steps, rest=rest)

        yield show


def _bars(console: Console) -> Bars:
    """Description, bar, count, and what a task says in its field `rest`."""
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rest]}"),
        console=console,
        transient=True,
    )


def training_text(trained: Trained) -> str:
    """What a training run came to, in a few lines; markup-free."""
    lines = [f"{trained.out}  {trained.header.name}, {trained.seconds / 60:.1f} min"]
    record = trained.header.training
    for group, numbers in record.metrics.items() if record else ():
        values = "  ".join(f"{name} {value:g}" for name, value in numbers.items())
        lines.append(f"  {group:24} {values}")
    if trained.warning:
        lines.append(f"  {trained.warning}")
    lines += [f"  {picture}" for picture in trained.pictures]
    if trained.header.notice:
        lines.append(f"  {trained.header.notice}")
    return "\n".join(lines)


def _training_lines(console: Console, started: float) -> Callable[[TrainingProgress], None]:
    first: list[int] = []

    def show(progress: TrainingProgress) -> None:
        first[:] = first or [progress.step - 1]
        hundredth = max(1, progress.steps // 100)
        if progress.step % hundredth and progress.step != progress.steps:
            return
        state = _training_state(progress, first[0], started)
        line = f"step {progress.step:,} of {progress.steps:,}  {state}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    return show


def _training_state(progress: TrainingProgress, first_step: int, started: float) -> str:
    """Losses, the last measurement, speed and time left."""
    seconds = time.monotonic() - started
    rate = (progress.step - first_step) / seconds if seconds else 0.0
    left = (progress.steps - progress.step) / rate if rate else 0.0
    parts = [f"loss {sum(progress.losses.values()):.3f}"]
    if not math.isnan(progress.metric):
        parts.append(f"validation loss {progress.validation_loss:.3f}")
        parts.append(f"metric {progress.metric:.3f} (best {progress.best:.3f})")
    parts.append(f"{rate:.2f} steps/s, {_duration(left)} left")
    return "  ".join(parts)


def summary_text(summary: RunSummary, done: str = "segmented") -> str:
    """What a run did, in a few lines; markup-free. `done` is what it did with images."""
    lines = [
        f"run {summary.run_id}",
        f"  {_count(summary.ok, 'image')} {done}, {_count(summary.objects, 'object')}",
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
    shown = -1, 0

    def show(progress: Progress) -> None:
        nonlocal shown
        tenth = 10 * progress.done // max(1, progress.total)
        of_parts = 10 * progress.parts // max(1, progress.all_parts)
        if (tenth, of_parts) > shown:
            shown = tenth, of_parts
            count = f"{progress.done:,} of {progress.total:,} images"
            line = f"{count}  {_rest(progress)}".rstrip()
            console.print(line, markup=False, highlight=False)

    return show


def _rest(progress: Progress) -> str:
    if progress.all_parts:
        parts = f"{progress.parts:,} of {progress.all_parts:,} parts of large images"
        return f"{parts}  {_duration(progress.parts_seconds_left)} left"
    if progress.seconds_left is None:
        return ""
    left = _duration(progress.seconds_left)
    failed = f"  {progress.failed:,} failed" if progress.failed else ""
    return f"{progress.rate:.2f} images/s  {left} left{failed}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
