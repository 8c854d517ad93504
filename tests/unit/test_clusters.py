"""The `[cluster]` table: what is refused, and what each kind of cluster is asked for."""

from __future__ import annotations

import inspect
import logging
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from segpipe.clusters import Cuda, Existing, Kubernetes, Local, Pbs, Slurm, Ssh, elsewhere
from segpipe.engine import Patience, connect
from segpipe.engine import cuda as engine_cuda
from segpipe.engine import kubernetes as engine_kubernetes
from segpipe.engine import ssh as engine_ssh
from segpipe.engine.batch import job_cluster
from segpipe.engine.patience import Vigil
from segpipe.engine.settings import exported
from segpipe.errors import EngineError, SpecError
from segpipe.spec import RunSpec, parse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clusters.md"
TABLES = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
SIZE = {"cores": 8, "memory_gb": 32}


def asked(**values: Any) -> RunSpec:
    return parse(RunSpec, {"source": "a", "store": "b"} | values, "night.toml")


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TABLES)
def test_every_table_of_the_documentation_is_taken(text: str) -> None:
    asked(**tomllib.loads(text))


def test_the_documentation_shows_every_kind() -> None:
    kinds = {tomllib.loads(text)["cluster"]["kind"] for text in TABLES}
    assert kinds == {"local", "address", "cuda", "slurm", "pbs", "kubernetes", "ssh"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"workers": 3, "memory_gb": 2, "cluster": {"kind": "local"}},
            r"workers = 3 and memory_gb = 2\.0 and a \[cluster\] table \(kind = 'local'\)",
        ),
        (
            {"dask_address": "tcp://a:1", "cluster": {"kind": "local"}},
            r"dask_address = 'tcp://a:1' and a \[cluster\] table",
        ),
        ({"dask_address": "tcp://a:1", "workers": 3}, r"workers = 3 and dask_address = .* both"),
        ({"cluster": {"kind": "moon"}}, r"'moon'.* 'local', 'address', 'cuda', 'slurm'"),
        ({"cluster": {"kind": "slurm", **SIZE}}, r"cluster\.slurm: give `workers`, or `maximum`"),
        ({"cluster": {"kind": "slurm", "workers": 1}}, r"cluster\.slurm\.cores: Field required"),
        (
            {"cluster": {"kind": "local", "workers": 1, "maximum": 2}},
            "give `workers`, or `minimum` and `maximum`, not both",
        ),
        ({"cluster": {"kind": "local", "minimum": 1}}, "`minimum` needs a `maximum`"),
        ({"cluster": {"kind": "local", "minimum": 3, "maximum": 2}}, "minimum = 3 is more than"),
        (
            {"cluster": {"kind": "slurm", "workers": 1, **SIZE, "que": "x"}},
            r"unknown key 'cluster\.slurm\.que'; allowed: .*queue",
        ),
        (
            {"cluster": {"kind": "slurm", "workers": 1, **SIZE, "walltime": "1h"}},
            r"cluster\.slurm\.walltime = '1h'",
        ),
        (
            {"cluster": {"kind": "slurm", "workers": 1, **SIZE, "queue": "a\nrm -r b"}},
            r"cluster\.slurm\.queue = 'a\\nrm -r b'",
        ),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=rf"(?s)night\.toml: .*{message}"):
        asked(**values)


def test_the_short_form_stands_for_a_table() -> None:
    assert asked().chosen_cluster == Local()
    assert asked(workers=3, memory_gb=2).chosen_cluster == Local(workers=3, memory_gb=2)
    there = Existing(address="tcp://[::1]:8786", memory_gb=4)
    assert asked(dask_address="tcp://[::1]:8786", memory_gb=4).chosen_cluster == there
    assert asked(cluster=there.model_dump()).chosen_cluster == there


def test_a_run_is_repeated_on_other_workers() -> None:
    there = asked(cluster={"kind": "slurm", "workers": 1, **SIZE}).model_dump()
    assert asked(**elsewhere(there, {})).chosen_cluster == Slurm(workers=1, **SIZE)
    larger = asked(**elsewhere(there, {"memory_gb": 64})).chosen_cluster
    assert larger == Slurm(workers=1, cores=8, memory_gb=64)
    assert asked(**elsewhere(there, {"workers": 2})).chosen_cluster == Local(workers=2)
    address = {"dask_address": "tcp://a:1"}
    assert asked(**elsewhere(asked(workers=2).model_dump(), address)).chosen_cluster.place


def test_this_machine_decides_what_was_not_said() -> None:
    assert Local().settled(cores=8, gpus=0) == Local(workers=1, cores=8)
    assert Local().settled(cores=8, gpus=4) == Local(workers=4, cores=2)
    assert Local(workers=3).settled(cores=8, gpus=4) == Local(workers=3, cores=2)
    assert Local(maximum=16).settled(cores=8, gpus=0) == Local(maximum=16, cores=1)
    assert Cuda(devices=(1,)).settled(cores=8, gpus=4) == Cuda(devices=(1,), cores=8)
    assert Cuda().settled(cores=8, gpus=4).cores == 2


def test_no_gpu_is_told() -> None:
    with pytest.raises(SpecError, match=r"kind = 'cuda': this run sees no GPU.*nvidia-smi"):
        Cuda().settled(cores=8, gpus=0)


@pytest.mark.parametrize(
    ("cluster", "module", "extra"),
    [
        (Cuda(), "dask_cuda", "cuda"),
        (Slurm(workers=1, **SIZE), "dask_jobqueue", "jobqueue"),
        (Pbs(workers=1, **SIZE), "dask_jobqueue", "jobqueue"),
        (Kubernetes(workers=1, image="i", **SIZE), "dask_kubernetes", "kubernetes"),
        (Ssh(hosts=("a",), **SIZE), "asyncssh", "ssh"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    cluster: Any, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = module.replace("_", "-")
    with pytest.raises(SpecError, match=rf"package {package}; pip install 'segpipe\[{extra}\]'"):
        connect(cluster)


# --- what is asked for --------------------------------------------------------------------------


def jobs(cluster: Slurm | Pbs) -> list[str]:
    """The lines of the script that is submitted for each worker."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is absent (the extra jobqueue)")
    with job_cluster(cluster) as made:
        script = made.job_script()
    checked = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr
    return script.splitlines()


BATCH: dict[str, Any] = {
    **SIZE,
    "workers": 4,
    "queue": "gpu",
    "account": "lab",
    "walltime": "1-04:00:00",
    "prologue": ("module load cuda",),
    "python": "/venv/bin/python",
}


@pytest.mark.parametrize("kind", [Slurm, Pbs])
def test_a_job_is_one_worker_in_the_environment_of_a_local_one(kind: type[Slurm | Pbs]) -> None:
    lines = jobs(kind(**BATCH))
    *_, command = filter(None, lines)
    assert command.startswith("/venv/bin/python -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 1 " in command
    # A day and four hours, less five minutes.
    assert "--lifetime 100500s --lifetime-stagger 150s" in command
    exports = {f"export {name}={value}" for name, value in exported(8).items()}
    assert exports < set(lines)
    assert max(map(lines.index, exports)) < lines.index("module load cuda")


def test_the_head_of_a_slurm_job() -> None:
    head = {line for line in jobs(Slurm(**BATCH, job_lines=("--gres=gpu:1",))) if "#SBATCH" in line}
    assert head == {
        "#SBATCH -J segpipe-worker",
        "#SBATCH -p gpu",
        "#SBATCH -A lab",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=30G",
        "#SBATCH -t 1-04:00:00",
        "#SBATCH --gres=gpu:1",
    }


def test_the_head_of_a_pbs_job() -> None:
    head = {line for line in jobs(Pbs(**BATCH)) if "#PBS" in line}
    assert head == {
        "#PBS -N segpipe-worker",
        "#PBS -q gpu",
        "#PBS -A lab",
        "#PBS -l select=1:ncpus=8:mem=32000mb",
        "#PBS -l walltime=28:00:00",
    }


PODS: dict[str, Any] = {
    **SIZE,
    "image": "registry.example.org/segpipe:0.1.0",
    "gpus": 1,
    "secrets": ("object-store",),
    "claims": {"archive": "/archive"},
    "service_account": "worker",
    "nodes": {"gpu": "yes"},
}


def test_the_resource_of_kubernetes_is_what_the_operator_takes() -> None:
    package = pytest.importorskip(
        "dask_kubernetes", reason="dask-kubernetes is absent (the extra kubernetes)"
    )
    import jsonschema

    made = engine_kubernetes.manifest(Kubernetes(workers=3, **PODS))
    folder = Path(package.__file__).parent / "operator" / "deployment" / "helm"
    (path,) = folder.glob("*/crds/daskcluster.yaml")
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    schema = closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    jsonschema.Draft202012Validator(schema).validate(made["spec"])
    made["spec"]["worker"]["spec"]["containers"][0]["memory"] = "1"
    with pytest.raises(jsonschema.ValidationError, match="memory"):  # the check can fail
        jsonschema.Draft202012Validator(schema).validate(made["spec"])

    assert made["spec"]["worker"]["replicas"] == 3
    pod = made["spec"]["worker"]["spec"]
    (container,) = pod["containers"]
    assert {each["name"]: each["value"] for each in container["env"]} == exported(8)
    assert container["args"][:6] == [
        "dask", "worker", "--nthreads", "1", "--memory-limit", "32000000000",
    ]  # fmt: skip
    limits = {"cpu": "8", "memory": "32000000000", "nvidia.com/gpu": "1"}
    assert container["resources"] == {"limits": limits, "requests": limits}
    assert container["envFrom"] == [{"secretRef": {"name": "object-store"}}]
    assert container["volumeMounts"] == [{"name": "archive", "mountPath": "/archive"}]
    assert pod["nodeSelector"] == {"gpu": "yes"}


def closed(schema: Any) -> Any:
    """An OpenAPI schema as a JSON schema in which an unknown key is an error, as in a cluster."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields", False)
    if isinstance(schema.get("properties"), dict) and "type" in schema and not is_open:
        made.setdefault("additionalProperties", False)
    return made


def test_cuda_is_asked_for_with_arguments_that_it_has() -> None:
    package = pytest.importorskip("dask_cuda", reason="dask-cuda is absent (the extra cuda)")
    from distributed import LocalCluster

    known = set(inspect.signature(package.LocalCUDACluster.__init__).parameters)
    known |= set(inspect.signature(LocalCluster.__init__).parameters)
    assert set(engine_cuda.options_of(Cuda(devices=(1, 3), cores=2), gpus=2)) < known


def test_hosts_are_asked_for_one_task_at_a_time() -> None:
    options = engine_ssh.options_of(Ssh(hosts=("a", "b"), workers=2, user="me", **SIZE))
    assert options["hosts"] == ["a", "a", "b"], "the first is the scheduler's"
    assert options["connect_options"] == {"username": "me"}, "the rest is in ~/.ssh"
    assert options["worker_options"]["nthreads"] == 1
    assert options["worker_options"]["memory_limit"] == 32_000_000_000


# --- waiting ------------------------------------------------------------------------------------


def test_a_run_without_workers_says_so_and_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    vigil = Vigil(Patience(3600, "the lab", "ring them up"), lambda: now)
    caplog.set_level(logging.WARNING, "segpipe")
    vigil.look(0)
    now = 9
    vigil.look(0)
    assert not caplog.messages, "a nanny may be starting it again"
    now = 11
    vigil.look(0)
    vigil.look(0)
    assert caplog.messages == ["the lab: waiting for workers, for 60 minutes at most; ring them up"]
    vigil.look(2)
    assert caplog.messages[1:] == ["the lab: 2 workers have come"]
    now = 4000
    vigil.look(0)
    now = 7599
    vigil.look(0)
    now = 7600
    with pytest.raises(EngineError, match="the lab: no worker for 60 minutes; ring them up"):
        vigil.look(0)


def test_a_queue_may_take_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    times = iter((0.0, 3600.0, 86_400.0))
    vigil = Vigil(Patience.of(Slurm(workers=1, queue="gpu", **SIZE)), lambda: next(times))
    for _ in range(3):
        vigil.look(0)
    assert "the SLURM queue gpu: waiting for workers, for as long as it takes" in caplog.messages[0]


def test_how_long_is_said_in_the_table() -> None:
    assert Existing(address="tcp://a:1").wait_seconds == 600
    assert Existing(address="tcp://a:1", wait_minutes=0.5).wait_seconds == 30
    assert Slurm(workers=1, wait_minutes=90, **SIZE).wait_seconds == 5400
