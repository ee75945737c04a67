"""The receipt: every file of an export with its size and SHA-256, and all it takes to fetch and to verify it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from hpc.aws_errors import aws_errors, error_code
from hpc.errors import ConfigurationError, ExportError, ReceiptMismatchError
from hpc.results.bucket import THREADS, ResultsBucket, same_checksum

#: A receipt that is larger than this is not ours.
MAX_BYTES = 1 << 30
_SHOWN = 20


def _stays_below(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError("must be a relative path without '..'")
    return path


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReceiptFile(_Model):
    """One file. `s3_checksum` is what S3 keeps: SHA-256 in base64, of the parts' checksums if it went in parts."""

    path: Annotated[str, AfterValidator(_stays_below)]
    key: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    s3_checksum: str


class ReceiptLeftOut(_Model):
    """Something that matched a pattern and could not be exported, a link out of the folder for example."""

    path: str
    reason: str


class Commands(_Model):
    """What to type to get the results, and to verify them."""

    fetch: str
    verify: str


class Receipt(_Model):
    """What was exported, from where, to where. `facts` are the run's: parameters, job, configuration, versions."""

    schema_version: Literal[1] = 1
    created: datetime
    cluster_name: str
    directory: str
    bucket: str
    prefix: str
    uri: str
    files: tuple[ReceiptFile, ...]
    left_out: tuple[ReceiptLeftOut, ...] = ()
    total_files: int
    total_bytes: int
    commands: Commands
    facts: dict[str, Any] = {}

    def to_json(self) -> bytes:
        """Return the document as it is stored."""
        return self.model_dump_json(indent=1).encode()


def make_receipt(
    *,
    cluster_name: str,
    directory: str,
    bucket: str,
    prefix: str,
    receipt_key: str,
    files: Sequence[ReceiptFile],
    left_out: Sequence[ReceiptLeftOut] = (),
    facts: dict[str, Any] | None = None,
) -> Receipt:
    """Return the receipt of an export. `receipt_key` is its name below the prefix."""
    uri = f"s3://{bucket}/{prefix}/{receipt_key}"
    return Receipt(
        created=datetime.now(UTC),
        cluster_name=cluster_name,
        directory=directory,
        bucket=bucket,
        prefix=prefix,
        uri=uri,
        files=tuple(files),
        left_out=tuple(left_out),
        total_files=len(files),
        total_bytes=sum(file.size for file in files),
        commands=Commands(
            fetch=shlex.join(["aws", "s3", "cp", "--recursive", f"s3://{bucket}/{prefix}/", "."]),
            verify=shlex.join(["python", "-m", "hpc.results.verify", uri]),
        ),
        facts=facts or {},
    )


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of an s3:// URI. Raises ConfigurationError for anything else."""
    parts = urlsplit(uri)
    key = uri.removeprefix(f"s3://{parts.netloc}/")
    if parts.scheme != "s3" or not parts.netloc or not key or key == uri:
        raise ConfigurationError(f"{uri!r} is no S3 object", remedy="write s3://bucket/prefix/receipt.json")
    return parts.netloc, key


def load_receipt(client: Any, uri: str) -> Receipt:
    """Read a receipt from S3. Raises ExportError if it is not there, not whole, or not about its own place."""
    from botocore.exceptions import ClientError

    bucket, key = split_uri(uri)
    with aws_errors():
        try:
            document = client.get_object(Bucket=bucket, Key=key)["Body"].read(MAX_BYTES)
        except ClientError as error:
            if error_code(error) in {"NoSuchKey", "NoSuchBucket", "404"}:
                raise ExportError(f"there is no receipt {uri}", remedy="run the export again") from error
            raise
    try:
        receipt = Receipt.model_validate_json(document)
    except ValidationError as error:
        raise ExportError(f"{uri} is not a receipt of ours: {error}", remedy="run the export again") from error
    if receipt.uri != uri:
        raise ExportError(f"{uri} is a copy of {receipt.uri}, which says nothing about this place")
    return receipt


@dataclass(frozen=True)
class Mismatch:
    """A file that is not in the bucket as the receipt says."""

    path: str
    reason: str


def verify_receipt(
    client: Any, receipt: Receipt, *, read: bool = False, proven: Mapping[str, str] | None = None
) -> list[Mismatch]:
    """Compare every object with the receipt and return what does not agree; an empty list means verified.

    S3's own SHA-256 of the object counts, for S3 computed it from the bytes it stored. Where it keeps none, or another
    than the export's (a copy in other parts), the object is read and hashed. `read` reads all of them. `proven` has the
    ETags, by key, of objects whose SHA-256 S3 has confirmed before: they are listed, a thousand with one request,
    instead of asked for one by one.
    """
    bucket = ResultsBucket(client, receipt.bucket)
    listed = bucket.listed(receipt.prefix) if proven else {}

    def is_proven(file: ReceiptFile) -> bool:
        there = listed.get(file.key)
        return (
            there is not None and proven is not None and (file.size, proven.get(file.key)) == (there.size, there.etag)
        )

    def check(file: ReceiptFile) -> Mismatch | None:
        stored = bucket.describe(file.key)
        if stored is None:
            return Mismatch(file.path, f"s3://{receipt.bucket}/{file.key} is not there")
        if stored.size != file.size:
            return Mismatch(file.path, f"has {stored.size} bytes instead of {file.size}")
        if not read and same_checksum(file.s3_checksum, stored.checksum):
            return None
        digest = bucket.hash(file.key)
        return None if digest == file.sha256 else Mismatch(file.path, f"its SHA-256 is {digest}, not {file.sha256}")

    with ThreadPoolExecutor(THREADS) as pool:
        asked = [file for file in receipt.files if not is_proven(file)]
        found = [mismatch for mismatch in pool.map(check, asked) if mismatch]
    if (len(receipt.files), sum(file.size for file in receipt.files)) != (receipt.total_files, receipt.total_bytes):
        found.append(Mismatch(receipt.uri, "its list of files does not add up to its totals"))
    return found


def require_verified(client: Any, uri: str, proven: Mapping[str, str] | None = None) -> Receipt:
    """Return the receipt if the bucket holds all of it: the gate before deletion. Else raises ReceiptMismatchError."""
    receipt = load_receipt(client, uri)
    if mismatches := verify_receipt(client, receipt, proven=proven):
        lines = "\n".join(f"  {mismatch.path}: {mismatch.reason}" for mismatch in mismatches[:_SHOWN])
        more = f"\n  and {len(mismatches) - _SHOWN} more" if len(mismatches) > _SHOWN else ""
        raise ReceiptMismatchError(
            f"{len(mismatches)} of {receipt.total_files} files are not in S3 as {uri} says:\n{lines}{more}",
            remedy="clear the export task while the cluster is still there: it sends what is missing or different",
        )
    return receipt
