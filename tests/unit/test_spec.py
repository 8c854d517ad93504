"""What a person asks for is checked; what can change a result is in the digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from segpipe.errors import SpecError
from segpipe.spec import DetectorOptions, Limits, RunSpec, SegmentSpec, load_config, parse
from tests.generated import SPEC


def test_an_unknown_key_is_named_with_what_is_allowed() -> None:
    with pytest.raises(
        SpecError, match=r"night\.toml: unknown key 'chunk_size'; allowed: .*chunk_images"
    ):
        parse(RunSpec, {"source": "a", "store": "b", "chunk_size": 3}, "night.toml")


def test_an_unknown_key_of_a_table_is_named_with_what_the_table_allows() -> None:
    values = {"source": "a", "store": "b", "limits": {"pixels": 3}}
    allowed = "max_pixels, max_file_bytes, decode_seconds"
    with pytest.raises(SpecError, match=rf"unknown key 'limits\.pixels'; allowed: {allowed}$"):
        parse(RunSpec, values, "night.toml")


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(SpecError, match=r"max_failed = 2"):
        parse(RunSpec, {"source": "a", "store": "b", "max_failed": 2}, "here")


@pytest.mark.parametrize(
    "change",
    [
        {"batch_images": 2},
        {"precision": "bf16"},
        {"backend": "openvino"},
        {"device": "cuda"},
        {"limits": Limits(max_pixels=5)},
        {"options": DetectorOptions(score_threshold=0.25)},
        {"algorithm_version": 99},
    ],
)
def test_whatever_can_change_a_result_changes_the_spec_id(change: dict[str, object]) -> None:
    assert SPEC.model_copy(update=change).spec_id != SPEC.spec_id


def test_the_spec_id_survives_a_round_trip() -> None:
    assert SegmentSpec.model_validate(SPEC.model_dump(mode="json")).spec_id == SPEC.spec_id


def test_specs_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SPEC.batch_images = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = [", "not a TOML file"), (b"\xff\xfe", "not a TOML file"), (b"#" * 1_000_001, "larger")],
)
def test_a_bad_configuration_names_its_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=rf"run\.toml: .*{message}"):
        load_config(path)


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.toml: cannot be read"):
        load_config(tmp_path / "absent.toml")
