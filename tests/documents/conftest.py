"""One Prefect server and one prepared folder for all pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.documents.workspace import Workspace, reader_environment
from tests.servers.prefect import prefect_environment, prefect_server


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    base = tmp_path_factory.mktemp("documents")
    environment = prefect_environment(base / "prefect-home")
    with prefect_server(environment, base / "prefect.log") as (_, variables):
        made = Workspace(base / "archive", reader_environment(variables), base / "kept")
        made.folder.mkdir()
        made.prepare()
        yield made
