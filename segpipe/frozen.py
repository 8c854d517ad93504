"""The base of all specs, and the keys that they allow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def allowed_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The keys of the table in which the last key of `location` stands."""
    kinds: list[type[BaseModel]] = []  # that the table may be of; their names follow in `location`
    for part in location[:-1]:
        if part in model.model_fields:
            kinds = list(_tables(model.model_fields[str(part)].annotation))
            model = kinds[0] if len(kinds) == 1 else model
        else:
            model = next((kind for kind in kinds if _is_of(kind, part)), model)
    return ", ".join(model.model_fields)


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of which a field with this annotation may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _tables(inner)


def _is_of(model: type[BaseModel], kind: int | str) -> bool:
    field = model.model_fields.get("kind")
    return field is not None and field.default == kind
