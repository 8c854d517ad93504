"""`segpipe deploy`: the files for nightly runs of a collection, and what is missing for them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segpipe.cli.options import AsJson
from segpipe.cli.terminal import quiet_libraries
from segpipe.errors import SpecError

if TYPE_CHECKING:
    from segpipe.deployment.checks import Check
    from segpipe.deployment.prefect_file import Nights
    from segpipe.spec import RunSpec

deploying = typer.Typer(rich_markup_mode=None, help="Nightly runs, with Prefect.")


@deploying.command()
def init(
    source: Annotated[str, typer.Argument(help="As of `segpipe run`.")],
    store: Annotated[str, typer.Option(help="Folder or address of the store; made if absent.")],
    name: Annotated[
        str | None, typer.Option(help="Of the deployments. [default: that of SOURCE]")
    ] = None,
    cron: Annotated[
        str, typer.Option(help="When: minute, hour, day, month, weekday.")
    ] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="Of the cron, e.g. Europe/Berlin.")] = "UTC",
    model: Annotated[
        str | None, typer.Option(help="Name from `segpipe models`, or a weights file.")
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(help="Prefect block that is told, e.g. slack-webhook/lab; may be repeated."),
    ] = None,
    pool: Annotated[str, typer.Option(help="Prefect work pool.")] = "segpipe",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files. [default: nights/NAME]")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write what nightly runs of a collection need: NAME.toml, prefect.yaml, automations.yaml.

    \b
    segpipe deploy init /data/plates --store /data/results
    segpipe deploy init /data/plates --store s3://lab/results --cron "30 1 * * 1-5"
    segpipe deploy init /data/plates --store /data/results --timezone Europe/Berlin
    segpipe deploy init /data/plates --store /data/results --notify slack-webhook/lab

    NAME.toml says what to do and is the one to edit; `segpipe run --config` takes it too.
    """
    quiet_libraries()
    from segpipe.deployment.files import check_name, write_files
    from segpipe.deployment.prefect_file import Nights
    from segpipe.flows.checks import block_ids, check_cron

    name = name or Path(source.rstrip("/")).stem
    check_name(name, "--name")
    check_name(pool, "--pool")
    check_cron(cron, timezone)
    values: dict[str, Any] = {"source": _whole(source), "store": _whole(store)}
    if model:
        values["model"] = _whole(model) if model.endswith(".safetensors") else model
    if notify:
        values["night"] = {"notify": notify}
    _check(values)
    blocks = asyncio.run(block_ids(notify or []))
    folder = (out or Path("nights", name)).absolute()
    files = write_files(
        Nights(name, folder / f"{name}.toml", pool), values, cron, timezone, blocks, force
    )
    typer.echo("\n".join(f"written: {file}" for file in files))
    for block in (block for block, block_id in blocks.items() if block_id is None):
        typer.echo(f"segpipe: no block {block!r} was found; see docs/alarms.md", err=True)
    typer.echo(_next_commands(name, pool, folder, bool(blocks)))


@deploying.command()
def check(
    configs: Annotated[
        list[Path] | None, typer.Argument(help="Collection files. [default: those of prefect.yaml]")
    ] = None,
    prefect_file: Annotated[
        Path | None,
        typer.Option(help="Deployments. [default: prefect.yaml beside the first CONFIG]"),
    ] = None,
    send: Annotated[
        bool, typer.Option("--send", help="Send a test message to everybody who is to be told.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what is missing for nightly runs: server, pool, worker, deployment, store, weights.

    Give it on the machine of the worker, as its user. Exit code 1 if something is missing.

    \b
    segpipe deploy check
    segpipe deploy check nights/plates/plates.toml
    segpipe deploy check nights/plates/plates.toml --send
    """
    quiet_libraries()
    from segpipe.deployment.prefect_file import find_nights

    beside = configs[0].parent if configs else Path()
    nights = find_nights(prefect_file or beside / "prefect.yaml", configs or [])
    checks = _all_checks(nights, send)
    if as_json:
        typer.echo(json.dumps({"checks": [asdict(check) for check in checks]}))
    else:
        typer.echo("\n".join(_lines(checks)))
    if any(check.state == "missing" for check in checks):
        raise typer.Exit(1)


def _all_checks(nights: list[Nights], send: bool) -> list[Check]:
    from segpipe.deployment.checks import check_config, check_machine
    from segpipe.flows.checks import check_blocks, check_server

    checks, specs = [], []
    for night in nights:
        spec, of_file = check_config(night.config)
        specs.append((night, spec))
        checks += [of_file, *(check_machine(spec) if spec else ())]
    on_server = asyncio.run(check_server(specs))
    checks += on_server
    if on_server[0].state != "missing":
        blocks = {name: None for _, spec in specs if spec for name in spec.night.notify}
        checks += check_blocks(list(blocks), send)
    return checks


def _lines(checks: list[Check]) -> list[str]:
    """A line for each, and below those that are not in order what to do."""
    width = max(len(check.what) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{check.state:<8} {check.what:<{width}}  {check.found}".rstrip())
        if check.state != "ok":
            lines.append(f"{'':<8} -> {check.todo}")
    missing = sum(check.state == "missing" for check in checks)
    return [*lines, f"{missing or 'nothing'} {'is' if missing < 2 else 'are'} missing"]


def _whole(address: str) -> str:
    """The same place, from wherever a night is started."""
    return address if "://" in address else str(Path(address).absolute())


def _check(values: dict[str, Any]) -> RunSpec:
    """Refuse now what the first night would refuse."""
    from segpipe.readers import list_collection
    from segpipe.spec import RunSpec, parse
    from segpipe.store.addresses import files_at

    spec = parse(RunSpec, values, "segpipe deploy init")
    list_collection(spec.source)
    files_at(spec.store)
    for block in spec.night.notify:
        if block.count("/") != 1 or not all(block.split("/")):
            raise SpecError(f"--notify {block}: a block is named TYPE/NAME, as slack-webhook/lab")
    return spec


def _next_commands(name: str, pool: str, folder: Path, alarms: bool) -> str:
    commands = [
        f"prefect work-pool create {pool} --type process",
        f"prefect deploy --all --prefect-file {folder}/prefect.yaml",
        f"segpipe deploy check {folder}/{name}.toml",
    ]
    if alarms:
        commands.insert(2, f"prefect automation create --from-file {folder}/automations.yaml")
    return "Next, with PREFECT_API_URL set:\n" + "\n".join(f"  {c}" for c in commands)
