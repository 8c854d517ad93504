"""Weights files: safetensors whose header says everything that inference needs.

The file's `__metadata__` has one key, `segpipe`, with the JSON of a `WeightsHeader`. Nothing in
such a file is code, and reading the header reads nothing else; a pickle is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, JsonValue

from segpipe.errors import SpecError, WeightsError
from segpipe.spec import Frozen, Options, Preprocess, parse

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

METADATA_KEY = "segpipe"
MAX_HEADER_BYTES = 4_000_000

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TileRule(Frozen):
    """How large an image the network takes at once.

    Attributes:
        multiple_of: sides are padded (mirrored) to a multiple of this, and cut back.
        max_side: a longer side is for tiles.
    """

    multiple_of: int = Field(ge=1, le=1024)
    max_side: int = Field(ge=32, le=65536)


class TrainingRecord(Frozen):
    """Where the weights come from.

    Attributes:
        data: name of the data set.
        data_sha256: over the names and bytes of the files that were trained on.
        images: how many of them.
        recipe: text of the recipe; with the data, the code version and the seed in it, all that
            is needed to do it again.
        steps: updates of the weights.
        start_sha256: of the weights file that they started from; empty where there was none.
        metrics: measured on validation images: group of images -> metric -> value.
        code_version: of segpipe.
        finished: date, ISO 8601.
    """

    data: str
    data_sha256: Sha256
    images: int = Field(ge=1)
    recipe: str
    recipe_sha256: Sha256
    seed: int
    steps: int = Field(ge=1)
    start_sha256: str = ""
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    code_version: str
    finished: str


class QuantisationRecord(Frozen):
    """How the ranges were found in which a file's network may round to 8 bits.

    Attributes:
        data: name of the data set.
        data_sha256: over the names and bytes of the files that were looked at.
        images: how many images of its training part were looked at.
        metrics: `<subgroup>/<precision>` -> metric -> value, in fp32 and int8, on the
            validation images.
        code_version: of segpipe.
        finished: date, ISO 8601.
    """

    data: str
    data_sha256: Sha256
    images: int = Field(ge=1)
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    code_version: str
    finished: str


class WeightsHeader(Frozen):
    """What a weights file says of itself.

    Attributes:
        format_version: of this header.
        architecture: arguments of the network's constructor.
        notice: what whoever uses the weights has to know, such as limits of use.
        classes: names by class id; entry 0 is the background.
        preprocess: how pixels become the network's input.
        postprocess: how its output becomes objects; the run's options override it.
        quantisation: of a file that holds ranges too.
    """

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    kind: Literal["unet", "mask_rcnn", "faster_rcnn", "rcnn"]
    task: Literal["instances", "semantic", "boxes"]
    description: str
    licence: str
    notice: str = ""
    architecture: dict[str, JsonValue]
    classes: tuple[str, ...] = Field(min_length=2, max_length=256)
    preprocess: Preprocess
    postprocess: Options
    tile: TileRule
    training: TrainingRecord | None = None
    quantisation: QuantisationRecord | None = None


def read_header(path: Path) -> WeightsHeader:
    """The header of a weights file; reads at most `MAX_HEADER_BYTES` and never a tensor.

    Raises:
        WeightsError: it cannot be read, is not safetensors, or has no valid segpipe header.
    """
    metadata = _json_object(_header_bytes(path), path).get("__metadata__")
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise WeightsError(
            f"{path}: safetensors, but without the header {METADATA_KEY!r} that says how to use "
            "the weights; make such a file with `segpipe train`"
        )
    try:
        return parse(WeightsHeader, _json_object(text, path), str(path))
    except SpecError as error:
        raise WeightsError(str(error)) from None


def _header_bytes(path: Path) -> bytes:
    """The JSON at the start of a safetensors file, after its length in 8 bytes, little endian."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            size = int.from_bytes(start, "little")
            is_json = file.read(1) == b"{"  # the low byte of a length may be a pickle's first
            if not is_json and (start[:4] == b"PK\x03\x04" or start[:1] == b"\x80"):
                raise WeightsError(
                    f"{path}: a pickle (as torch.save writes it), which can run code when it is "
                    "loaded; only safetensors files are read"
                )
            if len(start) < 8 or size > path.stat().st_size - 8:
                raise WeightsError(f"{path}: not a safetensors file, or cut off")
            if size > MAX_HEADER_BYTES:
                raise WeightsError(
                    f"{path}: a header of {size:,} bytes; at most {MAX_HEADER_BYTES:,}"
                )
            file.seek(8)
            return file.read(size)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def _json_object(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is not JSON: {error}") from None
    if not isinstance(values, dict):
        raise WeightsError(f"{path}: its header is not a JSON object")
    return values


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, 64 hex digits.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a weights file by name, on the CPU, in the file's precision.

    Raises:
        WeightsError: it cannot be read or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be read: {error}") from error


def fill(network: Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy the tensors of a file into a network, in the network's own precision.

    Raises:
        WeightsError: missing, unexpected or misshapen tensors; the first few are named.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not the tensors of its architecture: {error}") from None


def save(path: Path, tensors: dict[str, Tensor], header: WeightsHeader) -> None:
    """Write a weights file, whole or not at all; the same content gives the same bytes."""
    from safetensors.torch import save as to_bytes

    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(to_bytes(tensors, {METADATA_KEY: header.model_dump_json()}))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
