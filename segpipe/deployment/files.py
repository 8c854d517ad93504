"""The files that set up the nights of a collection, in a folder of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segpipe.deployment.automations_file import automations_yaml
from segpipe.deployment.collection_file import collection_toml
from segpipe.deployment.prefect_file import Nights, prefect_yaml
from segpipe.deployment.reading import read_spec
from segpipe.errors import SpecError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: str, what: str) -> None:
    """
    Raises:
        SpecError: a name that Prefect, YAML or a file system might take otherwise than as it is.
    """
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"{what} {name!r}: a name is made of letters, digits, '.', '_' and '-', begins with a "
            "letter or a digit, and has no more than 100 of them"
        )


def write_files(
    nights: Nights,
    values: Mapping[str, Any],
    cron: str,
    timezone: str,
    blocks: Mapping[str, str | None],
    force: bool,
) -> list[Path]:
    """Write `<name>.toml`, `prefect.yaml` and, if somebody is told, `automations.yaml`.

    Args:
        nights: `config` says where; the other files lie beside it.
        values: keys of a run spec that are set.
        blocks: name -> id of each block that is told of a night, None where it is not known.
        force: replace files that are there.

    Returns:
        The files.

    Raises:
        SpecError: a file is there already, cannot be written, or its content would be refused.
    """
    folder = nights.config.parent
    deployments, automations = folder / "prefect.yaml", folder / "automations.yaml"
    texts = {
        nights.config: collection_toml(nights.name, values),
        deployments: prefect_yaml(nights, deployments, cron, timezone),
    }
    if blocks:
        texts[automations] = automations_yaml(nights.name, blocks, automations)
    for path in texts:
        if path.exists() and not force:
            raise SpecError(f"{path}: is there already; --force replaces it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_text(text, "utf-8")
    except OSError as error:
        raise SpecError(f"{folder}: cannot be written: {error.strerror}") from error
    read_spec(nights.config)
    return list(texts)
