"""Training learns, repeats itself for a seed, goes on where it stopped, and says what it did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from segpipe.errors import SpecError, WeightsError
from segpipe.segmenters.weights import load_tensors, read_header
from segpipe.training import Job, Trained, TrainingProgress, read_recipe, train
from segpipe.training.data import data_digest, list_data, of_split
from segpipe.training.history import LOSS, METRIC, History, overfits
from segpipe.training.loop import StepSampler, micro_batches
from segpipe.training.recipe import OptimiserRecipe, shipped_recipes
from segpipe.training.start import keep_what_fits
from segpipe.training.workplace import Workplace
from tests.annotated import DISCS, disc_folder, write_index


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a network gains nothing from more, and loses much on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return disc_folder(tmp_path_factory.mktemp("discs"))


def job(folder: Path, data: Path, text: str = DISCS, **changes: object) -> Job:
    """A job of a recipe's text, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    path = folder / "recipe.toml"
    path.write_text(text)
    recipe, text = read_recipe(path)
    return replace(Job(recipe, text, data, folder / "discs.safetensors", workers=0), **changes)


def run(work: Job) -> Trained:
    trained = train(work, lambda progress: None)
    assert trained is not None
    return trained


@pytest.fixture(scope="module")
def first(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.set_num_threads(1)
    return run(job(tmp_path_factory.mktemp("first"), discs))


def test_it_learns_and_says_what_it_learnt_from(first: Trained, discs: Path) -> None:
    steps, losses = first.history.series("train", LOSS)
    assert steps == [3, 6, 9, 12]
    assert losses[-1] < 0.8 * losses[0]
    header = read_header(first.out)
    assert header == first.header
    assert (header.name, header.classes) == ("discs", ("background", "disc"))
    record = header.training
    assert record is not None
    assert record.recipe == DISCS
    recipe = read_recipe(first.out.with_name("recipe.toml"))[0]
    data = list_data(discs, recipe.data, recipe.classes)
    assert record.data_sha256 == data_digest(of_split(data, "train"))
    assert (record.images, record.steps, record.seed) == (4, 12, 3)
    assert record.metrics.keys() >= {"all/fp32", "all/bf16", "disc/fp32", "disc/bf16"}
    assert record.metrics["disc/fp32"]["images"] == 2
    assert all(torch.isfinite(tensor).all() for tensor in load_tensors(first.out).values())
    assert header.postprocess.foreground_threshold in (0.3, 0.5)  # type: ignore[union-attr]


def test_what_it_leaves_beside_the_file(first: Trained) -> None:
    left = {path.name.split(".")[0] for path in first.out.with_suffix(".training").iterdir()}
    assert left == {"curves", "panel", "log", "events"}
    log = pq.read_table(first.out.with_suffix(".training") / "log.parquet").to_pylist()
    assert [one["value"] for one in log if one["name"] == METRIC] == pytest.approx(
        first.history.series("val", METRIC)[1]
    )
    assert {one["name"] for one in log if one["split"] == "train"} >= {LOSS, "foreground", "edge"}
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in first.pictures)


def test_the_same_seed_gives_the_same_file_whatever_the_workers(
    first: Trained, discs: Path, tmp_path: Path
) -> None:
    again = run(job(tmp_path / "again", discs, workers=1))
    assert again.out.read_bytes() == first.out.read_bytes()
    other = run(job(tmp_path / "other", discs, DISCS.replace("seed = 3", "seed = 4")))
    assert other.out.read_bytes() != first.out.read_bytes()


@pytest.mark.parametrize("stop", [1, 4, 6, 11])
def test_a_run_that_was_stopped_goes_on_to_the_same_file(
    stop: int, first: Trained, discs: Path, tmp_path: Path
) -> None:
    work = job(tmp_path / "stopped", discs)

    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(work, interrupt)
    if stop >= 3:  # nothing was written down before
        with pytest.raises(SpecError, match="--resume"):
            train(work, interrupt)
    resumed = run(replace(work, resume=True))
    assert resumed.out.read_bytes() == first.out.read_bytes()
    assert resumed.history.series("train", LOSS) == first.history.series("train", LOSS)


def test_a_checkpoint_of_another_recipe_or_of_other_data_is_refused(
    discs: Path, tmp_path: Path
) -> None:
    def interrupt(progress: TrainingProgress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job(tmp_path / "run", discs), interrupt)
    other = job(tmp_path / "run", discs, DISCS.replace("0.01", "0.02"), resume=True)
    with pytest.raises(SpecError, match="another recipe"):
        run(other)
    (tmp_path / "run" / "discs.training" / "checkpoint.pt").write_bytes(b"PK damaged")
    with pytest.raises(SpecError, match="no checkpoint that can be read"):
        run(job(tmp_path / "run", discs, resume=True))


def test_it_stops_early_when_the_metric_does_not_rise(discs: Path, tmp_path: Path) -> None:
    idle = DISCS.replace("learning_rate = 0.01", "learning_rate = 1e-12").replace(
        "every = 3", "every = 1\npatience = 2"
    )
    assert run(job(tmp_path / "idle", discs, idle)).history.series("val", METRIC)[0] == [1, 2, 3]


def test_a_loss_that_is_not_finite_stops_it(discs: Path, tmp_path: Path) -> None:
    wild = DISCS.replace("learning_rate = 0.01", "learning_rate = 1e30")
    with pytest.raises(SpecError, match="learning_rate"):
        run(job(tmp_path / "wild", discs, wild))


def test_a_file_that_starts_another_keeps_what_fits_and_names_the_rest(
    first: Trained, discs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = DISCS.replace("seed = 3", f"seed = 3\nstart = {str(first.out)!r}").replace(
        "8, 8, 8]", "8, 8, 4]"
    )
    run(job(tmp_path / "next", discs, text))
    said = caplog.text
    assert "tensors kept" in said
    assert "dropped segmentation_head.0.weight: (3, 8, 3, 3), but (3, 4, 3, 3) here" in said
    assert "starts anew: segmentation_head.0.weight" in said
    assert "dropped encoder" not in said
    pickled = tmp_path / "old.pth"
    torch.save({}, pickled)
    with pytest.raises(WeightsError, match="pickle"):
        run(job(tmp_path / "p", discs, DISCS.replace("seed = 3", f"start = {str(pickled)!r}")))


def test_more_classes_keep_all_but_the_last_layer() -> None:
    old, new = torch.nn.Linear(4, 3), torch.nn.Linear(4, 5)
    source = {**old.state_dict(), "other": torch.zeros(2)}
    source["weight"] = source["weight"][:, :4]
    transfer = keep_what_fits(torch.nn.Sequential(), source)
    assert transfer.kept == ()
    network = torch.nn.ModuleDict({"body": old, "head": new})
    renamed = {f"body.{name}": tensor + 1 for name, tensor in old.state_dict().items()}
    transfer = keep_what_fits(network, {**renamed, "head.weight": torch.zeros(3, 4)})
    assert transfer.kept == ("body.weight", "body.bias")
    assert transfer.fresh == ("head.weight", "head.bias")
    assert torch.equal(network["body"].weight, renamed["body.weight"])


def test_classes_are_learnt_as_well(discs: Path, tmp_path: Path) -> None:
    text = DISCS.replace('task = "instances"', 'task = "semantic"').replace(
        "= 3\n\n[pre", "= 2\n\n[pre"
    )
    trained = run(job(tmp_path / "classes", discs, text))
    assert trained.header.task == "semantic"
    assert trained.header.training is not None
    numbers = trained.header.training.metrics["all/fp32"]
    assert numbers["dice"] == pytest.approx(numbers["disc_dice"])
    assert numbers["dice"] > 0.5
    losses = trained.history.series("train", LOSS)[1]
    assert losses[-1] < losses[0]


def test_every_process_has_its_share_of_each_step() -> None:
    rule = OptimiserRecipe(steps=3, batch=8, micro_batch=2)
    cpu = torch.device("cpu")
    alone = list(StepSampler(rule, 1, Workplace(cpu)))
    shares = [list(StepSampler(rule, 1, Workplace(cpu, rank, 2))) for rank in (0, 1)]
    assert len(alone) == len(StepSampler(rule, 1, Workplace(cpu))) == 8
    assert sorted(chain(*alone)) == sorted(chain(*shares[0], *shares[1])) == list(range(8, 24))
    assert shares[0][0] == [8, 9]
    assert shares[1][0] == [12, 13]
    with pytest.raises(SpecError, match="3 processes"):
        micro_batches(rule, 3)


def test_passes_that_make_up_a_batch_learn_what_the_batch_learns() -> None:
    """Without batch normalisation gradients of parts add up to that of the whole."""
    from segpipe.training.loop import Trainer

    class Mean:
        distances = False

        def __init__(self) -> None:
            torch.manual_seed(1)
            self.network = torch.nn.Linear(3, 1)

        def item(self, crop: object) -> torch.Tensor:
            raise NotImplementedError

        def collate(self, items: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack(items)

        def losses(self, network: torch.nn.Module, batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"error": network(batch).square().mean()}

    data = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
    results = []
    for parts in (1, 4):
        learner = Mean()
        rule = OptimiserRecipe(steps=5, batch=8, learning_rate=0.1)
        trainer = Trainer(learner, rule, 0, Workplace(torch.device("cpu")), parts)
        for _ in range(3):
            trainer.update(data.chunk(parts))
        results.append(learner.network.weight.detach().clone())
    assert torch.allclose(*results, atol=1e-6)


@pytest.mark.parametrize(
    ("validation", "training", "says"),
    [
        ([1.0, 0.8, 0.7], [1.0, 0.8, 0.7], ""),
        ([1.0, 0.7, 0.72], [1.0, 0.8, 0.7], ""),
        ([1.0, 0.7, 0.9], [1.0, 0.8, 0.6], "since step 1 validation loss rose from 0.700"),
        ([1.0, 0.9, 1.467], [1.0, 0.5, 0.245], "rose"),
        ([1.0, 0.8, 0.7], [1.0, 0.5, 0.3], "2.3 times"),
        ([0.5], [0.6], ""),
        ([], [], ""),
    ],
)
def test_validation_that_turns_away_from_training_is_told(
    validation: list[float], training: list[float], says: str, tmp_path: Path
) -> None:
    history = History(tmp_path)
    for step, (val, fit) in enumerate(zip(validation, training, strict=True)):
        history.add(step, "train", {LOSS: fit}, 0.0)
        history.add(step, "val", {LOSS: val}, 0.0)
    assert says in overfits(history)
    assert bool(says) == bool(overfits(history))


def test_shipped_recipes_are_valid() -> None:
    recipes = {name: read_recipe(Path(name))[0] for name in shipped_recipes()}
    assert {"unet-nuclei", "unet-oct-fluid", "mask-rcnn-nuclei"} <= recipes.keys()
    assert all(recipe.name == name for name, recipe in recipes.items())


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ema_decay", "ema_decline", "ema_decline"),
        ("outputs = 3", "outputs = 2", "outputs"),
        ("foreground_threshold = [", "threshold = [", "threshold"),
        ('kind = "unet"\ntask', 'kind = "vnet"\ntask', "vnet"),
    ],
)
def test_a_wrong_recipe_is_told_by_its_key(old: str, new: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(DISCS.replace(old, new))
    with pytest.raises(SpecError, match=says):
        read_recipe(path)
    with pytest.raises(SpecError, match="unet-nuclei"):
        read_recipe(tmp_path / "absent.toml")


def test_an_index_without_an_image_is_refused_before_training(tmp_path: Path) -> None:
    folder = disc_folder(tmp_path / "data")
    write_index(folder, [("9", "train", "disc")])
    with pytest.raises(SpecError, match="'9'"):
        run(job(tmp_path / "x", folder))


def test_numbers_in_the_log_are_numbers(first: Trained) -> None:
    assert all(np.isfinite(one.value) for one in first.history.measurements)
