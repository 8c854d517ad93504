"""`segpipe bench pipeline`: that it measures what it says; how fast anything is is not tested."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segpipe.bench.conditions import describe_conditions
from segpipe.bench.images import write_images
from segpipe.bench.loops import BATCH, Job, images_per_second, load, read
from segpipe.bench.pipeline import measure
from segpipe.bench.pipeline_report import STAGES, WAITS, PipelineReport
from segpipe.errors import SpecError
from segpipe.execution import planned
from segpipe.progress import Progress
from segpipe.readers import Reader, list_collection
from segpipe.records import RunSummary
from segpipe.segmenters.build import build
from segpipe.segmenters.catalog import resolve
from segpipe.spec import Limits, RunSpec

SHAPE = (96, 64)


def run_without_a_server(spec: RunSpec, observe: Callable[[Progress], None]) -> RunSummary:
    """What the flow does, without the half minute that its server takes to start."""
    with planned(spec) as (run,), run.staffed(), run.recorded():
        observe(run.progress)
        for progress in run.process():
            observe(progress)
    return run.summary


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("fields")
    write_images(folder, BATCH + 2, SHAPE, nuclei=True)
    return folder


def test_the_whole_pipeline_is_measured_beside_its_forward_pass(fields: Path) -> None:
    spec = RunSpec(source=str(fields), store="", model="classical", chunk_images=4)
    measured = measure(spec, resolve(spec), 1, (), run_without_a_server, lambda what: None)
    (found,) = measured.rounds
    report = PipelineReport(measured, describe_conditions())
    result = report.to_dict()

    assert measured.sizes == {"96 x 64": BATCH + 2}
    assert found.end_to_end.images == BATCH + 2 - 4  # the first chunk is not counted
    speeds = result["images_per_second"]
    share = speeds["end_to_end"] / speeds["forward_only"]
    assert result["share_of_forward_only"] == pytest.approx(share)
    stages = result["milliseconds_per_image"]
    assert set(stages) == {*STAGES, "orchestrate", *WAITS}
    assert all(stages[stage]["wall"] > 0 for stage in STAGES)
    assert all("cores" not in stages[wait] for wait in WAITS)
    assert result["seconds"]["whole_command"] > result["seconds"]["start"] > 0
    assert result["peak_mb"]["worker"] > 50
    for said in ("forward pass alone", "orchestrate", "between chunks", "10 of 96 x 64"):
        assert said in report.to_text()


def test_a_single_chunk_is_too_little(fields: Path) -> None:
    spec = RunSpec(source=str(fields), store="", model="classical", chunk_images=BATCH + 2)
    with pytest.raises(SpecError, match="are one chunk"):
        measure(spec, resolve(spec), 1, (), run_without_a_server, lambda what: None)


@pytest.mark.parametrize("name", ["loop", "dataloader"])
def test_a_loop_writes_masks_and_rows(name: str, fields: Path, tmp_path: Path) -> None:
    model = resolve(RunSpec(source="", store="", model="unet-nuclei", device="cpu"))
    assert model.weights_path is not None
    paths = sorted(fields.iterdir())
    job = Job(model.spec, model.weights_path, paths, tmp_path, workers=1)
    assert images_per_second(name, job) > 0
    masks = {path.stem: np.load(path) for path in tmp_path.glob("*.npy")}
    assert set(masks) == {path.stem for path in paths}
    rows = (tmp_path / "objects.csv").read_text().splitlines()
    assert len(rows) == sum(len(np.unique(mask[mask > 0])) for mask in masks.values())


@pytest.mark.parametrize("name", ["unet-nuclei", "mask-rcnn-nuclei"])
def test_a_loop_finds_what_segpipe_finds(name: str, fields: Path) -> None:
    options = {"object_diameter": 0} if name == "unet-nuclei" else {}
    asked = {"source": "", "store": "", "model": name, "options": options}
    model = resolve(RunSpec(**asked, device="cpu", precision="fp32"))
    assert model.weights_path is not None
    ours, theirs = build(model.spec, model.weights_path), load(model.spec, model.weights_path)
    ref = next(iter(list_collection(str(fields))))
    with Reader(Limits()) as reader:
        image = reader.read(ref)
    expected = ours.finish(ours.forward([ours.prepare(image)])[0], image).label_image > 0
    _, planes = read(fields / ref.path, model.spec.model.preprocess)
    found = theirs([planes])[0] > 0
    assert expected.any()
    assert np.logical_and(expected, found).sum() >= 0.97 * np.logical_or(expected, found).sum()


def test_photographs_are_generated_too(tmp_path: Path) -> None:
    write_images(tmp_path, 2, SHAPE, nuclei=False)
    first, second = (np.asarray(Image.open(path)) for path in sorted(tmp_path.iterdir()))
    assert first.shape == second.shape == (*SHAPE, 3)
    assert (first != second).any()
