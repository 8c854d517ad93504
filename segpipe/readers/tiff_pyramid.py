"""Which pages of a TIFF are one image at several sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from segpipe.errors import InputError, Reason
from segpipe.readers.structure import corrupt
from segpipe.readers.tiff_directory import (
    MAX_VALUES,
    SUB_DIRECTORIES,
    SUBFILE_TYPE,
    Directories,
    Layout,
    Tags,
    layout_of,
)

_MAX_LEVELS = 64
_REDUCED, _MASK = 1, 4
_DAMAGE = (Reason.TRUNCATED, Reason.CORRUPT)


@dataclass(frozen=True, slots=True)
class Page:
    """A page and where its directory is."""

    offset: int
    layout: Layout

    @property
    def kind(self) -> tuple[int, int, int, str, int]:
        """What pages that are stacked or stand for each other have in common, and their size."""
        layout = self.layout
        return layout.height, layout.width, layout.colours, layout.pixel_type, layout.orientation


def reduced_pages(
    directories: Directories, chain: Sequence[int], number: int, max_pixels: int
) -> list[Page]:
    """The page and the same image at smaller sizes, largest first.

    Candidates are the pages below it, or, where there are none, those behind it that say that they
    are reduced. What has other channels, types or proportions (a thumbnail, a mask) is no level.

    Args:
        chain: positions of the pages of the file.
        number: of the page in `chain`.

    Raises:
        InputError: the page or one of its levels is damaged; the page is of a kind that is not
            read.
    """
    offset = chain[number]
    tags, _ = directories.read(offset)
    first = Page(offset, layout_of(tags))
    if first.layout.height * first.layout.width > max_pixels:
        raise InputError(
            Reason.TOO_LARGE,
            f"page {number} of {first.layout.height:,} x {first.layout.width:,} pixels; the limit"
            f" is {max_pixels:,} (max_pixels)",
        )
    smaller = []
    for candidate, found in _candidates(directories, chain, number, tags):
        try:
            smaller.append(Page(candidate, layout_of(found)))
        except InputError as error:
            if error.reason in _DAMAGE:
                raise  # any other is a thumbnail of a kind that is not read
    levels = [first]
    for page in sorted(smaller, key=lambda page: -page.layout.height * page.layout.width):
        if _is_level(page.layout, levels[-1].layout, first.layout):
            levels.append(page)
    return levels


def _candidates(
    directories: Directories, chain: Sequence[int], number: int, tags: Tags
) -> Iterator[tuple[int, Tags]]:
    below = _sub_directories(tags)
    if len({*below, *chain}) < len(below) + len(chain):
        raise corrupt("a page below a page (SubIFD) that leads to itself or to another page")
    if below:
        for offset in below:
            yield offset, directories.read(offset)[0]
        return
    for offset in chain[number + 1 : number + 1 + _MAX_LEVELS]:
        found, _ = directories.read(offset)
        if not found.get(SUBFILE_TYPE, (0,))[0]:
            return
        if _is_reduced(found):
            yield offset, found


def _sub_directories(tags: Tags) -> tuple[int, ...]:
    """Positions of the pages below a page (SubIFDs).

    Raises:
        InputError: `corrupt`, when there are more than any pyramid has levels.
    """
    found = tags.get(SUB_DIRECTORIES, ())
    if len(found) > MAX_VALUES:
        raise corrupt(f"more than {MAX_VALUES} pages below a page (SubIFDs)")
    return found


def _is_reduced(tags: Tags) -> bool:
    """Whether a page says that it is another page, smaller (NewSubfileType), and no mask of one."""
    kind = tags.get(SUBFILE_TYPE, (0,))[0]
    return bool(kind & _REDUCED) and not kind & _MASK


def _is_level(layout: Layout, larger: Layout, whole: Layout) -> bool:
    """Whether a page may be `whole`, smaller than the level before."""
    if (layout.colours, layout.pixel_type) != (whole.colours, whole.pixel_type):
        return False
    if not 0 < layout.height <= larger.height or not 0 < layout.width <= larger.width:
        return False
    smaller = (layout.height, layout.width) != (larger.height, larger.width)
    # Halving again and again rounds each side up or down by less than a pixel in all.
    slack = 1 + max(whole.height / whole.width, whole.width / whole.height)
    expected = whole.height * layout.width / whole.width
    across = whole.width * layout.height / whole.height
    close = abs(layout.height - expected) <= slack or abs(layout.width - across) <= slack
    return smaller and close
