"""The command line: arguments in, calls to the same functions that Python users call.

Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 done, but more images failed than
`--max-failed` allows; 130 interrupted. Imports that take time are inside the commands.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from segpipe.cli.bench import bench
from segpipe.cli.comparing import comparing
from segpipe.cli.deploying import deploying
from segpipe.cli.importing import importing
from segpipe.cli.keeping import keeping
from segpipe.cli.looking import looking
from segpipe.cli.making_models import making_models
from segpipe.cli.provenance import provenance
from segpipe.cli.querying import querying
from segpipe.cli.reporting import reporting
from segpipe.cli.segmenting import segmenting
from segpipe.cli.sharing import sharing
from segpipe.cli.viewing import viewing
from segpipe.errors import SegpipeError, SpecError

app = typer.Typer(
    name="segpipe",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Batch segmentation of image archives: masks in Zarr, objects in Parquet.\n\n\b\n"
    "  segpipe run photos/ --store results/\n"
    '  segpipe query results/ "SELECT path, n_objects FROM latest_images"\n'
    "  segpipe overlay results/ cell-7.png --out cell-7-overlay.png",
)

for commands in (
    segmenting,
    viewing,
    querying,
    looking,
    comparing,
    importing,
    sharing,
    reporting,
    provenance,
    making_models,
    keeping,
):
    app.add_typer(commands)
app.add_typer(bench, name="bench")
app.add_typer(deploying, name="deploy")


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(f"segpipe {metadata.version('segpipe')}")
        raise typer.Exit


def main() -> Any:
    """Entry point of the `segpipe` program."""
    try:
        app()
    except SpecError as error:
        _fail(error, 2)
    except SegpipeError as error:
        _fail(error, 1)
    except OSError as error:
        from segpipe.store.files import failure_text

        _fail(f"{error.filename or 'a file'}: {failure_text(error)}", 1)


def _fail(error: Exception | str, code: int) -> None:
    typer.echo(f"segpipe: {error}", err=True)
    sys.exit(code)
