"""`segpipe train` and `quantize`: weights files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from segpipe.cli.terminal import INTERRUPTED

making_models = typer.Typer(rich_markup_mode=None)


@making_models.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file, or the name of a shipped recipe.")],
    data: Annotated[Path, typer.Option(help="Folder of annotated images.")],
    out: Annotated[
        Path | None, typer.Option(help="Weights file to write. [default: NAME.safetensors]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint of a stopped run.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto (what this machine has), cpu or cuda.")
    ] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make crops.")] = 1,
) -> None:
    """Train a model on annotated images, and write a weights file that `segpipe run` takes.

    \b
    segpipe train unet-nuclei --data nuclei/
    segpipe train mine.toml --data cells/ --out cells.safetensors
    segpipe train mine.toml --data cells/ --out cells.safetensors --resume
    torchrun --nproc-per-node 4 -m segpipe train mine.toml --data cells/

    DATA holds images/ and labels/ (label images of the same names, 0 is background) and, if there
    are patients or kinds of images, index.csv; or images/ and annotations.json (COCO). Checkpoint,
    TensorBoard and Parquet logs, the curves and a panel of results go into OUT's .training folder.
    """
    from rich.console import Console

    from segpipe.cli.console import training_display, training_text
    from segpipe.training import Job, read_recipe
    from segpipe.training import train as train_model

    parsed, text = read_recipe(recipe)
    job = Job(
        parsed, text, data, out or Path(f"{parsed.name}.safetensors"), resume, device, workers
    )
    try:
        with training_display(Console(stderr=True)) as observe:
            trained = train_model(job, observe)
    except KeyboardInterrupt:
        typer.echo("segpipe: interrupted; the same command with --resume goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if trained is not None:
        typer.echo(training_text(trained))


@making_models.command()
def quantize(
    weights: Annotated[Path, typer.Argument(help="Weights file of a U-Net.")],
    data: Annotated[Path, typer.Option(help="Folder of annotated images it was trained on.")],
    out: Annotated[Path, typer.Option(help="Weights file to write.")],
    images: Annotated[int, typer.Option(min=1, help="Training images to find ranges on.")] = 32,
) -> None:
    """Make a weights file that runs in 8 bits too, with --backend openvino --precision int8.

    \b
    segpipe quantize cells.safetensors --data cells/ --out cells-int8.safetensors

    Ranges are found on training images. Nothing is written if average precision or Dice on the
    validation images falls by more than 0.003.
    """
    from segpipe.training.quantise import quantise

    typer.echo(quantise(weights, data, out, images, partial(typer.echo, err=True)).to_text())
