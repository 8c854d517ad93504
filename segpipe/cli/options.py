"""Arguments that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

Store = Annotated[str, typer.Argument(help="Folder or address of the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OfModel = Annotated[str | None, typer.Option("--model", help="Only results of this model.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
