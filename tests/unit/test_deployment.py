"""The files of a collection: what they say, and what is refused before they are written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from segpipe.clusters import Ssh
from segpipe.deployment.automations_file import automations_yaml
from segpipe.deployment.checks import check_machine
from segpipe.deployment.collection_file import collection_toml, explanations, toml
from segpipe.deployment.prefect_file import Nights, find_nights, prefect_yaml
from segpipe.deployment.reading import read_spec
from segpipe.engine.connect import PACKAGES
from segpipe.errors import SpecError
from segpipe.spec import Night, RunSpec, parse
from tests.generated import make_collection

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)
ASKED = {"source": "/data/plates", "store": "/data/results"}


@given(PLAIN)
def test_toml_reads_what_was_written(value: object) -> None:
    assert tomllib.loads(f"key = {toml(value)}") == {"key": value}


def test_a_collection_file_sets_what_is_set_and_shows_all_the_rest() -> None:
    values = {**ASKED, "model": "classical", "night": {"notify": ["slack-webhook/lab"]}}
    text = collection_toml("plates", values)
    assert parse(RunSpec, tomllib.loads(text), "x") == parse(RunSpec, values, "x")
    shown = re.sub(r"(?m)^#(?=\w+ = )", "", text)  # every default that is shown, set
    assert parse(RunSpec, tomllib.loads(shown), "x") == parse(RunSpec, values, "x")
    for key in (*RunSpec.model_fields, *Night.model_fields):
        assert re.search(rf"(?m)^#?\[?{key}\b", text), key
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("model", [RunSpec, Night])
def test_every_key_is_explained_or_offers_its_choices(model: type[BaseModel]) -> None:
    text = collection_toml("plates", ASKED)
    for key in set(model.model_fields) - set(explanations(model)):
        assert re.search(rf"# One of .*\n#{key} = |\[{key}\]", text), key


def test_a_prefect_file_is_read_back(tmp_path: Path) -> None:
    file, config = tmp_path / "prefect.yaml", tmp_path / 'a "b" ü.toml'
    nights = Nights("plates", config, "gpu")
    file.write_text(prefect_yaml(nights, file, "0 2 * * *", "Europe/Berlin"))
    assert find_nights(file, []) == find_nights(file, [config]) == [nights]
    other = tmp_path / "other.toml"
    assert find_nights(file, [other]) == [Nights("other", other)]


@pytest.mark.parametrize(
    "content", ["a: [", "[1]", "", "deployments: [{entrypoint: nightly.nightly}]"]
)
def test_a_file_that_is_no_prefect_file_is_refused_or_empty(tmp_path: Path, content: str) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(content)
    with pytest.raises(SpecError, match=r"prefect\.yaml"):
        find_nights(file, [])


def test_an_automation_without_the_id_of_its_block_is_none() -> None:
    for block in ("slack-webhook/lab", "webhook/lab"):
        text = automations_yaml("plates", {block: None}, Path("automations.yaml"))
        failed, silent, late = yaml.safe_load(text)["automations"]
        assert failed["actions"][0]["block_document_id"] == "BLOCK-ID"
        assert [a["type"] for a in silent["actions"]] == ["change-flow-run-state"]
        assert late["trigger"]["posture"] == "Proactive"
        related = [one["prefect.resource.name"] for one in failed["trigger"]["match_related"]]
        assert related == ["plates", "nightly"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('source = "plates"', "give a whole path"),
        ('model = "mine.safetensors"', "give a whole path"),
        ('store = "s3://user:secret@bucket/x"', "store: holds a password"),
        ('dask_address = "tcp://host:8786?token=secret"', "dask_address: holds a password"),
        ("workers = 0", "workers = 0"),
        ("modle = 1", "unknown key 'modle'"),
    ],
)
def test_what_a_deployment_must_not_hold_is_refused(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "plates.toml"
    others = {k: v for k, v in ASKED.items() if not line.startswith(k)}
    path.write_text(f"{line}\n" + "".join(f'{k} = "{v}"\n' for k, v in others.items()))
    with pytest.raises(SpecError, match=re.escape(says)) as refused:
        read_spec(path)
    assert "secret" not in str(refused.value)


def test_init_refuses_what_the_first_night_would(tmp_path: Path) -> None:
    """One process for all: an import of Prefect takes a second."""
    images = make_collection(tmp_path / "plates", 1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "plates.toml").write_text("mine")
    good = ["deploy", "init", str(images), "--store", str(tmp_path / "store")]
    wrong = [
        (["--cron", "0 25 * * *"], "0 25 * * *"),
        (["--timezone", "Europe/Berln"], "Europe/Berln"),
        (["--name", "../x"], "../x"),
        (["--pool", "a b"], "a b"),
        (["--notify", "slack"], "TYPE/NAME"),
        (["--out", str(tmp_path / "taken")], "--force"),
        (["--store", "ftp://x/y"], "ftp"),
    ]
    cases = [[*good, *arguments] for arguments, _ in wrong]
    cases.append(["deploy", "init", str(tmp_path / "absent"), "--store", "x"])
    program = (
        "import json, sys\nfrom segpipe.cli.main import main\n"
        "for sys.argv[1:] in json.load(sys.stdin):\n"
        "    try: main()\n"
        "    except SystemExit as end: print('code', end.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    said = done.stderr.split("code ")
    for (arguments, says), text, after in zip(
        [*wrong, ([], "absent")], said[:-1], said[1:], strict=True
    ):
        assert says in text, (arguments, text)
        assert after.startswith("2"), (arguments, text)
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plates", "taken"]
    assert (tmp_path / "taken" / "plates.toml").read_text() == "mine"


def test_check_works_without_a_server_and_says_so(tmp_path: Path) -> None:
    make_collection(tmp_path / "plates", 1)
    (tmp_path / "plates.toml").write_text(
        f'source = "{tmp_path}/plates"\nstore = "{tmp_path}/absent/store"\nmodel = "classical"\n'
        'dask_address = "tcp://127.0.0.1:9"\n'
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    done = subprocess.run(
        [sys.executable, "-m", "segpipe", "deploy", "check", "plates.toml", "--json"],
        env={**kept, "PREFECT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stderr
    states = {check["what"].split()[0]: check for check in json.loads(done.stdout)["checks"]}
    assert [states[what]["state"] for what in ("source", "store", "model")] == ["ok"] * 3
    assert states["Dask"]["state"] == "missing"
    assert "PREFECT_API_URL is not set" in states["Prefect"]["found"]
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(("installed", "state"), [(True, "ok"), (False, "missing")])
def test_a_package_that_the_cluster_needs_is_looked_for(
    installed: bool, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_collection(tmp_path / "images", 1)
    spec = RunSpec(
        source=str(tmp_path / "images"),
        store=str(tmp_path / "store"),
        model="classical",
        cluster=Ssh(hosts=("one",), workers=1, cores=1, memory_gb=1),
    )
    place = "os" if installed else "no_such_package"
    monkeypatch.setitem(PACKAGES, "ssh", (place, "ssh"))
    checks = {check.what: check for check in check_machine(spec)}
    assert checks["cluster ssh"].state == state
    assert ("segpipe[ssh]" in checks["cluster ssh"].found) is not installed
