"""Clusters that this machine can be, all of it real: an SSH server, and SLURM with its daemons."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import tests.generated
from segpipe.clusters import Cluster, Slurm, Ssh
from segpipe.engine import Work, run_chunks, staffed
from segpipe.errors import EngineError
from segpipe.provenance.record import WorkerKind
from segpipe.spec import SegmentSpec
from segpipe.store import Snapshot, create_store
from segpipe.store.fsck import check_store
from tests.generated import SPEC, ThresholdSegmenter, all_of, make_collection, refs
from tests.servers.process import free_port, server

# The workers do not have the tests; the segmenter travels to them whole.
cloudpickle.register_pickle_by_value(tests.generated)
cloudpickle.register_pickle_by_value(sys.modules[__name__])

WHERE = f"{os.environ.get('PATH', '')}:/usr/sbin"


def program(name: str, package: str) -> str:
    """Path of a program, or else the test is skipped."""
    found = shutil.which(name, path=WHERE)
    if found is None:
        pytest.skip(f"{name} is absent (Debian's package {package})")
    return found


def segment_on(cluster: Cluster, folder: Path) -> tuple[WorkerKind, ...]:
    """Segment some images there, and check what came of it; what the record says of the workers."""
    images = make_collection(folder / "images", 6)
    files = create_store(folder / "store")

    def load(spec: SegmentSpec, weights: Path | None, threads: int | None) -> Any:
        return ThresholdSegmenter(spec)  # an inner function: Dask sends it whole

    work = Work("run", str(files.root), SPEC, None, cluster.cores, load, cluster.memory)
    with staffed(cluster, work) as coming:
        staff = coming.result()
        commits = list(run_chunks(staff, all_of(2, refs(images))))
    assert sum(commit.n_ok for commit in commits) == 6
    assert list(check_store(Snapshot(files).files)) == []
    return staff.kinds


def is_as_a_local_worker(environment: Mapping[str, str], threads: int) -> None:
    counts = {value for name, value in environment.items() if "THREADS" in name}
    assert counts == {str(threads)}
    assert environment["MALLOC_ARENA_MAX"] == "1"
    assert environment["MALLOC_TRIM_THRESHOLD_"] == str(1 << 30)


# --- SSH ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """How to log in to an SSH server on this machine, with keys that nobody else knows."""
    sshd, keygen = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client")
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    for name in ("host", "user"):
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    host_key = (folder / "host.pub").read_text()
    (folder / "known").write_text(f"[127.0.0.1]:{port} {host_key}")
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # OpenSSH insists, where it is root
    command = [sshd, "-D", "-e", "-f", str(folder / "config")]
    with server(command, folder / "log", dict(os.environ)) as process:
        while not listens(port):
            assert process.poll() is None, (folder / "log").read_text()
        yield {
            "hosts": ("127.0.0.1",),
            "port": port,
            "user": getpass.getuser(),
            "key_file": str(folder / "user"),
            "known_hosts_file": str(folder / "known"),
            "python": sys.executable,
            "interface": "lo",
            "memory_gb": 2,
        }


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_hosts_that_are_logged_in_to(ssh: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("asyncssh", reason="asyncssh is absent (the extra ssh)")
    (kind,) = segment_on(Ssh(**ssh, workers=2, cores=3), tmp_path)
    assert (kind.workers, kind.threads) == (2, 3)
    is_as_a_local_worker(kind.environment, 3)


def test_a_host_with_a_key_that_is_not_known_is_not_logged_in_to(
    ssh: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("asyncssh", reason="asyncssh is absent (the extra ssh)")
    other = tmp_path / "known"
    other.write_text("")
    with pytest.raises(EngineError, match=r"no workers on the hosts 127\.0\.0\.1: .*trusted"):
        segment_on(Ssh(**{**ssh, "known_hosts_file": str(other)}, cores=1), tmp_path)


# --- SLURM --------------------------------------------------------------------------------------


SLURM = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CryptoType=crypto/munge
SlurmUser=root
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/node.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=night Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A controller, a node and munge, which signs what they say, with a key of their own."""
    daemons = {name: program(name, "slurm-wlm") for name in ("slurmctld", "slurmd", "sinfo")}
    munged = program("munged", "munge")
    if os.geteuid() != 0:
        pytest.skip("slurmd starts jobs only as root")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "spool").mkdir()
    (folder / "slurm.conf").write_text(
        SLURM.format(
            folder=folder,
            host=socket.gethostname().split(".")[0],
            controller=free_port(),
            node=free_port(),
            cpus=os.cpu_count(),
        )
    )
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    sign = [munged, "--foreground", "--force", f"--key-file={folder}/key"]
    sign += [f"--socket={folder}/munge.sock", f"--seed-file={folder}/seed"]
    sign += [f"--log-file={folder}/munge.log", f"--pid-file={folder}/munge.pid"]
    with ExitStack() as running, pytest.MonkeyPatch.context() as variables:
        variables.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        daemon = daemon_in(folder, running)
        daemon(sign)
        daemon([daemons["slurmctld"], "-D", "-c"])
        daemon([daemons["slurmd"], "-D", "-c"])
        idle = [daemons["sinfo"], "--noheader", "--states=idle", "--format=%n"]
        while not subprocess.run(idle, capture_output=True, text=True).stdout.strip():
            pass
        yield


def daemon_in(folder: Path, running: ExitStack) -> Any:
    def start(command: list[str]) -> None:
        log = folder / f"{Path(command[0]).name}.log"
        running.enter_context(server(command, log, dict(os.environ)))

    return start


def test_jobs_of_slurm(slurm: None, tmp_path: Path) -> None:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is absent (the extra jobqueue)")
    cluster = Slurm(
        maximum=1,
        cores=1,
        memory_gb=2,
        queue="night",
        walltime="00:10:00",
        prologue=("export OPENBLAS_NUM_THREADS=1", "echo a job has begun"),
        interface="lo",
        log_folder=str(tmp_path),
    )
    (kind,) = segment_on(cluster, tmp_path)
    assert (kind.workers, kind.threads) == (1, 1)
    is_as_a_local_worker(kind.environment, 1)
    (printed,) = tmp_path.glob("segpipe-worker-*.out")
    assert "a job has begun" in printed.read_text()
    while subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout.strip():
        pass  # none of its jobs is left
