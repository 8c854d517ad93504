"""Workers in pods, and on machines to log in to."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from segpipe.clusters.base import BaseCluster, Count, Path, SizedCluster, Word


class Kubernetes(SizedCluster):
    """Pods of a Kubernetes cluster that has the Dask operator (dask-kubernetes).

    Attributes:
        image: with this version of segpipe in it.
        namespace: None for that of the kubeconfig.
        gpus: NVIDIA GPUs of each worker.
        secrets: names of Secrets whose keys become variables of the workers, as for a store on S3.
        claims: PersistentVolumeClaims and where the workers see them, e.g. `{archive = "/data"}`.
        service_account: that the pods run as.
        nodes: labels of the nodes that workers may be on.
    """

    kind: Literal["kubernetes"] = "kubernetes"
    image: Word
    namespace: Word | None = None
    gpus: int = Field(0, ge=0, le=64)
    secrets: tuple[Word, ...] = ()
    claims: dict[str, Path] = Field({})
    service_account: Word | None = None
    nodes: dict[str, str] = Field({})

    usual_wait: ClassVar[float | None] = 60
    advice: ClassVar[str] = "`kubectl get pods` shows what they wait for"

    @property
    def place(self) -> str:
        return f"the namespace {self.namespace}" if self.namespace else "Kubernetes"


class Ssh(BaseCluster):
    """Workers on machines that this one can log in to without a question.

    `~/.ssh/config` is heeded: host names, users, ports, keys and jumps may stand there.

    Attributes:
        hosts: on which there are workers.
        scheduler: host of the scheduler; None for the first of `hosts`.
        workers: on each host.
        cores: that each worker computes with.
        python: that has segpipe, on every host; None for this one's path.
        user, port, key_file, known_hosts_file: where `~/.ssh` does not say it.
        interface: network interface that they are connected by, e.g. `ib0`.
    """

    kind: Literal["ssh"] = "ssh"
    hosts: Annotated[tuple[Word, ...], Field(min_length=1)]
    scheduler: Word | None = None
    workers: Count = 1
    cores: Count
    memory_gb: float = Field(gt=0, le=1e6)
    python: Word | None = None
    user: Word | None = None
    port: int | None = Field(None, ge=1, le=65535)
    key_file: Path | None = None
    known_hosts_file: Path | None = None
    interface: Word | None = None

    advice: ClassVar[str] = "look at the machines' memory, and log in to one of them"

    @property
    def place(self) -> str:
        return f"the hosts {', '.join(self.hosts)}"
