from __future__ import annotations

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.errors import ConfigurationError, ExportError
from hpc.results.manifest import Receiving, ResultFile, checked_patterns, key_of, keys_of, parse_manifest, parse_sent

SHA = hashlib.sha256(b"x").hexdigest()


def result(path: str, **more: object) -> ResultFile:
    return ResultFile(path, 1, 0, SHA, **more)  # type: ignore[arg-type]


def test_the_checksum_of_one_piece_is_of_its_bytes() -> None:
    assert result("a").s3_checksum == base64.b64encode(hashlib.sha256(b"x").digest()).decode()
    assert [(part.number, part.offset, part.length) for part in result("a").parts()] == [(0, 0, 1)]


def test_the_checksum_of_parts_is_of_their_checksums() -> None:
    digests = [hashlib.sha256(piece).digest() for piece in (b"aaaa", b"bb")]
    file = ResultFile("a", 6, 0, SHA, 4, tuple(base64.b64encode(digest).decode() for digest in digests))
    assert file.s3_checksum == base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + "-2"
    assert [(part.number, part.offset, part.length) for part in file.parts()] == [(1, 0, 4), (2, 4, 2)]


@given(st.text(min_size=1, max_size=30))
def test_keys_have_no_control_characters(path: str) -> None:
    assert not any(ord(character) < 32 or ord(character) == 127 for character in key_of("p", path))


def test_a_key_that_s3_cannot_take_is_refused() -> None:
    with pytest.raises(ExportError, match="1024 bytes"):
        keys_of("p", [result("é" * 520)])


@pytest.mark.parametrize("patterns", [[], "*.png", ["/x"], ["a/../b"], [""], ["a\0b"]])
def test_patterns_that_are_refused(patterns: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        checked_patterns(patterns)


HEAD = {"directory": "/d", "files": 1, "left_out": []}
FILE = {"path": "a", "size": 1, "mtime_ns": 0, "sha256": SHA}


def test_a_manifest_is_sorted_by_path() -> None:
    lines = [HEAD | {"files": 2}, FILE | {"path": "b"}, FILE]
    manifest = parse_manifest("\n".join(map(json.dumps, lines)))
    assert [file.path for file in manifest.files] == ["a", "b"]
    assert (manifest.directory, manifest.size) == ("/d", 2)


@pytest.mark.parametrize(
    "lines", [[], [[]], [{}], [HEAD], [HEAD, {}], [HEAD, FILE, FILE], [HEAD | {"left_out": [{"a": 1}]}, FILE]]
)
def test_a_manifest_that_is_not_whole_is_refused(lines: list[object]) -> None:
    with pytest.raises(ExportError, match="cannot be read"):
        parse_manifest("\n".join(map(json.dumps, lines)))


def test_what_s3_answered_survives_a_line_that_was_cut() -> None:
    lines = '["a", 0, "sha", "\\"etag\\"", true]\n["b", 5, "sha", "etag", false]\n["c", 0, "sh'
    assert parse_sent(lines) == {("a", 0, "sha"): Receiving("etag", True), ("b", 5, "sha"): Receiving("etag", False)}
