"""Decoding in a process of its own: one that hangs is killed, one that crashes costs one image.

Dask's workers may have no `multiprocessing` children, so this is a plain program with two pipes
(see `child`). Nothing that it says is believed: the header is the one that was read here, and it
says how many bytes of pixels there must be.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
from typing import BinaryIO, cast

import numpy as np

from segpipe.errors import EngineError, InputError, Reason
from segpipe.readers.convert import without_nonfinite
from segpipe.readers.decode import Decoded, inspect, pixel_bytes, stop_after
from segpipe.readers.structure import corrupt
from segpipe.readers.whole_plane import Address, plane_header
from segpipe.records import Header, Pixels
from segpipe.spec import Limits

READY = b"ready\n"
LENGTH_BYTES = 8

_START_SECONDS = 120.0
_MAX_LINE = 64 << 10
_MAX_DETAIL = 500
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "LANG", "LC_ALL")
"""Variables without which a Python may not start; none of them is a secret."""


class IsolatedDecoder:
    """Decodes in a child process, which is started when it is first needed and kept.

    Safe to use from several threads, which wait for each other.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes, address: Address | None = None) -> Decoded:
        """As `segpipe.readers.decode.decode`, with every limit enforced from outside.

        Args:
            data: the file; nothing where `address` is a folder.
            address: of a plane; None for the first frame.

        Raises:
            InputError: also `time_limit` for a decoder that had to be killed, `corrupt` for one
                that crashed, `too_large` for one that wanted more memory than an image may take.
            EngineError: the process cannot be started.
        """
        if address is None:
            header = inspect(io.BytesIO(data), len(data), self._limits)
        else:
            header = plane_header(data, address, self._limits)
        with self._lock:
            child = self._running()
            late = threading.Event()
            timer = _kill_after(child, stop_after(self._limits), late)
            try:
                return _ask(child, data, address, header)
            except (OSError, EOFError) as error:
                raise self._obituary(late.is_set()) from error
            except (ValueError, RecursionError) as error:
                self._stop()
                raise corrupt(f"the process that decodes it answers nonsense: {error}") from error
            finally:
                timer.cancel()
                timer.join()
                if late.is_set():
                    self._stop()

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self._stop()
            self._child = _start(self._limits)
        return self._child

    def _stop(self) -> int:
        """End the child, if there is one; its exit status."""
        child, self._child = self._child, None
        return _end(child) if child is not None else 0

    def _obituary(self, late: bool) -> InputError:
        """What the death of the child says of the image."""
        status = self._stop()
        if late:
            limit = self._limits.decode_seconds
            return InputError(
                Reason.TIME_LIMIT, f"its decoder was killed: {limit:g} s (limits.decode_seconds)"
            )
        if status == -signal.SIGKILL:
            return InputError(Reason.WORKER_DIED, "somebody else killed its decoder (SIGKILL)")
        return corrupt(f"its decoder crashed: {_ending(status)}")


def parse_answer(line: bytes, header: Header) -> int:
    """How many samples were not finite, from the first line of an answer.

    Raises:
        InputError: what the child says of the image.
        ValueError, RecursionError: it says something that no child says.
    """
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("no object")  # noqa: TRY004 - one error for all nonsense
    if "reason" in answer:
        detail = str(answer.get("detail"))[:_MAX_DETAIL].encode(errors="replace").decode()
        raise InputError(Reason(answer["reason"]), detail)
    count = answer.get("n_nonfinite")
    most = header.height * header.width * header.channels if header.dtype[0] == "f" else 0
    if type(count) is not int or not 0 <= count <= most:
        raise ValueError(f"n_nonfinite is {count!r:.20}")
    return count


def _start(limits: Limits) -> subprocess.Popen[bytes]:
    """A child that is ready, in a session of its own: Ctrl-C is for its parent to deal with."""
    command = [sys.executable, "-P", "-m", "segpipe.readers.child", limits.model_dump_json()]
    try:
        child = subprocess.Popen(  # noqa: S603 - this very Python
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise EngineError(f"no process can be started to decode images in: {error}") from error
    timer = _kill_after(child, _START_SECONDS, threading.Event())
    said = cast(BinaryIO, child.stdout).readline(_MAX_LINE)
    timer.cancel()
    if said != READY:
        raise EngineError(
            f"the process that decodes images did not start ({_ending(_end(child))});"
            " its messages are in the worker's log"
        )
    return child


def _end(child: subprocess.Popen[bytes]) -> int:
    """Kill the child, if it is not dead; its exit status."""
    child.kill()
    for stream in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):  # what could not be sent any more
            cast(BinaryIO, stream).close()
    return child.wait()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    modules = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # noqa: PTH100 - "" too
    return kept | {"PYTHONPATH": modules, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _kill_after(
    child: subprocess.Popen[bytes], seconds: float, late: threading.Event
) -> threading.Timer:
    def kill() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    return timer


def _ask(
    child: subprocess.Popen[bytes], data: bytes, address: Address | None, header: Header
) -> Decoded:
    """
    Raises:
        InputError: what the child says of the image.
        OSError, EOFError: the child is dead.
        ValueError, RecursionError: its answer is none.
    """
    questions, answers = cast(BinaryIO, child.stdin), cast(BinaryIO, child.stdout)
    for part in (address.to_json() if address else b"", data):
        questions.write(len(part).to_bytes(LENGTH_BYTES, "big"))
        questions.write(part)
    questions.flush()
    line = answers.readline(_MAX_LINE)
    if not line:
        raise EOFError
    n_nonfinite = parse_answer(line, header)
    raw = answers.read(pixel_bytes(header))
    if len(raw) < pixel_bytes(header):
        raise EOFError
    shape = (*header.shape, header.channels)
    pixels: Pixels = np.frombuffer(raw, header.dtype).reshape(shape)
    if without_nonfinite(pixels)[1]:
        raise ValueError("pixels that are not finite")
    return Decoded(header, pixels, n_nonfinite)


def _ending(status: int) -> str:
    """An exit status in words; a negative one is a signal."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
