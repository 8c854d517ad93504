"""Each scenario a few times; `make soak` has them by the thousand."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.scenarios.catalogue import SCENARIOS, Entry
from tests.faults.scenarios.runs import UnavailableError

IN_CI = [entry for entry in SCENARIOS if entry.ci]


@pytest.mark.parametrize("entry", IN_CI, ids=[entry.name for entry in IN_CI])
def test_a_fault_breaks_no_promise(entry: Entry, tmp_path: Path) -> None:
    try:
        after_each = list(entry.inject(entry.ci, random.Random(0), tmp_path))
    except UnavailableError as error:
        pytest.skip(str(error))
    assert [found for found in after_each if found] == []
    assert len(after_each) >= min(entry.ci, 1)
