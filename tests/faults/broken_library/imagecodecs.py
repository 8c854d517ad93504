"""Stands in for imagecodecs, and breaks in every way that native code does.

An image's width says how; others are decoded. Put this folder in front of `sys.path`.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import re

import numpy as np
from PIL import PngImagePlugin

__version__ = "broken"

CRASH, ABORT, LEAVE, HANG, HANG_ALONE, EAT, PRINT, LOOK = range(101, 109)


def png_decode(data: bytes, out: np.ndarray) -> None:
    width = int.from_bytes(data[16:20], "big")
    if width == CRASH:
        ctypes.string_at(0)
    elif width == ABORT:
        os.abort()
    elif width == LEAVE:
        os._exit(3)
    elif width == HANG:
        ctypes.CDLL(None).pause()
    elif width == HANG_ALONE:  # no other thread runs: the interpreter's lock is held
        re.match(r"(a+)+$", "a" * 64 + "b")
    elif width == EAT:
        bytearray(8 << 30)  # zeros that the kernel gives only when they are touched
    elif width == PRINT:
        os.write(1, b'{"n_nonfinite": 0}\n')
        print("libpng warning")
    elif width == LOOK:
        raise ValueError(json.dumps([os.getsid(0) == os.getpid(), sorted(os.environ)]))
    out[:] = np.asarray(PngImagePlugin.PngImageFile(io.BytesIO(data)))
