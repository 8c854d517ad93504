"""A weights file gives back what was saved; anything else is refused before it can do harm."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segpipe.errors import WeightsError
from segpipe.segmenters.weights import (
    MAX_HEADER_BYTES,
    TileRule,
    WeightsHeader,
    load_tensors,
    read_header,
    save,
    sha256_file,
)
from segpipe.spec import PercentileScaling, Preprocess, UNetOptions

HEADER = WeightsHeader(
    name="tiny",
    kind="unet",
    task="instances",
    description="a test",
    licence="CC0-1.0",
    architecture={"encoder": "tf_efficientnet_lite0", "outputs": 3},
    classes=("background", "thing"),
    preprocess=Preprocess(scaling=PercentileScaling()),
    postprocess=UNetOptions(min_depth=0.4),
    tile=TileRule(multiple_of=32, max_side=4096),
)
TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3).half(), "b": torch.tensor(3)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save(path, TENSORS, HEADER)
    return path


def file_of(header: object) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def with_segpipe(value: object) -> bytes:
    return file_of({"__metadata__": {"segpipe": json.dumps(value)}})


def zipped_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save(TENSORS, buffer)
    return buffer.getvalue()


def test_round_trip(saved: Path) -> None:
    assert read_header(saved) == HEADER
    tensors = load_tensors(saved)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert tensors["a.weight"].dtype == torch.float16


def test_same_content_same_bytes(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    save(again, dict(reversed(TENSORS.items())), HEADER)
    assert sha256_file(again) == sha256_file(saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == [again.name, saved.name]


def test_the_header_is_read_without_torch(saved: Path) -> None:
    code = (
        "import sys, pathlib; from segpipe.segmenters.weights import read_header;"
        "read_header(pathlib.Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: pickle.dumps({"a": 1}), "pickle"),
        (zipped_pickle, "pickle"),
        (lambda: b"", "cut off"),
        (lambda: b"\x10", "cut off"),
        (lambda: (1 << 40).to_bytes(8, "little") + b"{}", "cut off"),
        (lambda: file_of(b" " * (MAX_HEADER_BYTES + 1)), "header of"),
        (lambda: file_of(b"[" * 100_000), "not JSON"),
        (lambda: file_of(b"{}}"), "not JSON"),
        (lambda: file_of(b"\xff\xfe\x00"), "not JSON"),
        (lambda: file_of([1]), "not a JSON object"),
        (lambda: file_of({}), "without the header"),
        (lambda: file_of({"__metadata__": {"format": "pt"}}), "without the header"),
        (lambda: file_of({"__metadata__": [1]}), "without the header"),
        (lambda: file_of({"__metadata__": {"segpipe": "{"}}), "not JSON"),
        (lambda: file_of({"__metadata__": {"segpipe": 3}}), "without the header"),
        (lambda: with_segpipe([]), "not a JSON object"),
        (lambda: with_segpipe({**HEADER.model_dump(mode="json"), "run": "rm"}), "'run'"),
        (lambda: with_segpipe({**HEADER.model_dump(mode="json"), "kind": "vit"}), "kind = 'vit'"),
        (lambda: with_segpipe({**HEADER.model_dump(mode="json"), "format_version": 2}), "= 2"),
        (lambda: with_segpipe({**HEADER.model_dump(mode="json"), "name": "../x"}), "name ="),
    ],
)
def test_other_files_are_refused(content: Callable[[], bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content())
    with pytest.raises(WeightsError, match=says) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_a_pickle_inside_a_zip_is_refused_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(1))
    with pytest.raises(WeightsError, match="only safetensors"):
        read_header(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64) | st.binary(max_size=64).map(file_of))
def test_random_bytes_are_refused_and_never_crash(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "noise.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        read_header(path)


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 99])
def test_cut_off_files_are_refused(saved: Path, percent: int) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: len(content) * percent // 100])
    with pytest.raises(WeightsError):
        load_tensors(saved)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (read_header, load_tensors, sha256_file):
        with pytest.raises(WeightsError, match="absent"):
            read(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("length", range(8))
def test_no_length_of_the_header_makes_a_file_look_like_a_pickle(
    length: int, tmp_path: Path
) -> None:
    """safetensors pads its header to 8 bytes; a length that ends in 0x80 begins like a pickle."""
    seen = set()
    for padding in range(length * 32, (length + 1) * 32):
        header = HEADER.model_copy(update={"description": "x" * padding})
        path = tmp_path / "w.safetensors"
        save(path, {"a": torch.zeros(1)}, header)
        seen.add(path.read_bytes()[0])
        assert read_header(path) == header
    if length == 0:
        assert len(seen) > 3
