"""What came of a reproduction, for people."""

from __future__ import annotations

from collections.abc import Iterator

from segpipe.report.morning.wording import legible, plural
from segpipe.reproduction.again import Reproduction

MOST = 20
"""Images that are told one by one; `--json` has all."""


def verdict_text(found: Reproduction) -> str:
    """Free of markup and control codes; the verdict is the last line."""
    return "\n".join(legible(line, 400) for line in _lines(found))


def _lines(found: Reproduction) -> Iterator[str]:
    sampled = len(found.compared) + len(found.left_out)
    yield f"run {found.run_id}: {sampled:,} of {plural(found.images, 'image')}, seed {found.seed}"
    yield f"  spec     {found.spec_id}"
    weights = f"sha256 {found.weights_sha256}, as then" if found.weights_sha256 else "none"
    yield f"  weights  {weights}"
    yield f"  code     {found.code or 'as then'}"
    if found.packages:
        changed = (f"{name} {then} then, {now} now" for name, (then, now) in found.packages.items())
        yield f"  packages {'; '.join(changed)}"
    unlike = [one for one in found.compared if one.outcome != "identical"]
    for one in unlike[:MOST]:
        yield f"  {one.outcome}: {one.path}: {one.detail}"
    for left in found.left_out[:MOST]:
        yield f"  left out: {left.path}: {left.why}"
    rest = max(0, len(unlike) - MOST) + max(0, len(found.left_out) - MOST)
    if rest:
        yield f"  and {rest:,} more, with --json"
    yield _verdict(found)


def _verdict(found: Reproduction) -> str:
    same, close = found.count("identical"), found.count("within tolerance")
    total = len(found.compared)
    left = f"; {plural(len(found.left_out), 'image')} left out" if found.left_out else ""
    if not total:
        return f"nothing could be compared{left}"
    if found.count("different"):
        return f"different: {found.count('different'):,} of {plural(total, 'image')}{left}"
    if close:
        within = (
            f"within the tolerance of {found.tolerance:g}: {close:,} of {plural(total, 'image')}"
        )
        return f"{within}, {same:,} identical{left}"
    return f"identical: {plural(total, 'image')}, every pixel and every measured column{left}"
