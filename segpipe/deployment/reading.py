"""The file of a collection as a deployment needs it: good anywhere, and without secrets."""

from __future__ import annotations

from pathlib import Path

from segpipe.errors import SpecError
from segpipe.provenance.redact import redact
from segpipe.spec import RunSpec, load_config, parse


def read_spec(path: Path) -> RunSpec:
    """The spec in a collection's file.

    Raises:
        SpecError: it cannot be read, a key is wrong, a path depends on where a command is given,
            or an address holds what it takes to log in: whoever sees the server sees parameters.
    """
    spec = parse(RunSpec, load_config(path), str(path))
    values = spec.model_dump(mode="json", exclude_unset=True)
    for key, value in values.items():
        if redact(value) != value:
            raise SpecError(
                f"{path}: {key}: holds a password or a token, and whoever sees the Prefect server "
                "sees this; set it in the environment of the worker instead"
            )
    for key, value in (("source", spec.source), ("store", spec.store), ("model", spec.model)):
        is_path = key != "model" or value.endswith(".safetensors")
        if is_path and "://" not in value and not Path(value).is_absolute():
            raise SpecError(f"{path}: {key} = {value!r}: a night runs elsewhere; give a whole path")
    return spec
