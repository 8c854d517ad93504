"""Decoders that hang, crash or eat memory, for real: what they cost, in a process and on Dask."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from distributed import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.generated
from segpipe.engine import Work, equipped, local_cluster, run_chunks
from segpipe.errors import EngineError, InputError, Reason
from segpipe.readers import Reader, list_collection
from segpipe.readers.isolated import parse_answer
from segpipe.records import DecodedImage, Header
from segpipe.spec import Limits, SegmentSpec
from segpipe.store import Snapshot, create_store
from tests import bad_images
from tests.bad_images import encoded, photo, whole_images
from tests.faults.broken_library.imagecodecs import (
    ABORT,
    CRASH,
    EAT,
    HANG,
    HANG_ALONE,
    LEAVE,
    LOOK,
    PRINT,
)
from tests.generated import SPEC, ThresholdSegmenter, all_of, make_collection, refs

# The workers do not have the tests; the segmenter travels to them whole.
cloudpickle.register_pickle_by_value(tests.generated)
cloudpickle.register_pickle_by_value(sys.modules[__name__])

REPOSITORY = Path(__file__).resolve().parents[2]
BROKEN = REPOSITORY / "tests" / "faults" / "broken_library"
QUICK = Limits(decode_seconds=0.2)


def breaking(how: int) -> bytes:
    """An image of 48 rows with which the broken library breaks."""
    return encoded(photo(48, how)[:, :, 0], "PNG")


def read(reader: Reader, data: bytes, folder: Path) -> DecodedImage:
    (folder / "image").write_bytes(data)
    (ref,) = list_collection(str(folder / "image"))
    return reader.read(ref)


def child_of(reader: Reader) -> subprocess.Popen[bytes]:
    decoder = reader._isolated
    assert decoder is not None
    assert decoder._child is not None
    return decoder._child


@pytest.fixture(scope="module")
def isolated() -> Iterator[Reader]:
    with Reader(Limits(), isolated=True) as reader:
        yield reader


@pytest.fixture(scope="module")
def broken() -> Iterator[Reader]:
    """A reader whose decoders run in a process of their own, with the broken library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BROKEN))
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
        with Reader(QUICK, isolated=True) as reader:
            yield reader


def test_every_good_file_gives_what_it_gives_here(isolated: Reader, tmp_path: Path) -> None:
    processes = set()
    with Reader(Limits()) as here:
        for name, data in whole_images().items():
            there, expected = read(isolated, data, tmp_path), read(here, data, tmp_path)
            assert there.header == expected.header, name
            assert there.sha256 == expected.sha256
            assert there.n_nonfinite == expected.n_nonfinite
            assert there.pixels.dtype == expected.pixels.dtype
            np.testing.assert_array_equal(there.pixels, expected.pixels, err_msg=name)
            processes.add(child_of(isolated).pid)
    assert len(processes) == 1


def test_every_bad_file_ends_as_promised(isolated: Reader, tmp_path: Path) -> None:
    expected = bad_images.make_bad_inputs(tmp_path)
    for ref in list_collection(str(tmp_path)):
        try:
            isolated.read(ref)
        except InputError as error:
            assert error.reason in expected[ref.path], (ref.path, error)
        else:
            assert bad_images.OK in expected[ref.path], ref.path


def test_threads_share_one_process(isolated: Reader, tmp_path: Path) -> None:
    for index in range(8):
        (tmp_path / f"{index}.png").write_bytes(encoded(photo() + index, "PNG"))
    listed = [*list_collection(str(tmp_path))] * 3
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(isolated.read, listed))
    for ref, image in zip(listed, images, strict=True):
        np.testing.assert_array_equal(image.pixels, photo() + int(Path(ref.path).stem))


@pytest.mark.parametrize(
    ("how", "reason", "detail"),
    [
        (CRASH, Reason.CORRUPT, "SIGSEGV"),
        (ABORT, Reason.CORRUPT, "SIGABRT"),
        (LEAVE, Reason.CORRUPT, "exit status 3"),
        (HANG, Reason.TIME_LIMIT, "0.2 s"),
        (HANG_ALONE, Reason.TIME_LIMIT, "0.2 s"),
        (EAT, Reason.TOO_LARGE, "memory"),
    ],
)
def test_a_broken_decoder_costs_its_image_alone(
    broken: Reader, tmp_path: Path, how: int, reason: Reason, detail: str
) -> None:
    with pytest.raises(InputError, match=detail) as caught:
        read(broken, breaking(how), tmp_path)
    assert caught.value.reason is reason
    np.testing.assert_array_equal(read(broken, breaking(50), tmp_path).pixels[:, :, 0],
                                  photo(48, 50)[:, :, 0])  # fmt: skip


def test_what_a_decoder_prints_is_no_answer(broken: Reader, tmp_path: Path) -> None:
    image = read(broken, breaking(PRINT), tmp_path)
    np.testing.assert_array_equal(image.pixels[:, :, 0], photo(48, PRINT)[:, :, 0])


def test_a_decoder_has_no_secrets_and_no_terminal(broken: Reader, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(broken, breaking(LOOK), tmp_path)
    leads_a_session, environment = json.loads(caught.value.detail.partition(": ")[2])
    assert leads_a_session
    assert "PYTHONPATH" in environment
    assert "AWS_SECRET_ACCESS_KEY" not in environment


def test_a_decoder_that_was_killed_between_two_images_is_started_again(tmp_path: Path) -> None:
    with Reader(Limits(), isolated=True) as reader:
        read(reader, breaking(50), tmp_path)
        first = child_of(reader)
        first.kill()
        first.wait()
        read(reader, breaking(50), tmp_path)
        assert child_of(reader).pid != first.pid


def test_no_process_is_left_when_the_reader_is_closed(tmp_path: Path) -> None:
    with Reader(Limits(), isolated=True) as reader:
        reader.close()  # before there is one
        read(reader, breaking(50), tmp_path)
        child = child_of(reader)
    assert child.returncode == -signal.SIGKILL


def test_a_decoder_that_hangs_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """Its parent is killed while it hangs; the pipe that it holds closes when it ends."""
    (tmp_path / "image").write_bytes(breaking(HANG))
    script = f"""
import sys
sys.path.insert(0, {str(BROKEN)!r})
from segpipe.readers import Reader, list_collection
from segpipe.readers.isolated import IsolatedDecoder
from segpipe.spec import Limits
import os, threading
reader = Reader(Limits(decode_seconds=0.01), isolated=True)
(ref,) = list_collection({str(tmp_path / "image")!r})
reader._isolated._running()
threading.Timer(0.1, os._exit, [0]).start()
reader.read(ref)
"""
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0  # and stderr, which the decoder holds too, came to its end


def test_a_decoder_that_cannot_be_started_is_no_fault_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tifffile.py").write_text("raise ImportError('not installed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with (
        Reader(Limits(), isolated=True) as reader,
        pytest.raises(EngineError, match="exit status 1"),
    ):
        read(reader, breaking(50), tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))
    with Reader(Limits(), isolated=True) as reader, pytest.raises(EngineError, match="No such"):
        read(reader, breaking(50), tmp_path)


VALUES = st.one_of(
    st.none(), st.integers(), st.text(), st.floats(), st.lists(st.integers()),
    st.sampled_from(list(Reason)),
)  # fmt: skip
ANSWERS = st.dictionaries(st.sampled_from(["reason", "detail", "n_nonfinite", "dtype"]), VALUES)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text loads tables of Unicode
@given(st.one_of(st.binary(max_size=200), ANSWERS.map(lambda answer: json.dumps(answer).encode())))
def test_no_answer_is_believed_that_no_decoder_gives(line: bytes) -> None:
    header = Header(4, 4, 1, "float32", "tiff", "-")
    try:
        assert 0 <= parse_answer(line, header) <= 16
    except InputError as error:
        assert error.reason in Reason
        assert len(error.detail.encode()) <= 2000
    except ValueError:
        pass


@pytest.mark.parametrize(
    ("line", "dtype"),
    [
        (b'{"n_nonfinite": 1}', "uint8"),
        (b'{"n_nonfinite": 17}', "float32"),
        (b'{"n_nonfinite": -1}', "float32"),
        (b'{"n_nonfinite": true}', "float32"),
        (b'{"reason": "ok"}', "uint8"),
        (b'{"dtype": "object"}', "uint8"),
        (b"[" * 60_000, "uint8"),
        (b"", "uint8"),
    ],
)
def test_nonsense_is_told_apart(line: bytes, dtype: str) -> None:
    with pytest.raises((ValueError, RecursionError)):
        parse_answer(line, Header(4, 4, 1, dtype, "png", "-"))


# The watchdog, which ends the process that it watches


def test_a_process_that_hangs_is_ended_whatever_else_goes_on_in_it() -> None:
    script = """
import re, threading
from segpipe.readers import Watchdog
watchdog, begun = Watchdog(), threading.Event()
def patient():
    with watchdog.watch(1000):
        begun.set()
        threading.Event().wait()
threading.Thread(target=patient, daemon=True).start()
begun.wait()
with watchdog.watch(0.1):
    re.match(r"(a+)+$", "a" * 64 + "b")
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, timeout=60)
    assert done.returncode == -signal.SIGALRM


def test_the_alarm_is_that_of_the_first_to_end_and_off_when_all_have() -> None:
    script = """
import signal
from segpipe.readers import Watchdog
watchdog = Watchdog()
left = lambda: signal.getitimer(signal.ITIMER_REAL)[0]
with watchdog.watch(1000):
    assert 900 < left() <= 1000
    with watchdog.watch(100):
        assert 0 < left() <= 100
        with watchdog.watch(500):
            assert 0 < left() <= 100
    assert 900 < left() <= 1000
assert left() == 0
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, timeout=60, check=True)


# On Dask


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_cluster(1) as client:
        yield client


def load_broken(spec: SegmentSpec, births: Path | None, threads: int | None) -> Any:
    """The model of a worker whose image library is broken; `births` counts the workers."""
    folder = births.read_text().splitlines()[0]
    with births.open("a") as file:
        file.write(f"{os.getpid()}\n")
    sys.path.insert(0, folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "imagecodecs"]:
        del sys.modules[name]
    return ThresholdSegmenter(spec)


@pytest.mark.parametrize(
    "victims",
    [{0: HANG_ALONE}, {1: CRASH, 4: HANG, 5: HANG_ALONE, 7: EAT}],
    ids=["hang", "all"],
)
def test_a_broken_decoder_costs_one_worker_and_its_image(
    client: Client, tmp_path: Path, victims: dict[int, int]
) -> None:
    images = make_collection(tmp_path / "images", 8)
    paths = sorted(images.rglob("*.png"))
    for index, how in victims.items():
        paths[index].write_bytes(breaking(how))
    spec = SPEC.model_copy(update={"limits": QUICK})
    births = tmp_path / "births"
    births.write_text(f"{BROKEN}\n")
    files = create_store(tmp_path / "store")
    work = Work("run", str(tmp_path / "store"), spec, births, 1, load_broken)
    chunks = all_of(8, refs(images), spec.spec_id)
    with equipped(client, work) as staff:
        (commit,) = run_chunks(staff, chunks)
    assert commit.n_images == 8
    expected = {CRASH: "corrupt", HANG: "time_limit", HANG_ALONE: "time_limit", EAT: "too_large"}
    failed = {row["path"]: row["reason"] for row in Snapshot(files).image_rows()
              if row["status"] == "failed"}  # fmt: skip
    assert failed == {
        str(paths[index].relative_to(images)): expected[how] for index, how in victims.items()
    }
    assert len(births.read_text().split()) == 3, "the folder, the first worker and one more"
