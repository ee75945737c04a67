"""What the head node found: the files to export, with size and SHA-256, and how S3 will name and check them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from hpc.errors import ConfigurationError, ExportError

#: The longest key that S3 takes, in bytes of UTF-8.
MAX_KEY_BYTES = 1024


@dataclass(frozen=True)
class Part:
    """One PUT: `number` counts from 1 within a multipart upload and is 0 for a file that goes in one piece."""

    number: int
    offset: int
    length: int
    #: SHA-256 in base64, as S3 wants it in `x-amz-checksum-sha256`.
    checksum: str


@dataclass(frozen=True)
class ResultFile:
    """One file below the exported folder. `parts` are the SHA-256 of its parts in base64; empty for one piece."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    part_size: int = 0
    part_checksums: tuple[str, ...] = ()

    @property
    def is_multipart(self) -> bool:
        """Whether it is sent in parts."""
        return bool(self.part_checksums)

    def parts(self) -> Iterator[Part]:
        """Yield the PUTs that make the object."""
        if not self.is_multipart:
            yield Part(0, 0, self.size, base64.b64encode(bytes.fromhex(self.sha256)).decode())
        for index, checksum in enumerate(self.part_checksums):
            offset = index * self.part_size
            yield Part(index + 1, offset, min(self.part_size, self.size - offset), checksum)

    @property
    def s3_checksum(self) -> str:
        """The checksum that S3 keeps: of the bytes, or of the parts' checksums with `-<number of parts>` behind.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
        """
        if not self.is_multipart:
            return next(self.parts()).checksum
        digest = hashlib.sha256(b"".join(base64.b64decode(checksum) for checksum in self.part_checksums)).digest()
        return f"{base64.b64encode(digest).decode()}-{len(self.part_checksums)}"


@dataclass(frozen=True)
class LeftOut:
    """Something that matched a pattern and is no file that could be exported."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """All that one export carries."""

    directory: str
    files: tuple[ResultFile, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def without(self, names: Collection[str], folder: str) -> Manifest:
        """Return the manifest without these files, and without those of a folder: they came from S3 themselves."""
        files = tuple(f for f in self.files if f.path not in names and not f.path.startswith(f"{folder}/"))
        return Manifest(self.directory, files, self.left_out)


@dataclass(frozen=True)
class Receiving:
    """What S3 answered to a PUT: the ETag of what it now holds, and whether it has verified the SHA-256 of that."""

    etag: str
    is_verified: bool


#: The answers, by path, offset and checksum of what was sent.
Sent = Mapping[tuple[str, int, str], Receiving]


def parse_manifest(document: str | bytes) -> Manifest:
    """Read the `manifest.jsonl` of the exporter. Raises ExportError if it is not whole."""
    try:
        first, *lines = document.splitlines() or [""]
        head = json.loads(first)
        files = sorted((_parse_file(json.loads(line)) for line in lines), key=lambda file: file.path)
        expected = head["files"]
        manifest = Manifest(head["directory"], tuple(files), tuple(LeftOut(**entry) for entry in head["left_out"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(f"the list of files that the head node made cannot be read: {error!r}") from error
    if len(files) != expected:
        raise ExportError(f"the list of files that the head node made cannot be read: {len(files)} of {expected} files")
    return manifest


def parse_sent(document: str | bytes) -> Sent:
    """Read the `sent.jsonl` of the exporter. A line that is not whole says nothing: that object is asked for."""
    found = {}
    for line in document.splitlines():
        try:
            path, offset, checksum, etag, is_verified = json.loads(line)
            found[path, offset, checksum] = Receiving(etag.strip('"'), is_verified)
        except (ValueError, TypeError, AttributeError):
            continue
    return found


def _parse_file(entry: dict[str, Any]) -> ResultFile:
    return ResultFile(
        path=entry["path"],
        size=entry["size"],
        mtime_ns=entry["mtime_ns"],
        sha256=entry["sha256"],
        part_size=entry.get("part_size", 0),
        part_checksums=tuple(entry.get("parts", ())),
    )


def key_of(prefix: str, path: str) -> str:
    """Return the key of a result: its path below the prefix, control characters written as %XX.

    S3 takes control characters, but its XML answers, consoles and many tools do not.
    """
    name = "".join(
        f"%{ord(character):02X}" if ord(character) < 32 or ord(character) == 127 else character for character in path
    )
    return f"{prefix}/{name}"


def keys_of(prefix: str, files: Sequence[ResultFile], *, reserved: Sequence[str] = ()) -> dict[str, ResultFile]:
    """Return the files by their keys. Raises ExportError for a key that S3 cannot take or two files would share."""
    keys = {key_of(prefix, file.path): file for file in files}
    if len(keys) < len(files):
        counts = Counter(key_of(prefix, file.path) for file in files)
        shared = next(key for key, count in counts.items() if count > 1)
        raise ExportError(f"two files would become the same object {shared!r}", remedy="rename one of them")
    for key in keys:
        if len(key.encode()) > MAX_KEY_BYTES:
            raise ExportError(
                f"the key {key[:100]!r}… has more than the {MAX_KEY_BYTES} bytes that S3 allows",
                remedy="use a shorter prefix, folder or file name",
            )
        if key in reserved:
            raise ExportError(
                f"the results hold a file that would overwrite the export's own {key!r}",
                remedy="rename the file or leave it out of the patterns",
            )
    return keys


def checked_patterns(patterns: Sequence[str]) -> list[str]:
    """Return the globs if they stay below the folder. Raises ConfigurationError for an empty list, a root or `..`."""
    if isinstance(patterns, str) or not patterns:
        raise ConfigurationError(
            f"patterns must be a list of globs, not {patterns!r}", remedy="for example ['**/*.png']"
        )
    for pattern in patterns:
        path = PurePosixPath(pattern)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in pattern:
            raise ConfigurationError(
                f"the pattern {pattern!r} does not stay below the exported folder",
                remedy="write it relative to the folder and without '..', for example 'output/**/*.dat'",
            )
    return list(patterns)
