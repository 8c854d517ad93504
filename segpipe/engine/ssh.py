"""Workers on machines that this one logs in to, by Dask's SSHCluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, SSHCluster

from segpipe.clusters import Ssh
from segpipe.engine.settings import dask_set
from segpipe.errors import EngineError

LOST = "1000 days"  # as of local workers: a nanny starts its worker again


@contextmanager
def ssh_workers(cluster: Ssh) -> Iterator[Client]:
    """A scheduler on one host and workers on all; their processes end with the block.

    Raises:
        EngineError: a host cannot be logged in to, or nothing starts there.
    """
    with dask_set(cluster.cores, LOST):  # which SSHCluster hands on to every host
        try:
            hosts = SSHCluster(**options_of(cluster))
        except Exception as error:  # asyncssh's, Dask's, the operating system's
            raise EngineError(
                f"no workers on {cluster.place}: {error}; `ssh HOST "
                f"{cluster.python or 'python'} -m distributed.cli.dask_spec --help` must work "
                "without a question"
            ) from error
        with hosts, Client(hosts, set_as_default=False) as client:
            yield client


def options_of(cluster: Ssh) -> dict[str, Any]:
    """Arguments of `SSHCluster`."""
    login = {
        "username": cluster.user,
        "port": cluster.port,
        "client_keys": cluster.key_file and [cluster.key_file],
        "known_hosts": cluster.known_hosts_file,
    }
    network = {"interface": cluster.interface} if cluster.interface else {}
    workers = {
        "nthreads": 1,
        "n_workers": cluster.workers,
        "memory_limit": cluster.memory,
        "dashboard": False,
    }
    return {
        "hosts": [cluster.scheduler or cluster.hosts[0], *cluster.hosts],
        # None would mean other things: no check of the host's key, no key at all.
        "connect_options": {key: value for key, value in login.items() if value is not None},
        "worker_options": workers | network,
        "scheduler_options": {"port": 0, "dashboard_address": "127.0.0.1:0"} | network,
        "remote_python": cluster.python,
    }
