"""What nights need of a Prefect server: asked of the server, nothing is changed there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import prefect
from httpx import HTTPError
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, get_current_settings
from pydantic import TypeAdapter, ValidationError
from segpipe.flows.messages import load_block, tell

from segpipe.deployment.checks import Check, State
from segpipe.deployment.prefect_file import Nights
from segpipe.errors import SpecError
from segpipe.spec import RunSpec, parse

NO_SERVER = "PREFECT_API_URL is not set: there is no server that could start a night"
SET = "prefect config set PREFECT_API_URL=http://HOST:4200/api"
DEPLOY = "prefect deploy --all"


def check_cron(cron: str, timezone: str) -> None:
    """
    Raises:
        SpecError: it is no schedule.
    """
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        reasons = "; ".join(str(problem["msg"]) for problem in error.errors())
        raise SpecError(f"{reasons}; a cron has five fields, as '0 2 * * *'") from None


async def check_server(nights: Sequence[tuple[Nights, RunSpec | None]]) -> list[Check]:
    """All that these nights need of the server that `PREFECT_API_URL` names.

    Args:
        nights: each with the spec in its file, if that is a valid one.
    """
    url = PREFECT_API_URL.value()
    if not url:
        return [Check("Prefect server", "missing", NO_SERVER, SET)]
    try:
        return await _ask(url, nights)
    except (HTTPError, PrefectHTTPStatusError) as error:
        todo = "see the log of the server; is it a Prefect server of version 3?"
        return [Check("Prefect server", "missing", f"{url}: {error}", todo)]


async def _ask(url: str, nights: Sequence[tuple[Nights, RunSpec | None]]) -> list[Check]:
    async with get_client() as client:
        error = await client.api_healthcheck()
        if error is not None:
            todo = "start it (`prefect server start`), or correct PREFECT_API_URL"
            return [Check("Prefect server", "missing", f"{url}: {error}", todo)]
        checks = [await _version(client, url)]
        pools = [await _pool(client, name) for name in sorted({night.pool for night, _ in nights})]
        checks.append(await _database(client, sum(workers for _, workers in pools)))
        checks += [check for of_pool, _ in pools for check in of_pool]
        for night, spec in nights:
            checks += await _night(client, night, spec)
    return checks


def check_blocks(names: Sequence[str], send: bool) -> list[Check]:
    """Whether each block is there that is told of a night; if `send`, it is told of a test."""
    return [_block(name, send) for name in names]


async def block_ids(names: Sequence[str]) -> dict[str, str | None]:
    """Name -> id of each block; None where there is none, or no server that answers."""
    if not names or not PREFECT_API_URL.value():
        return dict.fromkeys(names)
    async with get_client() as client:
        return {name: await _block_id(client, name) for name in names}


async def _block_id(client: PrefectClient, name: str) -> str | None:
    slug, _, document = name.partition("/")
    try:
        return str((await client.read_block_document_by_name(document, slug)).id)
    except (ObjectNotFound, HTTPError):
        return None


def _block(name: str, send: bool) -> Check:
    what = f"block {name}"
    try:
        load_block(name)
    except ValueError as error:
        return Check(what, "missing", str(error), "make it: docs/alarms.md shows how")
    if not send:
        return Check(what, "ok", "it is there; --send sends it a message")
    text = "This is a test by `segpipe deploy check --send`; nothing is the matter."
    if not tell([name], "segpipe: a test", text):
        return Check(what, "missing", "it did not take a message", "correct what the block holds")
    return Check(what, "ok", "it took a message")


async def _version(client: PrefectClient, url: str) -> Check:
    what, server, here = "Prefect server", await client.api_version(), prefect.__version__
    found = f"{url}, version {server}"
    if server.split(".")[:2] == here.split(".")[:2]:
        return Check(what, "ok", found)
    todo = "let the server be as new as its clients, or newer"
    return Check(what, "warning", f"{found}; here it is {here}", todo)


async def _database(client: PrefectClient, workers: int) -> Check:
    """PostgreSQL or SQLite, as far as somebody says it: the server hides the address of its own."""
    settings = (await client.request("GET", "/admin/settings")).json()
    said = str((settings.get("server") or {}).get("database", {}).get("driver") or "")
    ours = get_current_settings().server.database.connection_url
    named = said or (ours.get_secret_value() if ours else "")
    what, todo = "Prefect's database", "SQLite is for one worker: let the server use PostgreSQL"
    if named.startswith("postgres"):
        return Check(what, "ok", "PostgreSQL")
    found = f"{said or 'the server does not say which'}; workers online: {workers}"
    return Check(what, "warning", found, todo) if workers > 1 else Check(what, "ok", found)


async def _pool(client: PrefectClient, name: str) -> tuple[list[Check], int]:
    """Of a work pool and its workers, and how many of those are online."""
    what, start = f"work pool {name}", f"prefect worker start --pool {name}"
    try:
        pool = await client.read_work_pool(name)
        workers = await client.read_workers_for_work_pool(name)
    except ObjectNotFound:
        todo = f"prefect work-pool create {name} --type process"
        return [Check(what, "missing", "there is none", todo)], 0
    paused = Check(what, "missing", "it is paused", f"prefect work-pool resume {name}")
    checks = [paused if pool.is_paused else Check(what, "ok", f"of type {pool.type}")]
    online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
    what = f"worker of {name}"
    if online:
        return [*checks, Check(what, "ok", f"online: {', '.join(sorted(online))}")], len(online)
    last = max((w.last_heartbeat_time for w in workers if w.last_heartbeat_time), default=None)
    found = f"none is online; the last one was at {last:%Y-%m-%d %H:%M %Z}" if last else "none yet"
    return [*checks, Check(what, "missing", found, start)], 0


async def _night(client: PrefectClient, night: Nights, spec: RunSpec | None) -> list[Check]:
    """Of the two deployments of a collection."""
    checks = []
    for flow in ("nightly", "watch"):
        what = f"deployment {flow}/{night.name}"
        try:
            found = await client.read_deployment_by_name(f"{flow}/{night.name}")
        except ObjectNotFound:
            state: State = "missing" if flow == "nightly" else "warning"
            checks.append(Check(what, state, "there is none", DEPLOY))
            continue
        checks.append(_pool_of(found, what, night))
        checks.append(await _schedule(found, f"schedule of {flow}/{night.name}"))
        if flow == "nightly":
            checks.append(_one_at_a_time(found, f"concurrency of nightly/{night.name}"))
            checks.append(_parameters(found, f"parameters of nightly/{night.name}", spec))
    return checks


def _pool_of(found: DeploymentResponse, what: str, night: Nights) -> Check:
    if found.work_pool_name == night.pool:
        return Check(what, "ok", f"in work pool {night.pool}")
    text = f"in work pool {found.work_pool_name}, not {night.pool}"
    return Check(what, "missing", text, DEPLOY)


async def _schedule(found: DeploymentResponse, what: str) -> Check:
    active = [schedule.schedule for schedule in found.schedules if schedule.active]
    if found.paused:
        todo = f"prefect deployment schedule resume --all, or {DEPLOY}"
        return Check(what, "missing", "the deployment is paused", todo)
    if not active:
        todo = f"give it one in prefect.yaml, and {DEPLOY}"
        return Check(what, "missing", "none is active", todo)
    coming = [(await _next(one), str(getattr(one, "timezone", None) or "UTC")) for one in active]
    times = [(time, zone) for time, zone in coming if time is not None]
    if not times:
        return Check(what, "warning", "it never comes", "give it another cron in prefect.yaml")
    time, zone = min(times)
    return Check(what, "ok", f"next on {time:%A %Y-%m-%d at %H:%M} ({zone})")


async def _next(schedule: Any) -> datetime | None:
    """When it comes next, in its own time zone."""
    from prefect.server.schemas import schedules  # which takes a second

    kind: TypeAdapter[Any] = TypeAdapter(schedules.SCHEDULE_TYPES)
    dates = await kind.validate_python(schedule.model_dump()).get_dates(1)
    return dates[0] if dates else None


def _one_at_a_time(found: DeploymentResponse, what: str) -> Check:
    limit = found.global_concurrency_limit.limit if found.global_concurrency_limit else None
    options = found.concurrency_options
    strategy = options.collision_strategy.value if options else "no strategy"
    if limit == 1 and strategy == "ENQUEUE":
        return Check(what, "ok", "one night at a time; the next one waits")
    todo = "limit: 1 and collision_strategy: ENQUEUE in prefect.yaml: two nights do work twice"
    return Check(what, "warning", f"limit {limit}, {strategy}", todo)


def _parameters(found: DeploymentResponse, what: str, spec: RunSpec | None) -> Check:
    try:
        deployed = parse(RunSpec, found.parameters.get("spec") or {}, "spec")
    except SpecError as error:
        return Check(what, "missing", str(error), DEPLOY)
    if spec is None or deployed == spec:
        return Check(what, "ok", "a valid run spec" + " and that of the file" * (spec is not None))
    given, old = spec.model_dump(), deployed.model_dump()
    keys = ", ".join(key for key in given if given[key] != old[key])
    return Check(what, "missing", f"the file says otherwise by now: {keys}", DEPLOY)
