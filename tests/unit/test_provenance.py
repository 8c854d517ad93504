"""Records say how results came to be, and keep no secret."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.provenance.crate import crate_json
from segpipe.provenance.environment import describe_checkout, describe_environment
from segpipe.provenance.record import (
    MAX_LISTED_FAILURES,
    Device,
    FailedImage,
    PlanSummary,
    RunRecord,
    WorkerKind,
    finish_record,
    start_record,
)
from segpipe.provenance.redact import redact, redact_text, redact_url
from segpipe.provenance.tally import Tally
from segpipe.records import Commit, RunSummary, StoredFile
from segpipe.spec import ClassicalOptions, ModelSpec, RunSpec, SegmentSpec

SECRET = "hunter2SECRET"
STARTED = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC)
SPEC = SegmentSpec(model=ModelSpec(name="classical", kind="classical"), options=ClassicalOptions())


def started(**run_spec: Any) -> RunRecord:
    return start_record(
        "r1",
        STARTED,
        RunSpec(**{"source": "in", "store": "out", **run_spec}),
        SPEC,
        environment={"segpipe": "0.1.0", "git": None, "packages": {"numpy": "2"}},
        device=Device("cpu", "a processor", "fp32"),
        threads=2,
        plan=PlanSummary(digest="d" * 64, chunks=2, images=5, skipped=1, refused=1),
    )


def commit(name: str, failures: dict[str, int]) -> Commit:
    return Commit(
        chunk_id=name,
        spec_id=SPEC.spec_id,
        run_id="r1",
        attempt="a",
        n_images=3,
        n_ok=3 - sum(failures.values()),
        n_objects=7,
        masks={"m": StoredFile(100, "0" * 64)},
        parts={"images": StoredFile(10, "1" * 64), "objects": StoredFile(1, "2" * 64)},
        failures=failures,
        seconds={"decode": 0.5},
    )


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (f"s3://key:{SECRET}@bucket/a/b.png", "s3://***@bucket/a/b.png"),
        (f"s3://key:{SECRET}/with/slashes@bucket/a", "s3://***@bucket/a"),
        (f"https://{SECRET}@host/a", "https://***@host/a"),
        (f"https://user:a@{SECRET}@host/a", "https://***@host/a"),
        (f"https://user:a b {SECRET}@host/a", "https://***@host/a"),
        (f"https://host/a.zip?token={SECRET}", "https://host/a.zip?token=***"),
        (f"https://h/a?versionId=7&X-Sig={SECRET}", "https://h/a?versionId=7&X-Sig=***"),
        (
            f"https://h/a?x;sig={SECRET}#access_token={SECRET}",
            "https://h/a?x;sig=***#access_token=***",
        ),
        (f"tls://user:{SECRET}@scheduler:8786", "tls://***@scheduler:8786"),
        (f"user:{SECRET}@scheduler:8786", "***@scheduler:8786"),
        (f"zip://a.png::s3://k:{SECRET}@b/a.zip", "zip://a.png::s3://***@b/a.zip"),
        (f"filecache://::https://u:{SECRET}@h/a?k={SECRET}", "filecache://::https://***@h/a?k=***"),
    ],
)
def test_an_address_loses_its_secrets_and_stays_readable(address: str, expected: str) -> None:
    assert redact_url(address) == expected


@pytest.mark.parametrize(
    "place",
    [
        "/data/plate 1/a@b.png",
        "plates/*/w?[12].tif",
        "tcp://10.0.0.1:8786",
        "https://host:8080/folder/@latest/a.png",
        "file:///data/a%3Db.zip!/c%40d.png",
        "a?b=c.png",
        "C:\\data\\user@host",
        "unet-nuclei",
        "",
    ],
)
def test_what_holds_no_secret_is_not_altered(place: str) -> None:
    assert redact_url(place) == place
    assert redact_text(place) == place


@given(
    user=st.text("abcXYZ09._~-%", max_size=8),
    password=st.text(
        st.characters(exclude_categories=["C", "Z"], exclude_characters="/?#:"), max_size=8
    ),
    path=st.text("abc/._-", max_size=8),
)
def test_no_password_survives(user: str, password: str, path: str) -> None:
    planted = f"{SECRET}{password}"
    assert SECRET not in redact_url(f"s3://{user}:{planted}@bucket/{path}")
    assert SECRET not in redact_text(
        f"cannot open s3://{user}:{planted}@bucket/{path}: no such key"
    )


def test_a_planted_secret_reaches_neither_record_nor_crate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("SEGPIPE_TOKEN", SECRET)
    url = f"s3://key:{SECRET}@bucket/x?token={SECRET}"
    record = started(
        source=url, store=url, model=url, dask_address=url, options={"deep": [{"x": url}]}
    )
    record = finish_record(
        record,
        "failed",
        STARTED,
        tally=Tally(),
        failed=[FailedImage("a.png", "read_error", f"GET {url}: 403")],
        summary=RunSummary("r1", url, 1, 0, 1, 0, 0, 1.0, 1.0),
        error=f"'{url}' cannot be written",
    )
    assert SECRET not in record.to_json()
    assert SECRET not in crate_json(record)
    assert SECRET not in json.dumps(describe_environment())


def test_redaction_keeps_everything_that_is_not_text() -> None:
    value = {"a": [1, 2.5, None, True], "b": {"c": "plain"}}
    assert redact(value) == value


# --- environment --------------------------------------------------------------------------------


def test_the_environment_names_code_packages_and_machine() -> None:
    found = describe_environment()
    assert found["packages"]["numpy"]
    assert found["cores"] >= 1
    assert all(found[key] for key in ("segpipe", "python", "platform", "cpu"))
    assert json.loads(json.dumps(found)) == found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True
        )

    (tmp_path / "code.py").write_text("a = 1\n")
    try:
        git("init")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_a_checkout_is_clean_until_a_tracked_file_changes(checkout: Path) -> None:
    clean = describe_checkout(checkout)
    assert clean is not None
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    (checkout / "output.log").write_text("not tracked")
    assert describe_checkout(checkout) == clean
    (checkout / "code.py").write_text("a = 2\n")
    assert describe_checkout(checkout) == {**clean, "dirty": True}


def test_a_hook_of_another_repository_does_not_mislead(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = describe_checkout(checkout)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert describe_checkout(checkout) == expected


def test_code_inside_a_strangers_checkout_is_not_that_checkout(checkout: Path) -> None:
    inside = checkout / "venv" / "site-packages"
    inside.mkdir(parents=True)
    assert describe_checkout(inside) is None


def test_without_git_there_is_no_commit_and_no_failure(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert describe_checkout(checkout) is None


# --- record -------------------------------------------------------------------------------------


def test_a_record_makes_the_round_trip_at_every_stage() -> None:
    begun = started()
    summary = RunSummary("r1", "out", 6, 4, 2, 1, 14, 2.0, 3.0)
    failed = [FailedImage("a\n=cmd.png", "corrupt", "bad CRC")]
    done = finish_record(
        begun,
        "completed",
        STARTED,
        tally=Tally([commit("x", {"corrupt": 1})]),
        failed=failed,
        summary=summary,
        workers=[WorkerKind(2, 4, {"MALLOC_ARENA_MAX": "1"})],
    )
    for record in (begun, done):
        assert RunRecord.from_json(record.to_json()) == replace(record, chunks=())


def test_a_record_from_before_workers_were_told_is_read() -> None:
    raw = json.loads(started().to_json())
    del raw["workers"]
    assert RunRecord.from_json(json.dumps(raw)) == started()


def test_a_finished_record_adds_up() -> None:
    commits = [commit("x", {"corrupt": 1}), commit("y", {"corrupt": 1, "too_large": 1})]
    many = [FailedImage(f"{i}.png", "corrupt", "") for i in range(MAX_LISTED_FAILURES + 1)]
    record = finish_record(started(), "completed", STARTED, tally=Tally(commits), failed=many)
    assert record.failures.by_reason == {"corrupt": 2, "too_large": 1}
    assert record.seconds == {"decode": 1.0}
    assert len(record.failures.listed) == MAX_LISTED_FAILURES
    assert [(chunk.chunk_id, chunk.ok) for chunk in record.chunks] == [("x", 2), ("y", 1)]
    assert (record.outputs.commits, record.outputs.files, record.outputs.bytes) == (2, 6, 222)


def test_times_are_utc_whatever_the_clock_speaks() -> None:
    east = timezone(timedelta(hours=5, minutes=30))
    record = finish_record(started(), "completed", STARTED.astimezone(east), tally=Tally())
    assert record.started == record.ended == "2026-01-02T03:04:05.678+00:00"
    with pytest.raises(ValueError, match="time zone"):
        finish_record(started(), "completed", STARTED.replace(tzinfo=None), tally=Tally())


@pytest.mark.parametrize("change", [{"format_version": 2}, {"status": "done"}, {"odd": 1}])
def test_a_record_of_another_kind_is_refused(change: dict[str, Any]) -> None:
    raw = json.loads(started().to_json()) | change
    with pytest.raises((ValueError, TypeError)):
        RunRecord.from_json(json.dumps(raw))
