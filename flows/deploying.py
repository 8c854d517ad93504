"""A step of `prefect deploy`: the parameters of a deployment are the file of its collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segpipe.deployment.reading import read_spec


def read_collection(path: str) -> dict[str, Any]:
    """The spec in a collection's TOML file, as `{"spec": {...}}`, with the keys that are set.

    In a `prefect.yaml`, with `id: collection`, the parameter is `"{{ collection.spec }}"`.

    Raises:
        SpecError: it is not as a deployment needs it; see `read_spec`.
    """
    spec = read_spec(Path(path))
    return {"spec": spec.model_dump(mode="json", exclude_unset=True)}
