"""Damaged files of every kind, a few hundred each; thousands are in `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_images import encoded, photo
from tests.faults.broken_library.imagecodecs import ABORT, CRASH
from tests.faults.fuzz import KINDS, REPOSITORY, fuzz, fuzz_files

BROKEN = Path(__file__).parent / "broken_library"


@pytest.mark.parametrize("kind", KINDS)
def test_damage_never_does_more_than_fail_an_image(kind: str) -> None:
    report = fuzz(kind, 300)
    assert report.violations == ()
    assert report.outcomes["ok"] > 10, "some damage is harmless, or nothing was read at all"
    assert sum(report.outcomes.values()) - report.outcomes["ok"] > 100


def test_the_same_seed_is_the_same_damage() -> None:
    assert fuzz("png", 40, seed=3) == fuzz("png", 40, seed=3) != fuzz("png", 40, seed=4)


@pytest.mark.parametrize(("how", "signal"), [(CRASH, "SIGSEGV"), (ABORT, "SIGABRT")])
def test_a_decoder_that_crashes_is_found(
    how: int, signal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{BROKEN}:{REPOSITORY}")
    victim = encoded(photo(48, how)[:, :, 0], "PNG")
    report = fuzz_files("png", [victim], 5)
    assert {violation.what for violation in report.violations} == {f"kills the process ({signal})"}
