"""A run that was stopped goes on where it was: its whole state, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from segpipe.errors import SpecError
from segpipe.training.history import Measurement


def write_checkpoint(
    path: Path, state: Mapping[str, Any], identity: str, measurements: list[Measurement]
) -> None:
    """Write it, whole or not at all.

    Args:
        state: tensors and numbers.
        identity: of recipe and data; a run goes on under the same one only.
    """
    content = {**state, "identity": identity, "measurements": [asdict(one) for one in measurements]}
    temporary = path.with_name(f".{path.name}.tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def read_checkpoint(path: Path, identity: str) -> tuple[dict[str, Any], list[Measurement]]:
    """What was written; tensors are on the CPU.

    Raises:
        SpecError: it cannot be read, or is of another recipe or other data.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        measurements = [Measurement(**one) for one in content.pop("measurements")]
        found = content.pop("identity")
    except Exception as error:  # the unpickler raises whatever a damaged file makes it raise
        raise SpecError(f"{path}: no checkpoint that can be read: {error}") from error
    if found != identity:
        raise SpecError(
            f"{path}: of another recipe or other data; remove it, or train without --resume"
        )
    return content, measurements
