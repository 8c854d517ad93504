"""PostgreSQL, from the system's packages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.postgres import Postgres, postgres_cluster, postgres_programs
from tests.walkthrough.site import Site


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is absent: apt-get install postgresql")
    with postgres_cluster(programs) as cluster:
        yield cluster


@pytest.fixture
def site(postgres: Postgres, tmp_path: Path) -> Site:
    return Site(tmp_path, postgres)
