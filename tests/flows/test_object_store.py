"""`segpipe run` into a bucket, through Prefect and Dask, by its address alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import obstore
from obstore.store import from_url

from segpipe.pipeline import process_chunk
from segpipe.records import Chunk
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import RunSpec
from segpipe.store import Snapshot, create_store, open_store
from segpipe.store.digest import logical_digest
from segpipe.store.fsck import check_store
from tests import s3 as server
from tests.generated import make_collection, refs
from tests.servers.process import SEGPIPE


def test_a_run_into_a_bucket(
    environment: dict[str, str], prefect_api: str, s3: str, tmp_path: Path
) -> None:
    images = make_collection(tmp_path / "images", 6, broken=[4])
    address = server.new_address()
    command = ["run", str(images), "--store", address, "--model", "classical", "--json"]
    command += ["--chunk-images", "2", "--max-failed", "0.5"]
    variables = {**environment, "PREFECT_API_URL": prefect_api, **server.environment(s3)}
    done = subprocess.run([*SEGPIPE, *command], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["store"], summary["ok"], summary["failed"]) == (address, 5, 1)

    snapshot = open_store(address)
    assert [record["status"] for record in snapshot.records()] == ["completed"]
    assert list(check_store(snapshot.files)) == []
    assert logical_digest(snapshot) == _digest_of_a_folder(images, tmp_path / "local")

    objects = from_url(address, client_options={"allow_http": True})
    paths = [meta["path"] for meta in obstore.list(objects).collect()]
    assert len(paths) > 20
    for path in paths:
        assert server.SECRET.encode() not in bytes(obstore.get(objects, path).bytes())
    assert server.SECRET not in done.stdout + done.stderr


def test_a_run_over_a_bucket_of_images(
    environment: dict[str, str], prefect_api: str, s3: str, tmp_path: Path
) -> None:
    source = server.new_address()
    objects = from_url(source, client_options={"allow_http": True})
    for path in make_collection(tmp_path / "images", 6).rglob("*.png"):
        obstore.put(objects, path.name, path)
    store = tmp_path / "store"
    command = ["run", f"{source}/", "--store", str(store), "--model", "classical", "--json"]
    variables = {**environment, "PREFECT_API_URL": prefect_api, **server.environment(s3)}
    done = subprocess.run([*SEGPIPE, *command], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["ok"] == 6
    assert list(check_store(open_store(store).files)) == []
    assert {row["uri"].rpartition("/")[0] for row in open_store(store).image_rows()} == {source}
    for path in (path for path in store.rglob("*") if path.is_file()):
        assert server.SECRET.encode() not in path.read_bytes()


def _digest_of_a_folder(images: Path, folder: Path) -> str:
    """What the same model makes of the images in this process, in a local store."""
    model = resolve(RunSpec(source=str(images), store=str(folder), model="classical"))
    files = create_store(folder)
    segmenter = build(model.spec, model.weights_path, 1)
    process_chunk(Chunk(model.spec.spec_id, refs(images)), segmenter, files, "run")
    return logical_digest(Snapshot(files))
