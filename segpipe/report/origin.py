"""A chain of provenance as people read it: from the object down to the bytes and the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from segpipe.provenance.chain import Chain, Link
from segpipe.provenance.installed import other_code
from segpipe.report.morning.wording import legible, plural

Facts = Mapping[str, Any]
_INDENT = 13


def chain_text(chain: Chain) -> str:
    """The links from top to bottom, then what does not hold; free of markup and control codes."""
    lines = []
    for link in chain.links:
        words = [legible(line, 400) for line in _words(link)]
        lines += [f"{name:<{_INDENT}}{line}" for name, line in _named(link.name, words)]
    checked = list(chain.checks)
    broken = chain.broken
    lines.append("")
    lines.append(
        f"{len(broken)} of {plural(len(checked), 'check')} do not hold:"
        if broken
        else f"computed again, and as recorded: {plural(len(checked), 'check')}"
    )
    lines += [f"  {legible(check.subject, 400)}: {legible(check.detail)}" for check in broken]
    return "\n".join(lines)


def runs_text(runs: Iterable[Facts]) -> str:
    """The runs of a store, a few lines for each."""
    parts = [line for run in runs for line in _run_lines(run)]
    return "\n".join(legible(part, 400) for part in parts) or "no run has left a record"


def _run_lines(run: Facts) -> Iterator[str]:
    summary = run["summary"] or {}
    yield f"{run['run_id']}  {run['status']}  {run['started']} to {run['ended'] or '...'}"
    yield f"    {run['source']}"
    yield f"    {_made(summary, run['outputs'])}"
    weights = f"weights {run['weights_sha256'][:12]}" if run["weights_sha256"] else "no weights"
    commit = f" (commit {run['commit'][:12]})" if run["commit"] else ""
    yield f"    {run['model']}, {weights}, spec {run['spec_id'][:12]}"
    yield f"    segpipe {run['segpipe']}{commit} on {run['device']}"


def _named(name: str, words: list[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(words):
        yield ("" if number else name), line


def _words(link: Link) -> Iterator[str]:
    yield from _WORDS[link.name](link.facts)
    if link.name == "image":  # what was read again, where it was
        for check in link.checks[1:]:
            yield f"there now: {check.detail}"


def _object(facts: Facts) -> Iterator[str]:
    score = "" if facts["score"] is None else f", score {facts['score']:.3f}"
    yield f"label {facts['label']}: {facts['class_name']} (class {facts['class_id']}){score}"
    rows = f"rows {facts['bbox_y0']} to {facts['bbox_y1'] - 1}"
    columns = f"columns {facts['bbox_x0']} to {facts['bbox_x1'] - 1}"
    yield f"{rows}, {columns}, area {facts['area']:,} px"
    index = facts["mask_index"]
    yield f"in {facts['mask_array']}" + ("" if index is None else f"[{index}]")


def _image(facts: Facts) -> Iterator[str]:
    yield facts["path"]
    yield facts["uri"]
    yield f"sha256 {facts['sha256'] or 'unknown: it could not be read'}"
    if facts["status"] != "ok":
        yield f"failed: {facts['reason']}: {facts['detail']}"
    size = f"{facts['size_bytes']:,} bytes"
    if facts["height"] is not None:
        shape = f"{facts['height']} x {facts['width']} px, {plural(facts['channels'], 'channel')}"
        yield f"{size}, {facts['format']} read by {facts['decoder']}: {shape} of {facts['dtype']}"
    else:
        yield size
    if facts["input_changed"]:
        yield "the file changed while its chunk was processed"


def _chunk(facts: Facts) -> Iterator[str]:
    if "images" not in facts:
        yield facts["chunk_id"]
        return
    again = f", try {facts['generation'] + 1}" if facts["generation"] else ""
    counts = f"{plural(facts['images'], 'image')}, {plural(facts['objects'], 'object')}"
    yield f"{facts['chunk_id']}: {counts}{again}"
    yield _stages(facts["seconds"])


def _attempt(facts: Facts) -> Iterator[str]:
    yield f"{facts['attempt']}: {facts['commit']}"
    for name, about in facts["files"].items():
        yield f"{name}: {about['size']:,} bytes, sha256 {about['sha256'][:16]}"


def _run(facts: Facts) -> Iterator[str]:
    yield facts["run_id"]
    if "record" not in facts:
        return
    yield f"{facts['status']}, {facts['started']} to {facts['ended'] or '...'}"
    yield f"of {facts['run_spec']['source']}"
    yield f"plan {facts['plan']['digest'][:16]}, {plural(facts['plan']['chunks'], 'chunk')}"
    if facts["error"]:
        yield f"failed: {facts['error']}"
    if facts["forgotten"]:
        yield "its results were forgotten"


def _spec(facts: Facts) -> Iterator[str]:
    yield facts["spec_id"]
    values = facts["values"]
    options = {name: value for name, value in values["options"].items() if name != "kind"}
    yield _pairs(options)
    rest = ("batch_images", "device", "precision", "backend", "schema_version")
    yield _pairs({name: values[name] for name in (*rest, "algorithm_version") if name in values})
    yield _pairs(values.get("limits", {}))


def _weights(facts: Facts) -> Iterator[str]:
    if facts["sha256"] is None:
        yield f"none: {facts['model']} needs none"
        return
    if facts["kind"] == "truth":
        yield f"none: {facts['model']} was imported, from files with the digest {facts['sha256']}"
        return
    yield f"{facts['model']}: sha256 {facts['sha256']}"
    here = facts["here"]
    licence = facts["licence"] or "licence not stated"
    trained = f", trained on {here['trained_on']}" if here.get("trained_on") else ""
    yield f"{licence}{trained}; from {here['source']}"
    if here["same"]:
        yield "the file here has the same bytes"
    elif here["sha256"]:
        yield f"the file here has other bytes: sha256 {here['sha256']}"
    else:
        yield "there is no such file here"


def _code(facts: Facts) -> Iterator[str]:
    git = facts["git"]
    dirty = ", with changes that are in no commit" if git and git["dirty"] else ""
    commit = f", commit {git['commit']}{dirty}" if git else ""
    yield f"segpipe {facts['segpipe']}{commit}"
    if differs := other_code(facts, facts["here"]):
        yield differs


_DECISIVE = ("numpy", "scipy", "scikit-image", "pillow", "imagecodecs", "tifffile", "torch")


def _environment(facts: Facts) -> Iterator[str]:
    packages = facts.get("packages", {})
    decisive = [f"{name} {packages[name]}" for name in _DECISIVE if name in packages]
    listed = f"; {len(packages)} packages with --json" if packages else ""
    yield f"Python {facts.get('python')}, {', '.join(decisive)}{listed}"


def _machine(facts: Facts) -> Iterator[str]:
    device = facts["device"]
    yield f"{facts['platform']}, {plural(facts['cores'] or 0, 'core')} of {facts['cpu']}"
    yield f"computed on {device['name']} ({device['device_class']}, {device['precision']})"
    for kind in facts["workers"]:
        yield f"{plural(kind['workers'], 'worker')} with {plural(kind['threads'], 'thread')} each"


def _results(facts: Facts) -> Iterator[str]:
    yield _made(facts, facts["outputs"])


def _made(summary: Facts, outputs: Facts | None) -> str:
    if "ok" not in summary:
        return "has not said what it made"
    failed = f", {summary['failed']:,} failed" if summary["failed"] else ""
    images = f"{plural(summary['ok'], 'image')}{failed}, {plural(summary['objects'], 'object')}"
    written = outputs or {"commits": 0, "files": 0, "bytes": 0}
    files = f"{plural(written['files'], 'file')}, {written['bytes']:,} bytes"
    return f"{images} in {plural(written['commits'], 'chunk')} ({files})"


def _stages(seconds: Facts) -> str:
    """Wall times of a millisecond and more."""
    spent = {
        name: value
        for name, value in seconds.items()
        if not name.endswith("_cores") and name != "total" and value >= 0.001
    }
    parts = [f"{name} {value:.3f} s" for name, value in spent.items()]
    return f"took {seconds.get('total', 0):.3f} s: {', '.join(parts)}"


def _pairs(values: Facts) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


_WORDS: dict[str, Callable[[Facts], Iterator[str]]] = {
    "object": _object,
    "image": _image,
    "chunk": _chunk,
    "attempt": _attempt,
    "run": _run,
    "spec": _spec,
    "weights": _weights,
    "code": _code,
    "environment": _environment,
    "machine": _machine,
    "results": _results,
}
