"""Whatever a conditional PUT is answered: a commit stands once, and whoever made it knows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segpipe.errors import SpecError, StoreError, TransientStoreError
from segpipe.store import create_store, open_store
from segpipe.store.objects import ObjectFiles
from tests.faults.scenarios.object_storage import (
    PATIENCE,
    fault_at_each_conditional_put,
    two_runs_race,
)
from tests.s3 import (
    FAULTS,
    FOR_GOOD,
    SECRET,
    Fault,
    FaultKind,
    Proxy,
    make_folder,
    new_address,
    reached_at,
)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[Proxy]:
    with Proxy(s3_endpoint) as proxy, reached_at(proxy.endpoint):
        yield proxy


@pytest.fixture
def files(proxy: Proxy) -> ObjectFiles:
    return ObjectFiles(new_address(), PATIENCE)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_disturbed_create_knows_that_it_won(
    proxy: Proxy, files: ObjectFiles, kind: FaultKind
) -> None:
    proxy.plan(Fault(kind, 0, times=PATIENCE.times))
    assert files.create("commits/a.json", b"ours")
    assert proxy.happened == (1 if kind == "lost reply" else PATIENCE.times)
    assert files.read("commits/a.json") == b"ours"
    assert not files.create("commits/a.json", b"theirs")


@pytest.mark.parametrize("kind", FAULTS)
def test_a_disturbed_create_knows_that_it_lost(
    proxy: Proxy, files: ObjectFiles, kind: FaultKind
) -> None:
    files.write("commits/a.json", b"theirs")
    proxy.plan(Fault(kind, 0, times=PATIENCE.times))
    assert not files.create("commits/a.json", b"ours")
    assert proxy.happened == 1
    assert files.read("commits/a.json") == b"theirs"


@pytest.mark.parametrize("kind", FAULTS)
def test_without_an_answer_for_long_it_says_that_it_may_pass(
    proxy: Proxy, files: ObjectFiles, kind: FaultKind
) -> None:
    proxy.plan(Fault(kind, 0, FOR_GOOD))
    if kind == "lost reply":
        assert files.create("commits/a.json", b"ours")
        return
    with pytest.raises(TransientStoreError, match=f"{files.address}/commits/a.json") as raised:
        files.create("commits/a.json", b"ours")
    assert proxy.happened == PATIENCE.times + 1
    assert SECRET not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_request_repeated_by_somebody_between_is_our_own(files: ObjectFiles) -> None:
    """A gateway loses the reply, sends the PUT again, and hands on the 412 of the second one."""
    assert files.create("commits/a.json", b"ours")
    assert files.create("commits/a.json", b"ours")


def replaced(files: ObjectFiles) -> bool:
    files.replace("a", b"new")
    return files.read("a") == b"new"


def streamed(files: ObjectFiles) -> bool:
    with files.stream("a") as file:
        file.write(b"new")
    return files.read("a") == b"new"


def published(files: ObjectFiles) -> bool:
    files.publish("folder/1", "b")
    return files.read("b") == b"1"


def removed(files: ObjectFiles) -> bool:
    files.remove("folder")
    return list(files.names("folder")) == []


def committed(files: ObjectFiles) -> bool:
    return files.commit("folder/1", "b", b"new") and files.read("b") == b"new"


def looked_at(files: ObjectFiles) -> bool:
    return files.exists("folder") and files.size("folder") == 2 and not files.exists("b")


@pytest.mark.parametrize("kind", ["503", "reset", "lost reply"])
@pytest.mark.parametrize(
    "operation", [replaced, streamed, published, removed, committed, looked_at]
)
def test_one_disturbed_request_is_not_noticed(
    proxy: Proxy, operation: Callable[[ObjectFiles], bool], kind: FaultKind
) -> None:
    """Each request of each operation, one after the other."""
    for k in range(10):
        files = ObjectFiles(new_address(), PATIENCE)
        for path in ("a", "folder/1", "folder/2"):
            files.write(path, path[-1].encode())
        proxy.plan(Fault(kind, k, conditional=False))
        assert operation(files)
        if not proxy.happened:
            break
    assert k > 1


def test_a_server_that_ignores_conditions_is_refused(proxy: Proxy, files: ObjectFiles) -> None:
    files.probe()
    proxy.ignores_conditions = True
    with pytest.raises(StoreError, match="ignores `If-None-Match"):
        files.probe()
    assert list(files.temporary("")) == []


def test_a_bucket_that_is_not_there_is_named_at_once(proxy: Proxy) -> None:
    with pytest.raises(SpecError, match="no segpipe store here"):
        open_store("s3://absent/store")
    with pytest.raises(StoreError, match=r"s3://absent/store.*NoSuchBucket") as raised:
        create_store("s3://absent/store")
    assert not isinstance(raised.value, TransientStoreError)
    with pytest.raises(StoreError, match="NoSuchBucket") as raised:
        ObjectFiles("s3://absent/store").create("a", b"")
    assert not isinstance(raised.value, TransientStoreError)


def test_a_folder_made_in_a_console_is_empty(proxy: Proxy) -> None:
    address = new_address()
    make_folder(proxy.endpoint, address)
    make_folder(proxy.endpoint, f"{address}/images")
    files = ObjectFiles(address, PATIENCE)
    assert list(files.names("images")) == []
    make_folder(proxy.endpoint, f"{address}/store")
    assert open_store(create_store(f"{address}/store").address).chunk_ids == ()


@pytest.mark.parametrize(
    "address",
    ["s3://key:hunter2@bucket/store", "s3://bucket/store?token=hunter2", "ftp://hunter2@host/x"],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(address: str) -> None:
    with pytest.raises(SpecError) as raised:
        create_store(address)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("address", ["s3://", "s3:///store", "http://host/store", "file:///store"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(SpecError, match="s3://BUCKET/PREFIX"):
        create_store(address)


def test_an_address_that_lost_a_slash_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="give an address as text"):
        create_store(Path("s3://bucket/store"))


def test_each_conditional_put_disturbed_once(s3_endpoint: str, tmp_path: Path) -> None:
    """Nobody notices: not the run, nor whoever looks at its store."""
    rng = random.Random(0)
    found = [*fault_at_each_conditional_put(10_000, rng, tmp_path, s3_endpoint, [1], images=2)]
    assert len(found) >= 45
    assert [violation for violations in found for violation in violations] == []


def test_a_conditional_put_disturbed_for_good(s3_endpoint: str, tmp_path: Path) -> None:
    """The run gives up, and the next one goes on from what is there."""
    rng = random.Random(0)
    found = [*fault_at_each_conditional_put(4, rng, tmp_path, s3_endpoint, [FOR_GOOD])]
    assert [violation for violations in found for violation in violations] == []


def test_two_processes_race_for_the_same_chunks(s3_endpoint: str, tmp_path: Path) -> None:
    found = [*two_runs_race(2, random.Random(0), tmp_path, s3_endpoint)]
    assert [violation for violations in found for violation in violations] == []
