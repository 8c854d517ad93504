"""Workers as pods of a Kubernetes cluster, by the Dask operator and dask-kubernetes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client

from segpipe.clusters import Kubernetes
from segpipe.engine.settings import exported
from segpipe.errors import EngineError


@contextmanager
def kubernetes_workers(cluster: Kubernetes) -> Iterator[Client]:
    """A `DaskCluster`; the operator makes its pods, and removes them when the block ends.

    Raises:
        EngineError: Kubernetes or the operator does not do it.
    """
    from dask_kubernetes.operator import KubeCluster

    try:
        pods = KubeCluster(
            custom_cluster_spec=manifest(cluster),
            namespace=cluster.namespace,
            shutdown_on_close=True,
            quiet=True,
        )
    except Exception as error:  # of the API, of the operator, of the network
        raise EngineError(
            f"no workers in {cluster.place}: {error}; `kubectl get daskclusters` must work, and "
            "the Dask operator must be installed"
        ) from error
    with pods, Client(pods, set_as_default=False) as client:
        if cluster.adaptive:
            fewest, most = cluster.bounds
            pods.adapt(minimum=fewest, maximum=most)
        yield client


def manifest(cluster: Kubernetes) -> dict[str, Any]:
    """The `DaskCluster` resource that is asked for."""
    from dask_kubernetes.operator import make_cluster_spec

    fewest, most = cluster.bounds
    made: dict[str, Any] = make_cluster_spec(
        name=f"segpipe-{secrets.token_hex(4)}",
        image=cluster.image,
        n_workers=fewest if cluster.adaptive else most,
        env=[{"name": name, "value": value} for name, value in exported(cluster.cores).items()],
        worker_command=f"dask worker --nthreads 1 --memory-limit {cluster.memory}",
    )
    worker = made["spec"]["worker"]["spec"]
    _complete(worker, cluster)
    worker["containers"][0]["resources"] = _resources(cluster)
    if cluster.nodes:
        worker["nodeSelector"] = dict(cluster.nodes)
    _complete(made["spec"]["scheduler"]["spec"], cluster)
    made["spec"]["scheduler"]["spec"]["containers"][0].pop("resources")
    return made


def _complete(pod: dict[str, Any], cluster: Kubernetes) -> None:
    """Secrets, volumes and account of a pod."""
    (container,) = pod["containers"]
    container["envFrom"] = [{"secretRef": {"name": name}} for name in cluster.secrets]
    container["volumeMounts"] = [
        {"name": name, "mountPath": path} for name, path in cluster.claims.items()
    ]
    pod["volumes"] = [
        {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in cluster.claims
    ]
    if cluster.service_account:
        pod["serviceAccountName"] = cluster.service_account


def _resources(cluster: Kubernetes) -> dict[str, dict[str, str]]:
    """Requests and limits alike: Kubernetes does not take the memory back from such a pod."""
    each = {"cpu": str(cluster.cores), "memory": str(cluster.memory)}
    if cluster.gpus:
        each["nvidia.com/gpu"] = str(cluster.gpus)
    return {"limits": each, "requests": dict(each)}
