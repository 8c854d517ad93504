"""The answer to "how did this come to be": links from a result to the bytes that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was computed again, and what came of it.

    Attributes:
        subject: path in the store, or the name of what was computed.
        holds: it is what it was when it was recorded.
    """

    subject: str
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Link:
    """One link: what is recorded of it, as plain JSON, and what was computed again.

    Attributes:
        name: `object`, `image`, `chunk`, `attempt`, `run`, `spec`, `weights`, `code`,
            `environment`, `machine` or `results`.
    """

    name: str
    facts: Mapping[str, Any]
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """The links, from a result to the bytes, each name once."""

    links: tuple[Link, ...]

    def __getitem__(self, name: str) -> Link:
        return next(link for link in self.links if link.name == name)

    def __contains__(self, name: str) -> bool:
        return any(link.name == name for link in self.links)

    @property
    def checks(self) -> Iterator[Check]:
        return (check for link in self.links for check in link.checks)

    @property
    def broken(self) -> list[Check]:
        """What is no longer what it was."""
        return [check for check in self.checks if not check.holds]

    def to_dict(self) -> dict[str, Any]:
        links = {
            link.name: {**link.facts, "checks": [asdict(check) for check in link.checks]}
            for link in self.links
        }
        return {"holds": not self.broken, **links}
