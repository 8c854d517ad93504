"""Which models there are, and from a name to a spec with every default written out.

Loads no network: reading a weights file's header is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from segpipe.errors import SpecError, WeightsError
from segpipe.machine import cpu_has_bf16
from segpipe.segmenters.devices import device_count, require_compiler, require_openvino
from segpipe.segmenters.published import COCO_CLASSES, LICENCE, PUBLISHED, TRAINED_ON, fetch
from segpipe.segmenters.tile_defaults import tiles_of
from segpipe.segmenters.weights import WeightsHeader, read_header, sha256_file
from segpipe.spec import (
    Backend,
    ClassicalOptions,
    DetectorOptions,
    DeviceClass,
    ModelSpec,
    Precision,
    RCNNOptions,
    RunSpec,
    SegmentSpec,
    UNetOptions,
    parse,
)

SHIPPED = Path(__file__).resolve().parents[1] / "weights"
"""Folder of the weights that come with segpipe."""

DECISIVE = ("ap50_mean", "ap75_mean", "dice")
"""Metrics of a weights file that another precision must not lower, ..."""

MAX_LOSS = 0.003
"""... by more than this."""

_PICKLES = {".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin"}

_OPTIONS = {
    "unet": UNetOptions,
    "mask_rcnn": DetectorOptions,
    "faster_rcnn": DetectorOptions,
    "rcnn": RCNNOptions,
}

_AnyOptions = ClassicalOptions | UNetOptions | DetectorOptions | RCNNOptions


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One line of `segpipe models`.

    Attributes:
        name: what `--model` takes.
        task: `instances`, `semantic` or `boxes`.
        kind: which segmenter runs it.
        classes: names by class id, without the background and unused ids.
        weights: path or URL; empty where the model has none.
        size_bytes: of the weights; of a URL, at most.
        licence: of the weights.
        trained_on: data set.
        available: usable without a download.
        notice: what whoever uses it has to know, such as limits of use.
    """

    name: str
    task: str
    kind: str
    classes: tuple[str, ...]
    weights: str
    size_bytes: int
    licence: str
    trained_on: str
    available: bool
    notice: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A spec, and the file with its weights (None where it has none)."""

    spec: SegmentSpec
    weights_path: Path | None


def models() -> tuple[ModelCard, ...]:
    """All models that have a name, those that need no download first.

    Raises:
        WeightsError: a shipped file is damaged.
    """
    return (*_shipped_cards(), _classical_card(), *_published_cards())


def resolve(run: RunSpec) -> ResolvedModel:
    """What a run asks for, with every default written out; downloads published weights if needed.

    Raises:
        SpecError: no such model, option, device or batch.
        WeightsError: a weights file that is refused.
    """
    model, defaults, path, header = _find(run.model)
    options = parse(
        type(defaults), {**defaults.model_dump(), **run.options}, f"options of model {model.name!r}"
    )
    _check_backend(run, model, header)
    device = "cpu" if run.backend == "openvino" else _device(run.device, model)
    precision = _precision(run.precision, model, device, _holds_in_bf16(header))
    batch_images, batch_pixels = _batch(run.batch_images, model, device, run.backend)
    spec = SegmentSpec(
        model=model,
        options=options,
        limits=run.limits,
        tiles=tiles_of(run.tiles, options, header),
        batch_images=batch_images,
        batch_pixels=batch_pixels,
        device=device,
        precision=precision,
        backend=run.backend,
    )
    return ResolvedModel(spec, path)


def resolve_model(name: str, where: str, **asked: object) -> ResolvedModel:
    """A model for no collection in particular, with other keys of a `RunSpec` as asked for.

    Args:
        name: of a model, or its weights file.
        where: is told in an error.

    Raises:
        SpecError, WeightsError: as `resolve`.
    """
    return resolve(parse(RunSpec, {"source": "", "store": "", "model": name, **asked}, where))


class _Found(NamedTuple):
    """A model, its default options, its weights, and what their file says if it is our own."""

    model: ModelSpec
    options: _AnyOptions
    path: Path | None = None
    header: WeightsHeader | None = None


def _find(name: str) -> _Found:
    """The model of a name or of a weights file."""
    if name == "classical":
        return _Found(ModelSpec(name=name, kind="classical"), ClassicalOptions())
    for weights in PUBLISHED:
        if name == weights.name:
            path, sha256 = fetch(weights)
            return _Found(weights.model(sha256), DetectorOptions(), path)
    path = SHIPPED / f"{name}.safetensors" if name in _shipped_names() else Path(name)
    if path.suffix.lower() in _PICKLES:
        raise WeightsError(
            f"{name}: by its suffix a pickle, which can run code when it is loaded; a weights file "
            "is a .safetensors file, as `segpipe train` writes it"
        )
    if path.suffix != ".safetensors":
        names = ", ".join(card.name for card in models())
        raise SpecError(f"no model {name!r}; there are {names}, or a path to a .safetensors file")
    header = read_header(path)
    if not isinstance(header.postprocess, _OPTIONS[header.kind]):
        raise WeightsError(
            f"{path}: a {header.kind} with options for {header.postprocess.kind!r} in its header"
        )
    return _Found(_from_header(header, sha256_file(path)), header.postprocess, path, header)


def _from_header(header: WeightsHeader, sha256: str) -> ModelSpec:
    return ModelSpec(
        name=header.name,
        kind=header.kind,
        task=header.task,
        weights_sha256=sha256,
        architecture=dict(header.architecture),
        classes=header.classes,
        preprocess=header.preprocess,
        licence=header.licence,
    )


def _device(asked: str, model: ModelSpec) -> DeviceClass:
    if model.kind == "classical":
        if asked == "cuda":
            raise SpecError("device = 'cuda': model 'classical' runs on a CPU only")
        return "cpu"
    if asked == "cpu":
        return "cpu"
    if device_count():
        return "cuda"
    if asked == "cuda":
        raise SpecError("device = 'cuda', but torch finds no CUDA device here; use 'auto' or 'cpu'")
    return "cpu"


def _check_backend(run: RunSpec, model: ModelSpec, header: WeightsHeader | None) -> None:
    if run.backend != "torch" and model.kind != "unet":
        raise SpecError(
            f"backend = {run.backend!r} runs U-Nets; model {model.name!r} is a {model.kind}: use"
            " backend = 'torch'"
        )
    if run.backend == "compiled":
        require_compiler()
    if run.backend == "openvino":
        if run.device == "cuda":
            raise SpecError("backend = 'openvino' runs on a CPU; use device = 'cpu' or 'auto'")
        require_openvino()
    if run.precision == "int8":
        if run.backend != "openvino":
            raise SpecError("precision = 'int8' is for backend = 'openvino'")
        if header is None or header.quantisation is None:
            raise SpecError(
                f"precision = 'int8': {run.model} holds no ranges to round in; `segpipe quantize`"
                " makes a file that does"
            )


def _precision(asked: str, model: ModelSpec, device: DeviceClass, holds: bool) -> Precision:
    if asked == "bf16" and model.kind == "classical":
        raise SpecError("precision = 'bf16': model 'classical' has one precision, 'fp32'")
    if asked == "int8":
        return "int8"
    quick = device == "cuda" or cpu_has_bf16()
    return "bf16" if asked == "bf16" or (asked == "auto" and holds and quick) else "fp32"


def _holds_in_bf16(header: WeightsHeader | None) -> bool:
    """Whether a weights file says that its metrics over all validation images do."""
    training = header.training if header else None
    metrics = training.metrics if training else {}
    exact, rounded = metrics.get("all/fp32", {}), metrics.get("all/bf16", {})
    measured = any(name in exact and name in rounded for name in DECISIVE)
    return measured and not lowered(exact, rounded)


def lowered(exact: Mapping[str, float], rounded: Mapping[str, float]) -> list[str]:
    """The decisive metrics that are lower by more than `MAX_LOSS`, of those that both have."""
    return [
        name
        for name in DECISIVE
        if name in exact and name in rounded and rounded[name] < exact[name] - MAX_LOSS - 1e-9
    ]


def _batch(
    asked: int | None, model: ModelSpec, device: DeviceClass, backend: Backend
) -> tuple[int, int | None]:
    """Images, and pixels, in a forward pass.

    A U-Net gives the same bits whatever the batch is; on a CPU, larger batches than these leave its
    cache. A detector's answers depend on the size of the batch there, and R-CNN's regions are of
    one image at a time, so they take one image.
    """
    if model.kind == "unet":
        if backend == "compiled" and device == "cpu":
            return asked or 1, None  # it is compiled for each size of a batch
        if asked is not None:
            return asked, None
        return (16, 512 * 512) if device == "cpu" else (32, 32 * 512 * 512)
    if model.kind == "rcnn":
        return asked or 1, None
    if device == "cuda":
        return asked or 8, None
    if asked not in (None, 1):
        raise SpecError(
            f"batch_images = {asked}: on a CPU {model.name!r} takes 1 image at a time, since its "
            "answers depend on the size of the batch there, and a larger one is hardly faster"
        )
    return 1, None


def _shipped_names() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def _shipped_cards() -> Iterator[ModelCard]:
    for name in _shipped_names():
        path = SHIPPED / f"{name}.safetensors"
        header = read_header(path)
        yield ModelCard(
            name=name,
            task=header.task,
            kind=header.kind,
            classes=header.classes[1:],
            weights=str(path),
            size_bytes=path.stat().st_size,
            licence=header.licence,
            trained_on=header.training.data if header.training else "not recorded",
            available=True,
            notice=header.notice,
        )


def _classical_card() -> ModelCard:
    return ModelCard(
        name="classical",
        task="instances",
        kind="classical",
        classes=("object",),
        weights="",
        size_bytes=0,
        licence="",
        trained_on="",
        available=True,
    )


def _published_cards() -> Iterator[ModelCard]:
    for weights in PUBLISHED:
        cached = weights.cached.is_file()
        yield ModelCard(
            name=weights.name,
            task=weights.task,
            kind=weights.kind,
            classes=tuple(name for name in COCO_CLASSES[1:] if name != "N/A"),
            weights=str(weights.cached) if cached else weights.url,
            size_bytes=weights.cached.stat().st_size if cached else weights.max_bytes,
            licence=LICENCE,
            trained_on=TRAINED_ON,
            available=cached,
        )
