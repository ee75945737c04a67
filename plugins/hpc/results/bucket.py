"""The worker's side of S3: what is there already, which URLs the head node gets, and what is read back."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from mimetypes import guess_type
from typing import Any

from hpc.aws_errors import aws_errors, error_code
from hpc.results.manifest import Part, ResultFile

#: Questions to S3 at the same time.
THREADS = 16
#: Seconds that a signed URL is good for. Credentials of a role end earlier, and their URLs with them: the rest then
#: gets new ones.
URL_SECONDS = 12 * 3600
BLOCK = 1 << 20
#: What browsers show as text, and the standard library does not know.
_TEXT_SUFFIXES = (".out", ".err", ".log", ".dat", ".yaml", ".yml", ".lj", ".in", ".sh")


@dataclass(frozen=True)
class Unit:
    """One PUT that the head node is to do. The URL is a secret: whoever has it can write this object."""

    path: str
    size: int
    mtime_ns: int
    offset: int
    length: int
    url: str
    headers: dict[str, str]

    def __repr__(self) -> str:
        return f"Unit({self.path!r}, offset={self.offset})"

    def request(self) -> dict[str, Any]:
        """Return plain JSON for the exporter."""
        return asdict(self)


@dataclass(frozen=True)
class ListedObject:
    """An object as S3 lists it."""

    size: int
    written: datetime


@dataclass(frozen=True)
class StoredObject:
    """An object as S3 describes it. `checksum` is its SHA-256 in base64, empty if S3 keeps none."""

    size: int
    checksum: str


def transfer_client(aws_conn_id: str | None, region_name: str | None) -> Any:
    """Return an S3 client of an Airflow connection whose signed URLs work in every region and bind the checksum."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    hook = S3Hook(aws_conn_id=aws_conn_id, region_name=region_name)
    config = hook.config.merge(
        Config(
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=2 * THREADS,
            retries={"mode": "standard", "max_attempts": 6},
        )
    )
    if not hook.conn_config.get_service_endpoint_url("s3"):
        # Without it, botocore signs URLs for the global endpoint, which redirects a PUT to a young bucket elsewhere.
        config = config.merge(Config(s3={"addressing_style": "virtual"}))
    return hook.get_client_type(config=config)


def content_type(path: str) -> str:
    """Return the type by which a browser shows a result."""
    if path.endswith(_TEXT_SUFFIXES):
        return "text/plain; charset=utf-8"
    return guess_type(path)[0] or "application/octet-stream"


def same_checksum(expected: str, told: str) -> bool:
    """Compare two checksums of S3; some stores leave out the `-<number of parts>` of a composite one."""
    return told in (expected, expected.partition("-")[0])


def _is_sent(written: datetime, since: datetime | None) -> bool:
    return since is not None and written >= since


class ResultsBucket:
    """One bucket, seen by an export. Every method raises the errors of `hpc.aws_errors`."""

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    # ------------------------------------------------------------------------------------------ what is there
    def listed(self, prefix: str) -> dict[str, ListedObject]:
        """Return every object below a prefix, by key."""
        with aws_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/")
            return {
                item["Key"]: ListedObject(item["Size"], item["LastModified"])
                for page in pages
                for item in page.get("Contents", [])
            }

    def describe(self, key: str) -> StoredObject | None:
        """Ask for one object; None if it is not there."""
        from botocore.exceptions import ClientError

        with aws_errors():
            try:
                answer = self.client.head_object(Bucket=self.bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if error_code(error) in {"404", "NoSuchKey", "NotFound"}:
                    return None
                raise
        return StoredObject(answer["ContentLength"], answer.get("ChecksumSHA256", ""))

    def read(self, key: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks."""
        with aws_errors():
            yield from self.client.get_object(Bucket=self.bucket, Key=key)["Body"].iter_chunks(BLOCK)

    def hash(self, key: str) -> str:
        """Read a whole object and return its SHA-256 in hexadecimal."""
        digest = hashlib.sha256()
        for block in self.read(key):
            digest.update(block)
        return digest.hexdigest()

    def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write a small object; S3 refuses it if it arrives damaged."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        with aws_errors():
            self.client.put_object(
                Bucket=self.bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=checksum,
            )

    # ------------------------------------------------------------------------------------------ what is missing
    def missing(self, prefix: str, files: dict[str, ResultFile], since: datetime | None) -> dict[str, ResultFile]:
        """Return those of the files, by key, that the bucket does not hold as they are.

        `since` is when this try began to send, None if it has not. What was written since then was written by it, with
        a checksum that S3 verified: its size is enough, for the receipt is verified in the end in any case. What is
        older is asked for its checksum.
        """
        listed = self.listed(prefix)
        there = {key: file for key, file in files.items() if key in listed and listed[key].size == file.size}
        sent = {key for key in there if _is_sent(listed[key].written, since)}
        held = sent | self._unchanged({key: file for key, file in there.items() if key not in sent})
        return {key: file for key, file in files.items() if key not in held}

    def _unchanged(self, files: dict[str, ResultFile]) -> set[str]:
        def holds(item: tuple[str, ResultFile]) -> bool:
            stored = self.describe(item[0])
            return stored is not None and same_checksum(item[1].s3_checksum, stored.checksum)

        with ThreadPoolExecutor(THREADS) as pool:
            return {key for key, held in zip(files, pool.map(holds, files.items()), strict=True) if held}

    # ------------------------------------------------------------------------------------------ sending
    def units(self, files: dict[str, ResultFile], since: datetime | None) -> Iterator[Unit]:
        """Yield the PUTs that are still to do. A multipart upload of which nothing is missing is completed instead."""
        uploads = self._open_uploads(key for key, file in files.items() if file.is_multipart)
        for key, file in files.items():
            if not file.is_multipart:
                yield self._whole(key, file)
                continue
            upload_id = uploads.get(key) or self._create_upload(key)
            etags = self._uploaded_parts(key, file, upload_id, since) if key in uploads else {}
            missing = [part for part in file.parts() if part.number not in etags]
            if not missing:
                self._complete(key, file, upload_id, etags)
            yield from (self._part(key, file, part, upload_id) for part in missing)

    def _whole(self, key: str, file: ResultFile) -> Unit:
        part = next(file.parts())
        kind = content_type(file.path)
        url = self._sign(
            "put_object", Key=key, ContentType=kind, ChecksumSHA256=part.checksum, ChecksumAlgorithm="SHA256"
        )
        headers = {
            "content-type": kind,
            "x-amz-checksum-sha256": part.checksum,
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        return Unit(file.path, file.size, file.mtime_ns, part.offset, part.length, url, headers)

    def _part(self, key: str, file: ResultFile, part: Part, upload_id: str) -> Unit:
        url = self._sign(
            "upload_part", Key=key, UploadId=upload_id, PartNumber=part.number, ChecksumSHA256=part.checksum
        )
        headers = {"x-amz-checksum-sha256": part.checksum}
        return Unit(file.path, file.size, file.mtime_ns, part.offset, part.length, url, headers)

    def _sign(self, method: str, **parameters: Any) -> str:
        with aws_errors():
            return str(
                self.client.generate_presigned_url(
                    method, Params={"Bucket": self.bucket, **parameters}, ExpiresIn=URL_SECONDS
                )
            )

    def _create_upload(self, key: str) -> str:
        with aws_errors():
            answer = self.client.create_multipart_upload(
                Bucket=self.bucket, Key=key, ContentType=content_type(key), ChecksumAlgorithm="SHA256"
            )
        return str(answer["UploadId"])

    def _open_uploads(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the youngest multipart upload that an earlier try left of each key."""
        uploads: dict[str, str] = {}
        for key in keys:
            with aws_errors():
                pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=key)
                found = [item for page in pages for item in page.get("Uploads", []) if item["Key"] == key]
            if found:
                uploads[key] = max(found, key=lambda item: item["Initiated"])["UploadId"]
        return uploads

    def _uploaded_parts(self, key: str, file: ResultFile, upload_id: str, since: datetime | None) -> dict[int, str]:
        """Return the ETags of the parts that are there as they should be. A store may keep no checksum of a part."""
        with aws_errors():
            pages = self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload_id)
            listed = {item["PartNumber"]: item for page in pages for item in page.get("Parts", [])}
        etags = {}
        for part in file.parts():
            item = listed.get(part.number)
            if item is None or item["Size"] != part.length:
                continue
            if item.get("ChecksumSHA256") == part.checksum or (
                "ChecksumSHA256" not in item and _is_sent(item["LastModified"], since)
            ):
                etags[part.number] = item["ETag"]
        return etags

    def _complete(self, key: str, file: ResultFile, upload_id: str, etags: dict[int, str]) -> None:
        parts = [
            {"PartNumber": part.number, "ETag": etags[part.number], "ChecksumSHA256": part.checksum}
            for part in file.parts()
        ]
        with aws_errors():
            self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
