"""`segpipe bench pipeline`, `forward` and `compare`: speed, and what it is worth."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.options import AsJson, Precision
from segpipe.errors import SpecError

speed = typer.Typer(rich_markup_mode=None)

LOOPS = ("loop", "dataloader", "ray")

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Size = Annotated[str, typer.Option(help="HxW of generated images, pixels.")]


@speed.command()
def pipeline(
    images: Annotated[
        str | None, typer.Argument(help="Folder, glob or manifest. [default: generated]")
    ] = None,
    model: Annotated[str, typer.Option(help="A model or a weights file.")] = "unet-nuclei",
    count: Annotated[int, typer.Option("--images", min=2, help="To generate.")] = 256,
    size: Size = "512x512",
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median counts.")] = 3,
    chunk_images: Annotated[int, typer.Option(min=1, help="Images in a chunk.")] = 64,
    batch_images: Annotated[
        int | None, typer.Option(min=1, help="Images in a forward pass. [default: the model's]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Local worker processes. [default: 1, or per GPU]")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Of loop,dataloader,ray; none for none. [default: all]")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: AsJson = False,
) -> None:
    """Compare `segpipe run` with its model's forward pass alone, and with what one would write.

    \b
    segpipe bench pipeline
    segpipe bench pipeline --model mask-rcnn-nuclei --size 480x640 --images 64 --chunk-images 16
    segpipe bench pipeline fields/ --model mine.safetensors --against none --json > now.json

    The share of the forward pass alone, the wall and core time of every stage, peak memory.
    """
    import tempfile

    import segpipe
    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.images import write_images
    from segpipe.bench.pipeline import measure
    from segpipe.bench.pipeline_report import PipelineReport
    from segpipe.cli.terminal import quiet_libraries
    from segpipe.segmenters.catalog import resolve
    from segpipe.spec import RunSpec, parse

    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        asked = {
            "source": images or folder,
            "store": "",
            "model": model,
            "chunk_images": chunk_images,
            "batch_images": batch_images,
            "workers": workers,
            "device": device,
            "precision": precision,
        }
        spec = parse(RunSpec, asked, "segpipe bench pipeline")
        resolved = resolve(spec)
        if images is None:
            nuclei = "nucleus" in resolved.spec.model.classes
            write_images(Path(folder), count, _shape(size), nuclei)
        found = measure(spec, resolved, rounds, _loops(against), segpipe.run, _tell)
        report = PipelineReport(found, describe_conditions(resolved.spec.device, found.threads))
    typer.echo(json.dumps(report.to_dict()) if as_json else report.to_text())


@speed.command()
def forward(
    model: Annotated[
        list[str] | None,
        typer.Option(help="May be given several times. [default: the U-Nets and Mask R-CNN]"),
    ] = None,
    size: Size = "512x512",
    images: Annotated[int, typer.Option(min=1, help="In a batch.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the quickest counts.")] = 10,
    precision: Annotated[str, typer.Option(help="Of fp32,bf16.")] = "fp32,bf16",
    compiled: Annotated[
        bool, typer.Option("--compiled", help="torch.compile too: up to a minute each.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compare the forward pass with what the machine can compute.

    \b
    segpipe bench forward
    segpipe bench forward --model unet-nuclei --size 256x256 --compiled --json > now.json

    Images per second and the share of the machine's convolution peak, for segpipe and for other
    ways to run the same network. resnet34-unet is the usual one, with random weights.
    """
    from segpipe.bench.conditions import describe_conditions
    from segpipe.bench.forward import Question, measure
    from segpipe.engine import local_cluster

    quick = ("eager", "channels_last", "traced", "frozen")
    question = Question(
        models=tuple(model or ("unet-nuclei", "resnet34-unet", "mask-rcnn-nuclei")),
        precisions=tuple(_chosen("--precision", precision, ("fp32", "bf16"))),  # type: ignore[arg-type]
        shape=_shape(size),
        images=images,
        variants=(*quick, "compiled") if compiled else quick,
        device=device,
        threads=len(os.sched_getaffinity(0)),
        rounds=rounds,
    )
    with local_cluster(1, threads=question.threads) as client:  # as a run has its workers
        answer = client.submit(measure, question).result()
    conditions = describe_conditions(device)
    found = json.dumps(answer.to_dict(conditions)) if as_json else answer.to_text(conditions)
    typer.echo(found)


@speed.command()
def compare(
    before: Annotated[Path, typer.Argument(help="JSON of a benchmark.")],
    after: Annotated[Path, typer.Argument(help="JSON of the same benchmark.")],
    as_json: AsJson = False,
) -> None:
    """Compare two results of one benchmark, figure by figure, as ratios.

    \b
    segpipe bench pipeline --json > before.json
    segpipe bench pipeline --json > after.json
    segpipe bench compare before.json after.json
    """
    from segpipe.bench.compare import compare_results, read_result

    found = compare_results(read_result(before), read_result(after))
    typer.echo(json.dumps(found.to_dict()) if as_json else found.to_text())


def _shape(size: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", size)
    if match is None or not all(32 <= int(side) <= 8192 for side in match.groups()):
        raise SpecError(f"--size {size}: height x width in pixels, 32 to 8192, like 480x640")
    return int(match[1]), int(match[2])


def _loops(against: str | None) -> tuple[str, ...] | None:
    """None for all that there are for the model."""
    if against is None:
        return None
    return () if against == "none" else _chosen("--against", against, LOOPS)


def _chosen(option: str, given: str, known: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(given.split(","))
    for name in names:
        if name not in known:
            raise SpecError(f"{option} {name}: there are {', '.join(known)}")
    return names


def _tell(what: str) -> None:
    typer.echo(what, err=True)
