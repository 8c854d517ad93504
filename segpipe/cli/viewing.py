"""`segpipe view`: a store in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from segpipe.cli.options import Store

viewing = typer.Typer(rich_markup_mode=None)


@viewing.command()
def view(
    store: Store,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 for one that is free.")
    ] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open it in the browser.")
    ] = True,
) -> None:
    """Look at a store in the browser: images, objects, runs. Reads only; Ctrl-C ends it.

    \b
    segpipe view results/
    segpipe view results/ --port 8123 --no-open

    The address that it prints has a token and works on this machine. From another one, forward
    the port: ssh -L 8123:127.0.0.1:8123 HOST.
    """
    import webbrowser

    import segpipe
    from segpipe.viewer.server import serve
    from segpipe.viewer.viewer import Viewer

    def ready(address: str) -> None:
        typer.echo(address)
        if open_browser:
            webbrowser.open(address)

    serve(Viewer(lambda: segpipe.open_store(store)), port, ready)
