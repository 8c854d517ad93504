"""The catalogue of models as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from segpipe.segmenters.catalog import ModelCard

_HEADINGS = ("name", "task", "classes", "size", "here", "trained on", "licence")


def model_table(cards: Iterable[ModelCard]) -> str:
    """Aligned columns, free of markup; `here` says whether a model needs no download.

    Notices of models that have one stand below.
    """
    cards = list(cards)
    rows = [_HEADINGS, *(_cells(card) for card in cards)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    notices = [f"{card.name}: {card.notice}" for card in cards if card.notice]
    return "\n".join(lines + [""] * bool(notices) + notices)


def _cells(card: ModelCard) -> tuple[str, ...]:
    few = ", ".join(card.classes[:3])
    classes = few if len(card.classes) <= 3 else f"{few} and {len(card.classes) - 3} more"
    size = f"{card.size_bytes / 1e6:.1f} MB" if card.size_bytes else "-"
    here = "yes" if card.available else "download"
    return card.name, card.task, classes, size, here, _short(card.trained_on), _short(card.licence)


def _short(text: str, width: int = 40) -> str:
    """At most `width` letters of a text; `--json` has it whole."""
    return (text if len(text) <= width else f"{text[: width - 3]}...") or "-"
