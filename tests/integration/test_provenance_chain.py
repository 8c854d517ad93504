"""`segpipe provenance` and `segpipe reproduce` on a run that was really made."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segpipe.errors import SpecError
from segpipe.execution import planned
from segpipe.export.labels import export_labels
from segpipe.provenance.chain import Chain
from segpipe.provenance.installed import installed_code, installed_weights, other_code
from segpipe.provenance.runs import find_run, list_runs, named_run, trace_run
from segpipe.provenance.trace import trace_image, trace_object
from segpipe.records import digest
from segpipe.report.origin import chain_text, runs_text
from segpipe.reproduction import reproduce
from segpipe.reproduction.sample import sample_rows
from segpipe.reproduction.verdict import verdict_text
from segpipe.segmenters.catalog import SHIPPED
from segpipe.segmenters.weights import sha256_file
from segpipe.spec import RunSpec
from segpipe.store import Snapshot, open_store
from segpipe.store.compaction import compact
from tests.generated import blobs, make_collection

Command = Callable[..., tuple[int, str, str]]

STORES = Path(__file__).resolve().parents[1] / "stores"
HOSTILE = "a:\x1b[31m\u202e\n<b>.png"
"""A name with a colon, a control code, text turned around, a line and markup."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images/`, of which one is broken and one has a hostile name, and their `store/`."""
    root = tmp_path_factory.mktemp("made")
    images = make_collection(root / "images", 6, broken=[1])
    Image.fromarray(blobs(41, (64, 64))).save(images / HOSTILE)
    spec = RunSpec(source=str(images), store=str(root / "store"), model="classical", chunk_images=4)
    with planned(spec) as (run,), run.staffed(), run.recorded():
        for _ in run.process():
            pass
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """Of the store, to be damaged."""
    return shutil.copytree(made / "store", tmp_path / "store")


def with_objects(snapshot: Snapshot) -> dict[str, Any]:
    return next(row for row in snapshot.image_rows() if row["n_objects"])


def broken(chain: Chain) -> list[str]:
    return [check.subject for check in chain.broken]


# Provenance


def test_an_object_leads_to_the_bytes_the_spec_the_code_and_the_machine(made: Path) -> None:
    snapshot = open_store(made / "store")
    row = with_objects(snapshot)
    chain = trace_object(snapshot, f"{row['image_id']}:1", verify=True)
    assert [link.name for link in chain.links] == [
        *("object", "image", "chunk", "attempt", "run", "spec", "weights", "code"),
        *("environment", "machine"),
    ]
    assert chain.broken == []
    facts = {link.name: link.facts for link in chain.links}
    assert facts["object"]["label"] == 1
    assert facts["image"]["sha256"] == sha256_file(made / "images" / row["path"])
    stored = facts["attempt"]["files"]
    assert {Path(name).suffix for name in stored} >= {".json", ".parquet"}
    for name, about in stored.items():
        assert sha256_file(made / "store" / name) == about["sha256"]
    spec = facts["spec"]
    assert digest("spec", spec["values"]) == spec["spec_id"] == row["spec_id"]
    assert facts["run"]["status"] == "completed"
    assert facts["code"]["segpipe"] == installed_code()["segpipe"]
    assert facts["machine"]["workers"][0]["workers"] == 1
    assert facts["weights"]["sha256"] is None
    json.dumps(chain.to_dict())


@pytest.mark.parametrize("pattern", ["masks.zarr/*/label_image/c/*/*/*", "objects/*", "images/*"])
def test_a_tampered_byte_is_found(copy: Path, pattern: str) -> None:
    row = with_objects(open_store(copy))
    (path,) = (p for p in copy.glob(pattern) if row["chunk_id"] in str(p))
    data = bytearray(path.read_bytes())
    # In a table, the name of the library that wrote it: all else is read as before.
    place = data.find(b"parquet-cpp") if path.suffix == ".parquet" else len(data) // 2
    data[place] ^= 1
    path.unlink()
    path.write_bytes(data)
    snapshot = open_store(copy)
    chain = trace_image(snapshot, row["image_id"])
    assert str(path.relative_to(copy)) in broken(chain)
    assert "do not hold" in chain_text(chain)
    verified = trace_run(snapshot, find_run(snapshot.files, "latest"), verify=True)
    assert str(path.relative_to(copy)) in broken(verified)


def test_a_forged_commit_record_and_spec_are_found(copy: Path) -> None:
    snapshot = open_store(copy)
    row = with_objects(snapshot)
    commit = copy / "commits" / f"{row['chunk_id']}.json"
    commit.write_text(commit.read_text().replace('"n_images": 4', '"n_images": 5'))
    record = copy / "runs" / row["run_id"] / "record.json"
    record.write_text(record.read_text().replace('"min_area": 30', '"min_area": 31'))
    found = broken(trace_image(snapshot, row["image_id"]))
    assert str(commit.relative_to(copy)) in found
    assert {"spec_id", str(record.relative_to(copy))} <= set(found)


def test_a_row_is_told_as_committed_and_not_as_a_compaction_copied_it(copy: Path) -> None:
    compact(open_store(copy).files)
    snapshot = open_store(copy)
    assert trace_image(snapshot, with_objects(snapshot)["image_id"]).broken == []


def test_an_image_that_changed_or_is_gone_is_told(made: Path, tmp_path: Path) -> None:
    snapshot = open_store(made / "store")
    row = with_objects(snapshot)
    path = made / "images" / row["path"]
    before = path.read_bytes()
    assert trace_image(snapshot, row["path"], verify=False).broken == []
    try:
        path.write_bytes(before[:-1] + b"x")
        (changed,) = trace_image(snapshot, row["path"], verify=True).broken
        path.unlink()
        (gone,) = trace_image(snapshot, row["path"], verify=True).broken
    finally:
        path.write_bytes(before)
    assert "other bytes" in changed.detail
    assert "cannot be read" in gone.detail


def test_a_failed_image_has_a_chain_too(made: Path) -> None:
    chain = trace_image(open_store(made / "store"), "1/image-001.png")
    assert chain.broken == []
    assert "failed: truncated" in chain_text(chain)


def test_strange_names_are_told_without_control_codes(made: Path, copy: Path) -> None:
    snapshot = open_store(copy)
    (row,) = (row for row in snapshot.image_rows() if "<b>" in row["path"])
    record = copy / "runs" / row["run_id"] / "record.json"
    source = json.dumps(str(made / "images"))[1:-1]
    record.write_text(record.read_text().replace(source, source + json.dumps(HOSTILE)[1:-1]))
    texts = [
        chain_text(trace_object(snapshot, f"{row['path']}:1")),
        chain_text(trace_run(snapshot, row["run_id"])),
        runs_text(list_runs(snapshot)),
    ]
    for text in texts:
        assert "\\x1b[31m\\u202e\\n<b>.png" in text
        assert all(letter.isprintable() for letter in text.replace("\n", ""))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0/image-000.png", "IMAGE:LABEL"),
        ("0/image-000.png:x", "IMAGE:LABEL"),
        ("0/image-000.png:999", "no object 999"),
        ("1/image-001.png:1", "the image failed: truncated"),
        ("nowhere.png:1", "no image"),
    ],
)
def test_an_object_that_is_not_there_is_refused(made: Path, name: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        trace_object(open_store(made / "store"), name)


def test_runs_are_found_by_their_beginning(made: Path) -> None:
    files = open_store(made / "store").files
    run_id = find_run(files, "latest")
    assert find_run(files, run_id[:12]) == run_id
    with pytest.raises(SpecError, match="no run"):
        find_run(files, "1999")


@given(st.lists(st.text("ab1", min_size=1, max_size=4), unique=True).map(sorted), st.text("ab1"))
def test_a_run_is_named_by_no_more_than_it_takes(runs: list[str], name: str) -> None:
    fitting = [run for run in runs if run.startswith(name)]
    if name in runs:
        assert named_run(runs, name) == name
    elif len(fitting) > 1:
        with pytest.raises(SpecError, match=f"fits {len(fitting)} runs"):
            named_run(runs, name)
    else:
        assert named_run(runs, name) == (fitting[0] if fitting else None)
    for back in range(len(runs)):
        assert named_run(runs, f"latest~{back}") == runs[-1 - back]
    assert named_run(runs, f"latest~{len(runs)}") is None


def test_an_older_store_answers_too(tmp_path: Path) -> None:
    zipfile.ZipFile(STORES / "format-1.zip").extractall(tmp_path)
    snapshot = open_store(tmp_path / "store")
    assert trace_object(snapshot, f"{with_objects(snapshot)['image_id']}:1").broken == []
    assert trace_run(snapshot, find_run(snapshot.files, "latest"), verify=True).broken == []
    assert "4 images, 1 failed, 10 objects" in runs_text(list_runs(snapshot))


def test_weights_here_are_held_against_those_of_then() -> None:
    sha256 = sha256_file(SHIPPED / "unet-nuclei.safetensors")
    same = installed_weights("unet-nuclei", sha256)
    assert same["same"]
    assert same["training"]["recipe_sha256"]
    other = installed_weights("unet-nuclei", "0" * 64)
    assert (other["same"], other["sha256"]) == (False, sha256)
    assert installed_weights("/etc/hostname", "0" * 64)["sha256"] is None  # not looked into


def test_other_code_is_told() -> None:
    then = {"segpipe": "0.1.0", "git": {"commit": "a" * 40, "dirty": False}}
    assert other_code(then, then) == ""
    assert "0.2.0" in other_code(then, {**then, "segpipe": "0.2.0"})
    assert "b" * 12 in other_code(then, {**then, "git": {"commit": "b" * 40, "dirty": False}})
    assert "now" in other_code(then, {**then, "git": {"commit": "a" * 40, "dirty": True}})


def test_the_command_says_with_its_exit_code_whether_the_chain_holds(
    segpipe: Command, copy: Path, tmp_path: Path
) -> None:
    snapshot = open_store(copy)
    row = with_objects(snapshot)
    code, out, _ = segpipe("provenance", copy, "--object", f"{row['path']}:1", "--json")
    assert (code, json.loads(out)["holds"]) == (0, True)
    code, out, _ = segpipe("provenance", copy)
    assert (code, row["run_id"] in out) == (0, True)
    code, out, _ = segpipe("provenance", copy, "--run", "latest", "--crate", tmp_path / "c.zip")
    assert code == 0
    assert zipfile.ZipFile(tmp_path / "c.zip").testzip() is None
    assert segpipe("provenance", copy, "--crate", tmp_path / "d.zip")[0] == 2
    (copy / "objects" / f"{row['chunk_id']}.parquet").unlink()
    assert segpipe("provenance", copy, "--image", row["path"])[0] == 1


# Reproduce


def test_a_run_comes_again_to_the_last_bit(made: Path) -> None:
    snapshot = open_store(made / "store")
    run_id = find_run(snapshot.files, "latest")
    before = sorted(path for path in (made / "store").rglob("*"))
    found = reproduce(snapshot, run_id, images=100)
    assert found.reproduced
    assert (found.images, found.count("identical"), found.left_out) == (7, 7, ())
    assert "identical: 7 images" in verdict_text(found)
    assert sorted(path for path in (made / "store").rglob("*")) == before


def test_the_latest_run_to_reproduce_is_one_that_did_something(
    made: Path, copy: Path, segpipe: Command
) -> None:
    labels = copy.parent / "labels"
    export_labels(open_store(copy), labels)
    assert segpipe("run", made / "images", "--store", copy, "--model", "classical")[0] == 0
    run_id = max(row["run_id"] for row in open_store(copy).image_rows())
    assert segpipe("run", made / "images", "--store", copy, "--model", "classical")[0] == 0
    assert segpipe("import", copy, "--truth", labels)[0] == 0
    newest = find_run(open_store(copy).files, "latest")
    assert newest != run_id
    code, out, said = segpipe("reproduce", copy, "latest", "--images", "2", "--json")
    assert (code, json.loads(out)["run_id"]) == (0, run_id)
    assert run_id in said
    code, _, said = segpipe("reproduce", copy, newest)
    assert code == 2
    assert f"no run {newest!r} with results of a model" in said
    assert run_id in said


def test_a_sample_is_the_same_for_the_same_seed(made: Path) -> None:
    snapshot = open_store(made / "store")
    run_id = find_run(snapshot.files, "latest")
    samples = [
        [row["path"] for row in sample_rows(snapshot, run_id, 3, seed)[1]] for seed in (0, 0, 1)
    ]
    assert samples[0] == samples[1]
    assert samples[0] != samples[2]
    assert all(len(sample) == 3 for sample in samples)


def test_what_changed_is_told_and_left_out(made: Path) -> None:
    snapshot = open_store(made / "store")
    path = made / "images" / "0" / "image-000.png"
    before = path.read_bytes()
    Image.fromarray(np.zeros((64, 48), np.uint8)).save(path)
    try:
        found = reproduce(snapshot, find_run(snapshot.files, "latest"), images=100)
    finally:
        path.write_bytes(before)
    assert found.reproduced
    assert [left.path for left in found.left_out] == ["0/image-000.png"]
    assert "other bytes" in found.left_out[0].why


def forged(copy: Path, **options: object) -> str:
    """A record that says other options than those that the results are of."""
    run_id = find_run(open_store(copy).files, "latest")
    path = copy / "runs" / run_id / "record.json"
    record = json.loads(path.read_text())
    record["segment_spec"]["options"] |= options
    path.write_text(json.dumps(record))
    return run_id


def test_another_result_is_found_and_said_in_numbers(copy: Path, segpipe: Command) -> None:
    run_id = forged(copy, smoothing=1.4)
    found = reproduce(open_store(copy), run_id, images=100)
    assert not found.reproduced
    unlike = [one for one in found.compared if one.outcome == "different"]
    assert unlike
    assert any(one.pixels for one in unlike)
    assert any("area" in (one.columns or {}) for one in unlike)
    assert "different: " in verdict_text(found)
    code, out, _ = segpipe("reproduce", copy, run_id, "--images", "100", "--json")
    assert (code, json.loads(out)["reproduced"]) == (1, False)


def test_a_tolerance_allows_what_it_says(copy: Path) -> None:
    run_id = forged(copy, smoothing=1.01)
    exact = reproduce(open_store(copy), run_id, images=100)
    wide = reproduce(open_store(copy), run_id, images=100, tolerance=0.5)
    assert not exact.reproduced
    assert wide.reproduced
    assert wide.count("within tolerance") == exact.count("different")


def test_other_weights_are_refused_with_both_hashes(copy: Path) -> None:
    run_id = find_run(open_store(copy).files, "latest")
    path = copy / "runs" / run_id / "record.json"
    record = json.loads(path.read_text())
    model = {"name": "unet-nuclei", "kind": "unet", "weights_sha256": "5e" * 32}
    record["segment_spec"]["model"] |= model
    record["run_spec"]["model"] = "unet-nuclei"
    path.write_text(json.dumps(record))
    here = sha256_file(SHIPPED / "unet-nuclei.safetensors")
    with pytest.raises(SpecError, match=f"(?s){'5e' * 32}.*{here}"):
        reproduce(open_store(copy), run_id, images=1)


def test_a_truth_is_not_segmented_again(copy: Path) -> None:
    run_id = find_run(open_store(copy).files, "latest")
    path = copy / "runs" / run_id / "record.json"
    record = json.loads(path.read_text())
    truth = {"name": "truth", "kind": "truth", "weights_sha256": "7a" * 32}
    record["segment_spec"]["model"] |= truth
    record["run_spec"]["model"] = "truth"
    path.write_text(json.dumps(record))
    with pytest.raises(SpecError, match="brought in a truth"):
        reproduce(open_store(copy), run_id, images=1)
    assert "was imported, from files" in chain_text(trace_run(open_store(copy), run_id))
