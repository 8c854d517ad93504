"""`prefect.yaml` for the nights of a collection: written for people, and read back for checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segpipe.errors import SpecError

POOL = "segpipe"
"""The work pool, unless another is named."""

READ = "segpipe.flows.deploying.read_collection"
"""The step of `prefect deploy` that reads a collection's file."""

NIGHTLY = "segpipe.flows.nightly.nightly"
WATCH = "segpipe.flows.watch.watch"

TEXT = """\
# When and where the nights of {name} are run. What they do stands in
#   {config}
# which `prefect deploy` reads, checks and hands to the server: edit it there, and deploy again.
#
#   prefect work-pool create {pool} --type process       once
#   prefect deploy --all --prefect-file {file}
#   prefect worker start --pool {pool}                   on the machine that does the work
#   prefect deployment run nightly/{name}       a night, now
name: {name}
prefect-version: ">=3.8"

# Read when this file is deployed. A wrong key, or a password in an address, is refused here.
build:
  - {read}:
      id: collection
      path: {path}

# Nothing is fetched before a run: segpipe is installed where the worker is.
pull: []

deployments:
  - name: {name}
    entrypoint: {nightly}
    description: Segment what is new or changed in {name}.
    work_pool:
      name: {pool}
    schedules:
      - cron: {cron}
        timezone: {timezone}  # the hour stays the same in summer and in winter
        active: true
    # A night that takes until the next one is due goes on; the next one waits for it.
    concurrency_limit:
      limit: 1
      collision_strategy: ENQUEUE
    # The server refuses a run with other keys than those of a run spec, before any work starts.
    parameters:
      spec: "{{{{ collection.spec }}}}"

  # Looks whether a night has died without a word, or hangs, and tells those named in `notify`.
  # It needs a place beside the night: do not start the only worker of the pool with --limit 1.
  - name: {name}
    entrypoint: {watch}
    description: Tell of nights of {name} that died or hang.
    work_pool:
      name: {pool}
    schedules:
      - cron: "*/10 * * * *"
        active: true
    concurrency_limit:
      limit: 1
      collision_strategy: ENQUEUE
    parameters:
      collections:
        - "{{{{ collection.spec }}}}"
"""


@dataclass(frozen=True, slots=True)
class Nights:
    """A deployment of the nightly flow, as a file or a command line names it."""

    name: str
    config: Path
    pool: str = POOL


def prefect_yaml(nights: Nights, file: Path, cron: str, timezone: str) -> str:
    """The file for a collection.

    Args:
        file: where it is going to lie, for the commands in its head.
        cron: five fields, as cron has them.
        timezone: an IANA name.
    """
    return TEXT.format(
        name=nights.name,
        config=nights.config,
        path=json.dumps(str(nights.config), ensure_ascii=False),  # a JSON string is one of YAML
        pool=nights.pool,
        file=file,
        cron=json.dumps(cron),
        timezone=timezone,
        read=READ,
        nightly=NIGHTLY,
        watch=WATCH,
    )


def nights_in(file: Path) -> list[Nights]:
    """The deployments of the nightly flow in a `prefect.yaml`.

    Raises:
        SpecError: it cannot be read, is no YAML, or does not say which collection it is for.
    """
    content = _read(file)
    deployments = content.get("deployments") or []
    return [
        Nights(
            str(about.get("name")),
            _config(about, content, file),
            str((about.get("work_pool") or {}).get("name", POOL)),
        )
        for about in deployments
        if str(about.get("entrypoint", "")).endswith(("nightly.nightly", "nightly.py:nightly"))
    ]


def _config(about: Mapping[str, Any], content: Mapping[str, Any], file: Path) -> Path:
    for step in about.get("build") or content.get("build") or []:
        if READ in step:
            return Path(step[READ]["path"])
    raise SpecError(
        f"{file}: deployment {about.get('name')!r} has no build step {READ} that names the file of "
        "its collection; give that file to the command instead"
    )


def _read(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(f"{file}: not a YAML file: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"{file}: not a prefect.yaml: no keys at its top")
    return content


def find_nights(file: Path, configs: list[Path]) -> list[Nights]:
    """The nights in a `prefect.yaml`, or only those of these collections.

    A collection that the file does not name is taken to be deployed under the name of its own file.

    Raises:
        SpecError: as `nights_in`; or the file is needed and there is none.
    """
    if not configs and not file.exists():
        raise SpecError(f"{file}: there is none here; give the file of a collection, or its folder")
    nights = nights_in(file) if file.exists() else []
    known = {night.config.resolve(): night for night in nights}
    return [known.get(c.resolve(), Nights(c.stem, c)) for c in configs] or nights
