"""The Compose files: the published schema, what they refer to, and what they must never do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, Checked

FILES = sorted(DEPLOY.glob("compose*.yaml"))
OPTIONAL = [path for path in FILES if path.name != "compose.yaml"]
VALUES = {
    "POSTGRES_PASSWORD": "p",
    "PREFECT_AUTH": "u:p",
    "IMAGES": "/images",
    "RESULTS": "/results",
    "OBJECTS": "/objects",
    "OBJECTS_USER": "user",
    "OBJECTS_PASSWORD": "password",
}
VARIABLE = re.compile(r"\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def compose(*names: str) -> dict[str, Any]:
    """Files over each other, with variables filled in: mappings are joined, lists too."""
    joined: dict[str, Any] = {}
    for name in names:
        text = (DEPLOY / name).read_text()
        text = VARIABLE.sub(lambda found: VALUES.get(found[1]) or found[3] or "", text)
        joined = _joined(joined, yaml.safe_load(text))
    return {key: value for key, value in joined.items() if not key.startswith("x-")}


def _joined(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _joined(below.get(key), value) for key, value in above.items()}
    return above


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_schema(checked: Checked, path: Any) -> None:
    checked("check-jsonschema", "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path)


@pytest.mark.parametrize("optional", [None, *OPTIONAL], ids=lambda path: path and path.name)
def test_all_that_is_named_is_there(optional: Any) -> None:
    spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed")
    names = ["compose.yaml", *([optional.name] if optional else [])]
    spec.PyCompose.from_json(json.dumps(compose(*names)))  # raises
    services = compose(*names)["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)


def test_no_password_has_a_default() -> None:
    """Compose stops, and says which value is missing."""
    for path in FILES:
        for name, kind, default in VARIABLE.findall(path.read_text()):
            if re.search("PASSWORD|AUTH|USER|KEY|SECRET", name):
                assert (kind, bool(default)) == (":?", True), f"{path.name}: {name}"
    example = (DEPLOY / ".env.example").read_text()
    assert re.findall(r"^(?:POSTGRES_PASSWORD|PREFECT_AUTH)=(.*)$", example, re.MULTILINE) == [
        "",
        "",
    ]


def test_services_are_confined() -> None:
    services = compose(*[path.name for path in FILES])["services"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert not service.get("privileged"), name
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}, name
        assert service.get("healthcheck"), name
        assert re.search(r":\d+\.\d+|RELEASE", service["image"]), (
            f"{name}: pinned to a minor version"
        )
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port} is open to the network"
        for volume in service.get("volumes", []):
            if isinstance(volume, dict) and volume["target"] == "/data/images":
                assert volume["read_only"], name


def test_dasks_ports_and_the_database_are_on_networks_of_their_own() -> None:
    whole = compose("compose.yaml")
    assert whole["networks"]["compute"]["internal"]
    assert whole["networks"]["database"]["internal"]
    members = {name: set(service["networks"]) for name, service in whole["services"].items()}
    assert {name for name, networks in members.items() if "database" in networks} == {
        "database",
        "prefect",
    }
    assert {name for name, networks in members.items() if "compute" in networks} == {
        "worker",
        "scheduler",
        "dask-worker",
    }
