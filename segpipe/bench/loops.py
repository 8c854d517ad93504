"""What a competent user would write instead, with the same weights: the loops to compare with.

    loop         one image after the other through the network as its library gives it
    dataloader   torch's `DataLoader`: processes that decode, batches
    ray          Ray Data: `map_batches` with a model that stays loaded

Each decodes with Pillow, runs the network in fp32, finds objects and measures them with
scikit-image, and writes an array per image and rows to a CSV. None of segpipe's own pre- or
postprocessing, and no other trick than its library's documentation shows.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.measure import label, regionprops_table
from skimage.segmentation import watershed
from torch.utils.data import DataLoader, Dataset

from segpipe.errors import SpecError
from segpipe.segmenters.detector_network import load_detector
from segpipe.segmenters.unet import load_unet
from segpipe.spec import DetectorOptions, PercentileScaling, Preprocess, SegmentSpec, UNetOptions

Labels = npt.NDArray[np.integer[Any]]

BATCH = 8
KINDS = ("unet", "mask_rcnn")

PROPERTIES = (
    *("label", "bbox", "area", "centroid", "perimeter", "eccentricity", "solidity", "orientation"),
    *("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a loop is to do.

    Attributes:
        weights: file of the model of `spec`, a U-Net or a Mask R-CNN.
        paths: images.
        out: an empty folder.
        workers: processes that decode.
    """

    spec: SegmentSpec
    weights: Path
    paths: Sequence[Path]
    out: Path
    workers: int


def images_per_second(name: str, job: Job) -> float | None:
    """The speed of a loop, after its first batch; None for Ray where it is not installed.

    Raises:
        SpecError: too few images, or a model of another kind.
    """
    if len(job.paths) <= BATCH:
        raise SpecError(f"{len(job.paths)} images; a loop needs more than {BATCH} to be measured")
    try:
        done = [time.perf_counter() for _ in LOOPS[name](job)]
    except ImportError as error:
        if error.name == "ray":
            return None
        raise
    return (len(done) - BATCH) / (done[-1] - done[BATCH - 1])


def loop(job: Job) -> Iterator[None]:
    """One image after the other."""
    model, rule = load(job.spec, job.weights), job.spec.model.preprocess
    for path in job.paths:
        pixels, planes = read(path, rule)
        (labels,) = model([planes])
        save(labels, pixels, path.stem, job.out)
        yield


def dataloader(job: Job) -> Iterator[None]:
    """Processes decode, the network takes batches."""
    model = load(job.spec, job.weights)
    files = ImageFiles(job.paths, job.spec.model.preprocess)
    batches = DataLoader(files, batch_size=BATCH, num_workers=job.workers, collate_fn=list)
    for batch in batches:
        for (stem, pixels, _), labels in zip(batch, model([one[2] for one in batch]), strict=True):
            save(labels, pixels, stem, job.out)
            yield


def ray_data(job: Job) -> Iterator[None]:
    """Tasks decode and write, an actor holds the model."""
    import ray

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        pixels, planes = read(Path(row["path"]), job.spec.model.preprocess)
        return {**row, "pixels": pixels, "planes": planes.numpy()}

    class Model:
        def __init__(self) -> None:
            torch.set_num_threads(job.workers)
            self.model = load(job.spec, job.weights)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            planes = [torch.from_numpy(np.array(one)) for one in batch.pop("planes")]
            return {**batch, "labels": np.stack(self.model(planes))}

    def write(row: dict[str, Any]) -> dict[str, Any]:
        save(row["labels"], row["pixels"], Path(row["path"]).stem, job.out)
        return {"path": row["path"]}

    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.init(num_cpus=job.workers + 1, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_items([{"path": str(path)} for path in job.paths])
        decoded = rows.map(decode).map_batches(Model, batch_size=BATCH, concurrency=1, num_cpus=1)
        for _ in decoded.map(write).iter_rows():
            yield
    finally:
        ray.shutdown()


LOOPS: dict[str, Callable[[Job], Iterable[None]]] = {
    "loop": loop,
    "dataloader": dataloader,
    "ray": ray_data,
}


class ImageFiles(Dataset[Any]):
    """(stem, pixels, planes) of each file."""

    def __init__(self, paths: Sequence[Path], rule: Preprocess | None) -> None:
        self.paths = paths
        self.rule = rule

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, npt.NDArray[Any], torch.Tensor]:
        return self.paths[index].stem, *read(self.paths[index], self.rule)


def read(path: Path, rule: Preprocess | None) -> tuple[npt.NDArray[Any], torch.Tensor]:
    """Pixels (H, W) or (H, W, 3), and (3, H, W) float32 scaled as the model was trained."""
    pixels = np.asarray(Image.open(path))
    if rule is not None and isinstance(rule.scaling, PercentileScaling):
        low, high = np.percentile(pixels, (rule.scaling.low, rule.scaling.high))
    else:
        low, high = 0, np.iinfo(pixels.dtype).max
    scaled = (pixels.astype(np.float32) - low) / max(high - low, 1)
    planes = np.stack([scaled] * 3) if scaled.ndim == 2 else scaled.transpose(2, 0, 1)
    if rule is not None:
        planes = (planes - np.reshape(rule.mean, (3, 1, 1))) / np.reshape(rule.std, (3, 1, 1))
    return pixels, torch.from_numpy(np.ascontiguousarray(planes, np.float32))


def save(labels: Labels, pixels: npt.NDArray[Any], stem: str, out: Path) -> None:
    """The masks as an array, the objects as rows."""
    np.save(out / f"{stem}.npy", labels)
    columns = regionprops_table(labels, pixels, properties=PROPERTIES)
    with (out / "objects.csv").open("a", newline="") as file:
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        csv.writer(file).writerows((stem, *row) for row in rows)


def load(spec: SegmentSpec, weights: Path) -> Callable[[Sequence[torch.Tensor]], list[Labels]]:
    """The network as its library makes it, with what follows it: planes to label images."""
    match spec.model.kind:
        case "unet":
            return UNet(spec, weights)
        case "mask_rcnn":
            return MaskRCNN(spec, weights)
        case kind:
            raise SpecError(f"model {spec.model.name!r} is of the kind {kind}; there is no loop")


class UNet:
    """segmentation_models_pytorch's; a watershed from the peaks of the distance map."""

    def __init__(self, spec: SegmentSpec, weights: Path) -> None:
        assert isinstance(spec.options, UNetOptions)
        self.options = spec.options
        self.semantic = spec.model.task == "semantic"
        network = load_unet(spec.model.architecture, weights)
        self.network = network.to(memory_format=torch.contiguous_format)

    @torch.inference_mode()
    def __call__(self, images: Sequence[torch.Tensor]) -> list[Labels]:
        same = len({image.shape for image in images}) == 1
        batches = [torch.stack(list(images))] if same else [image[None] for image in images]
        return [self.objects(one) for batch in batches for one in self.answer(batch)]

    def answer(self, batch: torch.Tensor) -> torch.Tensor:
        height, width = batch.shape[2:]
        padded = torch.nn.functional.pad(batch, (0, -width % 32, 0, -height % 32), mode="reflect")
        logits: torch.Tensor = self.network(padded)
        return logits[..., :height, :width]

    def objects(self, logits: torch.Tensor) -> Labels:
        if self.semantic:
            inside = logits.softmax(0)[0].numpy() < 1 - self.options.foreground_threshold
            regions: Labels = label(inside)
            return regions
        foreground, distance, _ = logits.sigmoid().numpy()
        inside = foreground > self.options.foreground_threshold
        regions, _ = ndimage.label(inside)
        peaks = peak_local_max(distance, min_distance=5, labels=regions)
        markers = np.zeros(inside.shape, np.int32)
        markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
        labels: Labels = watershed(-distance, markers, mask=inside)
        return labels


class MaskRCNN:
    """torchvision's, whole: it resizes the image and pastes every mask over all of it."""

    def __init__(self, spec: SegmentSpec, weights: Path) -> None:
        assert isinstance(spec.options, DetectorOptions)
        self.threshold = spec.options.mask_threshold
        self.network = load_detector(spec.model, spec.options, weights)

    @torch.inference_mode()
    def __call__(self, images: Sequence[torch.Tensor]) -> list[Labels]:
        return [self.objects(found["masks"]) for found in self.network(list(images))]

    def objects(self, masks: torch.Tensor) -> Labels:
        labels = np.zeros(masks.shape[2:], np.int32)
        for number, mask in reversed(list(enumerate(masks[:, 0].numpy(), start=1))):
            labels[mask > self.threshold] = number
        return labels
