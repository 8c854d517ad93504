"""The code and the machine that a run used, without anything that is private to either."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import segpipe

PACKAGE_FOLDER = Path(segpipe.__file__).resolve().parent
_GIT_SECONDS = 10
_FIELD = re.compile(r"^(Name|Version): *(\S.*?)\s*$", re.MULTILINE)


def describe_environment() -> dict[str, Any]:
    """What could explain a difference between two runs, as plain JSON.

    Keys: `segpipe` (installed version), `git` (commit and dirty, or None outside a checkout),
    `python`, `platform`, `cpu` (model), `cores` (that this process may use), `packages` (name ->
    version). Environment variables, host and user names are not looked at.
    """
    packages = installed_packages()
    return {
        "segpipe": packages.get("segpipe", "unknown"),
        "git": describe_checkout(PACKAGE_FOLDER.parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": _usable_cores(),
        "packages": packages,
    }


def installed_packages() -> dict[str, str]:
    """Every installed distribution's version, by name, sorted."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        # A parser of mails would read the whole text, which is a README for most of its length.
        about = dict(_FIELD.findall(text.partition("\n\n")[0]))
        # A broken installation can leave a folder without a name; it says nothing.
        if "Name" in about:
            found.setdefault(about["Name"], about.get("Version", "unknown"))
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def describe_checkout(folder: Path) -> dict[str, Any] | None:
    """The commit of a git checkout, and whether tracked files differ from it.

    None where `folder` is not itself the root of a checkout (a parent that happens to be one says
    nothing about this code), or where git cannot tell.
    """
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None
    commit = _git(git, folder, "rev-parse", "HEAD")
    changes = _git(git, folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


def cpu_model() -> str:
    """The processor's name as the system gives it; the architecture where it gives none."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    # Without the caller's GIT_DIR and the like, which a hook sets for another repository; and
    # without taking the index lock, which would get in the way of somebody's commit.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with fixed arguments
            [git, "-C", str(folder), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
