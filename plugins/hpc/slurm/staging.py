"""Inputs: files of the repository and objects of S3, put into the job's folder before the job is submitted.

A file appears whole or not at all, and one that is there already and the same is left alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from hpc import PROJECT_ROOT
from hpc.aws_errors import aws_errors
from hpc.errors import ConfigurationError
from hpc.head_node.session import Session
from hpc.head_node.shell import quote

#: Seconds for one download from S3 to the head node.
DOWNLOAD_TIMEOUT = 6 * 3600
#: Seconds for which the head node may begin a download, or go on with one that broke.
_URL_LIFETIME = 6 * 3600
#: Control characters, and halves of characters that no file system takes.
_NO_NAME = re.compile(r"[\x00-\x1f\ud800-\udfff]")
#: Fetches an object unless its version is there. One at a time: who comes while an abandoned fetch still runs waits for
#: it. What a broken one left is gone on with; after a refusal (curl's 22) it is begun anew.
_FETCH = """
version=$1 target=$2 note=$3 part=$4
mkdir -p -- "$(dirname -- "$target")" "$(dirname -- "$note")" && exec 9>>"$note.lock" && flock 9 || exit
if [ -f "$target" ] && [ "$(cat -- "$note" 2>/dev/null)" = "$version" ]; then exit; fi
curl --config - --continue-at - --output "$part"
code=$?
if [ $code = 22 ]; then rm -f -- "$part"; fi
if [ $code != 0 ]; then exit $code; fi
mv -f -- "$part" "$target" && printf '%s\n' "$version" >"$note.new" && mv -f -- "$note.new" "$note" && echo copied
"""


@dataclass(frozen=True)
class Input:
    """A source, `s3://bucket/key` or a path (relative ones begin at the project's root), and its name in the folder."""

    source: str
    name: str

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Input:
        """Read an entry of an operator's `inputs`. Raises ConfigurationError for a name that leaves the folder."""
        source = str(value["source"])
        name = str(value.get("name") or PurePosixPath(urlsplit(source).path).name)
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or _NO_NAME.search(name):
            raise ConfigurationError(f"inputs: {name!r} is no name in the job's folder", remedy="give a relative path")
        return cls(source, str(path))

    @property
    def is_object(self) -> bool:
        """It is an object of S3."""
        return self.source.startswith("s3://")

    @property
    def path(self) -> Path:
        """The file of the worker."""
        return PROJECT_ROOT / self.source


async def stage(
    session: Session, directory: str, inputs: Sequence[Input], *, aws_conn_id: str | None, region_name: str | None
) -> list[str]:
    """Put the inputs into a folder of the head node; return the names of those that had to be copied."""
    await session.run(quote(["mkdir", "-p", "--", directory]))
    files = [entry for entry in inputs if not entry.is_object]
    copied = await _stage_files(session, directory, files)
    for entry in inputs:
        if entry.is_object and await _stage_object(session, directory, entry, aws_conn_id, region_name):
            copied.append(entry.name)
    return copied


async def _stage_files(session: Session, directory: str, files: Sequence[Input]) -> list[str]:
    for entry in files:
        if not entry.path.is_file():
            raise ConfigurationError(f"inputs: there is no file {entry.path}")
    there = await _checksums(session, [f"{directory}/{entry.name}" for entry in files])
    changed = [entry for entry in files if there.get(f"{directory}/{entry.name}") != _sha256(entry.path)]
    for entry in changed:
        await session.upload(entry.path, f"{directory}/{entry.name}")
    return [entry.name for entry in changed]


async def _checksums(session: Session, paths: Sequence[str]) -> dict[str, str]:
    """Return SHA-256 by path of those files that exist."""
    if not paths:
        return {}
    # One line a path, in order; `sha256sum` itself would escape unusual names.
    command = 'while IFS= read -r -d "" path; do sha256sum <"$path" 2>/dev/null || echo -; done'
    answer = await session.run(
        quote(["bash", "-c", command]), input="".join(f"{path}\0" for path in paths), timeout=DOWNLOAD_TIMEOUT
    )
    return {path: line.split()[0] for path, line in zip(paths, answer.stdout.splitlines(), strict=True)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _stage_object(
    session: Session, directory: str, entry: Input, aws_conn_id: str | None, region_name: str | None
) -> bool:
    """Let the head node fetch an object, unless it has this version of it; return whether it had to."""
    url, version = await asyncio.to_thread(_presign, entry.source, aws_conn_id, region_name)
    target = f"{directory}/{entry.name}"
    note = f"{directory}/.slurm/inputs/{_short_digest(entry.name)}"
    part = f"{note}.{_short_digest(version)}.part"
    # The URL is a secret for as long as it lives: on standard input it shows in no process list.
    config = f"fail\nsilent\nshow-error\nretry = 3\nurl = {json.dumps(url)}\n"
    command = quote(["bash", "-c", _FETCH, "fetch", version, target, note, part])
    done = await session.run(command, input=config, timeout=DOWNLOAD_TIMEOUT)
    return done.stdout == "copied\n"


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _presign(source: str, aws_conn_id: str | None, region_name: str | None) -> tuple[str, str]:
    """Return a URL that reads an object for a while, and the object's version: its source, size and ETag."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.exceptions import ClientError

    parts = urlsplit(source, allow_fragments=False)
    bucket, key = parts.netloc, parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    client: Any = S3Hook(aws_conn_id=aws_conn_id, region_name=region_name).get_conn()
    with aws_errors():
        try:
            head = client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                raise ConfigurationError(
                    f"inputs: there is no object {source}", remedy="upload it, or correct bucket and key"
                ) from error
            raise
        url: str = client.generate_presigned_url(
            "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_URL_LIFETIME
        )
    return url, f"{source} {head['ContentLength']} {head['ETag']}"
