"""What of a run's code and weights is on this machine now."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from segpipe.errors import WeightsError
from segpipe.provenance.environment import PACKAGE_FOLDER, describe_checkout
from segpipe.segmenters.catalog import models
from segpipe.segmenters.weights import TrainingRecord, read_header, sha256_file


def installed_code() -> dict[str, Any]:
    """`segpipe` and `git`, as `describe_environment` has them."""
    version = metadata.version("segpipe")
    return {"segpipe": version, "git": describe_checkout(PACKAGE_FOLDER.parent)}


def installed_weights(asked: str, sha256: str) -> dict[str, Any]:
    """The file that a model's name, or the path of a weights file, means here. Downloads nothing.

    Returns:
        `source` (path or address), `sha256` (None where there is no file here), `same`, and of our
        own files with the same bytes what they say of their `training`.
    """
    card = next((card for card in models() if card.name == asked), None)
    source = card.weights if card else asked
    here = Path(source)
    # A record may name anything; it is only looked into if it could be weights.
    is_file = (card is not None or here.suffix == ".safetensors") and here.is_file()
    found = sha256_file(here) if is_file else None
    same = found == sha256
    about: dict[str, Any] = {"source": source, "sha256": found, "same": same}
    if same and card:
        about["trained_on"] = card.trained_on
    if same and (training := _training(here)):
        about["training"] = {
            "data": training.data,
            "data_sha256": training.data_sha256,
            "recipe_sha256": training.recipe_sha256,
            "seed": training.seed,
            "code_version": training.code_version,
            "finished": training.finished,
        }
    return about


def other_code(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How the code of a run differs from this one's, in a sentence; empty where it does not."""
    if then["segpipe"] != now["segpipe"]:
        return f"segpipe {then['segpipe']} made it, here is {now['segpipe']}"
    git_then, git_now = then.get("git"), now.get("git")
    if git_then and git_now and git_then["commit"] != git_now["commit"]:
        return f"commit {git_then['commit'][:12]} made it, here is {git_now['commit'][:12]}"
    dirty = [name for name, git in (("then", git_then), ("now", git_now)) if git and git["dirty"]]
    return f"files differ from the commit {' and '.join(dirty)}" if dirty else ""


def _training(path: Path) -> TrainingRecord | None:
    try:
        return read_header(path).training
    except WeightsError:
        return None  # another's file, which says nothing of it
