"""The manifests: their schemas, strictly, and what a pod must not be."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, Checked

KUBERNETES = DEPLOY / "kubernetes"
BUILDS = ("base", "cuda")


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest, checked: Checked) -> list[dict[str, Any]]:
    text = checked("kubectl", "kubectl", "kustomize", KUBERNETES / request.param)
    return list(yaml.safe_load_all(text))


def sources() -> Iterator[dict[str, Any]]:
    """The manifests as they are written, for where kubectl is not."""
    for path in sorted((KUBERNETES / "base").glob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from yaml.safe_load_all(path.read_text())


def check_all(documents: list[dict[str, Any]]) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    for document in documents:
        if document["kind"] == "DaskCluster":
            schema = dask_schema()
            if schema:
                jsonschema.validate(document, schema)
        else:
            validate.validate(document, "1.32", strict=True)


def dask_schema() -> dict[str, Any] | None:
    """Of a DaskCluster, if dask-kubernetes is installed; a key that it does not know is refused."""
    found = importlib.util.find_spec("dask_kubernetes")
    if found is None or found.origin is None:
        return None
    folder = "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"
    (version,) = yaml.safe_load((Path(found.origin).parent / folder).read_text())["spec"][
        "versions"
    ]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {name: {} for name in ("apiVersion", "kind", "metadata")}
    return schema


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _closed(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


def test_schemas_of_the_manifests() -> None:
    check_all(list(sources()))


def test_schemas_of_the_builds(build: list[dict[str, Any]]) -> None:
    check_all(build)


def test_dask_cluster_is_what_its_operator_takes() -> None:
    if dask_schema() is None:
        pytest.skip("dask-kubernetes is not installed; it brings the schema of a DaskCluster")
    (cluster,) = (each for each in sources() if each["kind"] == "DaskCluster")
    check_all([cluster])
    cluster["spec"]["worker"]["spec"]["contaners"] = []
    with pytest.raises(jsonschema.ValidationError, match="contaners"):
        check_all([cluster])


def pods(documents: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents:
        spec, name = document.get("spec", {}), document["metadata"]["name"]
        if document["kind"] == "DaskCluster":
            yield f"{name} worker", spec["worker"]["spec"]
            yield f"{name} scheduler", spec["scheduler"]["spec"]
        elif document["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec:
            yield name, spec["template"]["spec"]


def test_pods_are_confined() -> None:
    """The restricted Pod Security Standard, and a root file system that is read-only."""
    found = dict(pods(list(sources())))
    assert len(found) == 6
    for name, pod in found.items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"], name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert name == "backup" or "livenessProbe" in container, name
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "AUTH_STRING")):
                    assert "secretKeyRef" in variable["valueFrom"], name
            for mount in container["volumeMounts"]:
                assert mount["mountPath"] != "/data/images" or mount["readOnly"], name


def test_nothing_is_reachable_unless_a_policy_says_so() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in sources()
        if each["kind"] == "NetworkPolicy"
    }
    assert policies["deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        for way in (*spec.get("ingress", []), *spec.get("egress", [])):
            assert way.get("from") or way.get("to"), f"{name}: from or to anywhere"


def test_a_gpu_for_each_worker(checked: Checked) -> None:
    text = checked("kubectl", "kubectl", "kustomize", KUBERNETES / "cuda")
    (cluster,) = (each for each in yaml.safe_load_all(text) if each["kind"] == "DaskCluster")
    (worker,) = cluster["spec"]["worker"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert worker["image"].endswith("-cuda")
