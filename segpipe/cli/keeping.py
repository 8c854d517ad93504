"""`segpipe fsck`, `gc`, `compact`, `forget`: the keeping of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from segpipe.cli.options import Store

if TYPE_CHECKING:
    from segpipe.store.gc import Garbage

keeping = typer.Typer(rich_markup_mode=None)


@keeping.command()
def fsck(store: Store) -> None:
    """Compute every hash and invariant again; exit 1 and a list if something is wrong.

    \b
    segpipe fsck results/
    """
    from segpipe.store.fsck import check_store
    from segpipe.store.gc import find_garbage
    from segpipe.store.opening import open_files

    files = open_files(store)
    problems = 0
    for problem in check_store(files):
        problems += 1
        typer.echo(f"{problem.path}: {problem.detail}")
    if problems:
        typer.echo(f"segpipe: {problems} problems", err=True)
        raise typer.Exit(1)
    left = sum(1 for _ in find_garbage(files, grace_seconds=0))
    typer.echo(f"all is well{f'; {left} leftovers use space (segpipe gc)' * bool(left)}")


@keeping.command()
def gc(
    store: Store,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="Leave alone what was written to since.")
    ] = 24.0,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove it; without this it is only listed.")
    ] = False,
) -> None:
    """List or remove what killed runs left behind.

    Nothing that a result refers to, and nothing of a run that is still at work.

    \b
    segpipe gc results/
    segpipe gc results/ --delete
    segpipe gc results/ --grace-hours 1 --delete
    """
    from segpipe.store.gc import collect, find_garbage
    from segpipe.store.opening import create_store, open_files
    from segpipe.store.recover import recover

    open_files(store)
    files = create_store(store)
    recover(files)
    found = removed = size = 0
    for garbage in find_garbage(files, grace_hours * 3600):
        found += 1
        typer.echo(_line(garbage))
        if delete and collect(files, garbage):
            removed += 1
            size += garbage.size
    if not found:
        typer.echo("nothing to clear away")
    elif delete:
        typer.echo(f"{removed} of {found} removed, {size:,} bytes")
    else:
        typer.echo(f"{found} found; --delete removes them")


@keeping.command()
def compact(store: Store) -> None:
    """Copy all rows into few sorted Parquet files, for quick queries.

    The small files stay: a plain `objects/*.parquet` goes on to see every row once.

    \b
    segpipe compact results/
    """
    from segpipe.store.compaction import compact as copy
    from segpipe.store.opening import create_store, open_files
    from segpipe.store.recover import recover

    open_files(store)
    files = create_store(store)
    recover(files)
    made = copy(files)
    if made is None:
        typer.echo("no results to compact")
        return
    parts = len(made.parts("objects"))
    typer.echo(
        f"compaction {made.number}: {len(made.chunks):,} chunks in {parts:,} parts of each table\n"
        f"segpipe query and open_store read it, and the chunks that come later, by themselves.\n"
        f"Plain readers: {made.folder}/objects-*.parquet and images-*.parquet hold what there was "
        "until now;\nobjects/*.parquet and images/*.parquet hold everything, in small files. "
        "Read one or the other, never both."
    )


@keeping.command()
def forget(
    store: Store,
    run_id: Annotated[str, typer.Argument(help="As `segpipe show` lists it.")],
    reason: Annotated[str, typer.Option(help="Kept with the record of the run.")] = "",
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this it is only counted.")
    ] = False,
) -> None:
    """Remove the results of one run; its record stays.

    A note of what was removed is kept with it. The next `segpipe run` over these images does them
    again.

    \b
    segpipe forget results/ 20261122T030000000Z-4f1c2e
    segpipe forget results/ 20261122T030000000Z-4f1c2e --delete --reason "consent withdrawn"
    """
    from segpipe.store.forget import forget as remove
    from segpipe.store.forget import plan_forgetting
    from segpipe.store.opening import create_store, open_files
    from segpipe.store.recover import recover

    open_files(store)
    files = create_store(store)
    recover(files)
    tombstone = plan_forgetting(files, run_id, reason)
    count = (
        f"{tombstone.images:,} images and {tombstone.objects:,} objects "
        f"in {len(tombstone.chunks):,} chunks"
    )
    if delete:
        remove(files, tombstone)
        typer.echo(f"forgotten: {count}")
    else:
        typer.echo(f"{count}; --delete removes them")


def _line(garbage: Garbage) -> str:
    hours = garbage.seconds / 3600
    return f"{garbage.paths[-1]}: {garbage.name}, {garbage.size:,} bytes, {hours:.1f} h old"
