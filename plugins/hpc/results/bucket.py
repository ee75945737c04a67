"""The worker's side of S3: what is there already, which URLs the head node gets, and what is read back."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from mimetypes import guess_type
from typing import Any

from hpc.aws_errors import aws_errors, error_code
from hpc.errors import ConnectionLostError
from hpc.results.manifest import Part, ResultFile, Sent
from hpc.results.signing import UrlSigner

#: Questions to S3 at the same time.
THREADS = 16
#: Seconds that a signed URL is good for. Credentials of a role end earlier, and their URLs with them: the rest then
#: gets new ones.
URL_SECONDS = 12 * 3600
BLOCK = 1 << 20
#: Times that the reading of one object may break.
READ_TRIES = 5
#: What browsers show as text, and the standard library does not know.
_TEXT_SUFFIXES = (".out", ".err", ".log", ".dat", ".yaml", ".yml", ".lj", ".in", ".sh")


@dataclass(frozen=True)
class Unit:
    """One PUT that the head node is to do, one of `units` of this file. The URL is a secret: who has it can write."""

    path: str
    units: int
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
        return dict(vars(self))  # `asdict` would copy each value, in ten times the time


@dataclass(frozen=True)
class ListedObject:
    """An object as S3 lists it. The ETag names its content: what is written anew with other bytes has another."""

    size: int
    etag: str


@dataclass(frozen=True)
class StoredObject:
    """An object as S3 describes it. `checksum` is its SHA-256 in base64, empty if S3 keeps none."""

    size: int
    checksum: str
    etag: str


def transfer_client(aws_conn_id: str | None, region_name: str | None) -> Any:
    """Return an S3 client of an Airflow connection whose signed URLs work in every region and bind the checksum."""
    return _client_of(_hook(aws_conn_id, region_name))


def results_bucket(aws_conn_id: str | None, region_name: str | None, bucket: str) -> ResultsBucket:
    """Return a bucket that an export can send to, with the credentials of an Airflow connection."""
    hook = _hook(aws_conn_id, region_name)
    with aws_errors():
        return ResultsBucket(_client_of(hook), bucket, hook.get_credentials(region_name=region_name))


def open_early(aws_conn_id: str | None, region_name: str | None, bucket: str) -> Future[ResultsBucket]:
    """Open a bucket in a thread of its own, while the task waits for something else: half a second, mostly imports."""
    pool = ThreadPoolExecutor(1)
    opening = pool.submit(results_bucket, aws_conn_id, region_name, bucket)
    pool.shutdown(wait=False)
    return opening


def _hook(aws_conn_id: str | None, region_name: str | None) -> Any:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    return S3Hook(aws_conn_id=aws_conn_id, region_name=region_name)


def _client_of(hook: Any) -> Any:
    from botocore.config import Config

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
    client = hook.get_client_type(config=config)
    client.meta.events.register("before-parse.s3.ListObjectsV2", _without_dates)
    return client


def _without_dates(response_dict: dict[str, Any], **_: Any) -> None:
    """Take the dates out of a list before botocore reads it: nobody asks for them, and they are 4/5 of its work."""
    response_dict["body"] = re.sub(rb"<LastModified>[^<]*</LastModified>", b"", response_dict["body"])


def content_type(path: str) -> str:
    """Return the type by which a browser shows a result."""
    if path.endswith(_TEXT_SUFFIXES):
        return "text/plain; charset=utf-8"
    return guess_type(path)[0] or "application/octet-stream"


def same_checksum(expected: str, told: str) -> bool:
    """Compare two checksums of S3; some stores leave out the `-<number of parts>` of a composite one."""
    return told in (expected, expected.partition("-")[0])


class ResultsBucket:
    """One bucket, seen by an export. Every method raises the errors of `hpc.aws_errors`.

    `proven` has the ETag of each object, by key, of which S3 has said that it holds the SHA-256 that is expected.

    :param credentials: frozen credentials of botocore; only what is sent needs them
    """

    def __init__(self, client: Any, bucket: str, credentials: Any = None) -> None:
        self.client = client
        self.bucket = bucket
        self.credentials = credentials
        self.proven: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------ what is there
    def listed(self, prefix: str) -> dict[str, ListedObject]:
        """Return every object below a prefix, by key."""
        with aws_errors():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/")
            return {
                item["Key"]: ListedObject(item["Size"], _bare(item["ETag"]))
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
        return StoredObject(answer["ContentLength"], answer.get("ChecksumSHA256", ""), _bare(answer["ETag"]))

    def read(self, key: str, offset: int = 0) -> Iterator[bytes]:
        """Yield the content of an object in blocks, from an offset below its size."""
        part = {"Range": f"bytes={offset}-"} if offset else {}
        with aws_errors():
            yield from self.client.get_object(Bucket=self.bucket, Key=key, **part)["Body"].iter_chunks(BLOCK)

    def hash(self, key: str) -> str:
        """Read a whole object and return its SHA-256 in hexadecimal. A stream that breaks is taken up where it did."""
        digest, done, tries = hashlib.sha256(), 0, 0
        while True:
            try:
                for block in self.read(key, done):
                    digest.update(block)
                    done += len(block)
            except ConnectionLostError:
                tries += 1
                if tries == READ_TRIES:
                    raise
            else:
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
    def missing(self, prefix: str, files: dict[str, ResultFile], sent: Sent) -> dict[str, ResultFile]:
        """Return those of the files, by key, that the bucket does not hold as they are.

        `sent` is what S3 answered when the head node sent them. Where it has verified the SHA-256, that is enough here,
        for the receipt is verified in the end in any case. Every other object of the same size is asked for its
        checksum.
        """
        for key, file in files.items():
            answer = sent.get((file.path, 0, file.s3_checksum))
            if answer is not None and answer.is_verified:
                self.proven[key] = answer.etag
        unproven = {key: file for key, file in files.items() if key not in self.proven}
        listed = self.listed(prefix) if unproven else {}
        self._ask({key: file for key, file in unproven.items() if key in listed and listed[key].size == file.size})
        return {key: file for key, file in unproven.items() if key not in self.proven}

    def _ask(self, files: dict[str, ResultFile]) -> None:
        def ask(item: tuple[str, ResultFile]) -> None:
            stored = self.describe(item[0])
            if stored is not None and same_checksum(item[1].s3_checksum, stored.checksum):
                self.proven[item[0]] = stored.etag

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, files.items()))

    def current(self, prefix: str, sent: Sent) -> Sent:
        """Return those of the answers that are about what the bucket holds now."""
        there = {listed.etag for listed in self.listed(prefix).values()} if sent else set()
        return {what: answer for what, answer in sent.items() if answer.etag in there}

    def prove_by_reading(self, prefix: str, files: dict[str, ResultFile]) -> Iterator[tuple[ResultFile, str]]:
        """Read the objects that have the size of their file, and yield those that have its bytes, with their ETag."""
        listed = self.listed(prefix) if files else {}
        there = [key for key, file in files.items() if key in listed and listed[key].size == file.size]
        with ThreadPoolExecutor(THREADS) as pool:
            for key, digest in zip(there, pool.map(self.hash, there), strict=True):
                if digest == files[key].sha256:
                    self.proven[key] = listed[key].etag
                    yield files[key], listed[key].etag

    # ------------------------------------------------------------------------------------------ sending
    def units(self, files: dict[str, ResultFile], sent: Sent) -> Iterator[Unit]:
        """Yield the PUTs that are still to do. A multipart upload of which nothing is missing is completed instead."""
        uploads = self._open_uploads(key for key, file in files.items() if file.is_multipart)
        with aws_errors():
            signer = UrlSigner(self.client, self.credentials, self.bucket, seconds=URL_SECONDS)
        for key, file in files.items():
            if not file.is_multipart:
                yield self._whole(signer, key, file)
                continue
            upload_id = uploads.get(key) or self._create_upload(key)
            etags = self._uploaded_parts(key, file, upload_id, sent) if key in uploads else {}
            missing = [part for part in file.parts() if part.number not in etags]
            if not missing:
                etag = self._complete(key, file, upload_id, etags)
                answers = [sent.get((file.path, part.offset, part.checksum)) for part in file.parts()]
                if all(answer and answer.is_verified for answer in answers):
                    self.proven[key] = etag
            for part in missing:
                headers = {"x-amz-checksum-sha256": part.checksum}
                url = signer.put(key, headers, partNumber=str(part.number), uploadId=upload_id)
                yield _unit(file, part, url, headers, len(missing))

    def _whole(self, signer: UrlSigner, key: str, file: ResultFile) -> Unit:
        part = next(file.parts())
        headers = {
            "content-type": content_type(file.path),
            "x-amz-checksum-sha256": part.checksum,
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        return _unit(file, part, signer.put(key, headers), headers, 1)

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

    def _uploaded_parts(self, key: str, file: ResultFile, upload_id: str, sent: Sent) -> dict[int, str]:
        """Return the ETags of the parts that are there as they should be. A store may list no checksum of a part."""
        with aws_errors():
            pages = self.client.get_paginator("list_parts").paginate(Bucket=self.bucket, Key=key, UploadId=upload_id)
            listed = {item["PartNumber"]: item for page in pages for item in page.get("Parts", [])}
        etags = {}
        for part in file.parts():
            item = listed.get(part.number)
            if item is None or item["Size"] != part.length:
                continue
            answer = sent.get((file.path, part.offset, part.checksum))
            if item.get("ChecksumSHA256") == part.checksum or (answer and answer.etag == _bare(item["ETag"])):
                etags[part.number] = item["ETag"]
        return etags

    def _complete(self, key: str, file: ResultFile, upload_id: str, etags: dict[int, str]) -> str:
        parts = [
            {"PartNumber": part.number, "ETag": etags[part.number], "ChecksumSHA256": part.checksum}
            for part in file.parts()
        ]
        with aws_errors():
            answer = self.client.complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        return _bare(answer["ETag"])


def _unit(file: ResultFile, part: Part, url: str, headers: dict[str, str], units: int) -> Unit:
    return Unit(file.path, units, file.size, file.mtime_ns, part.offset, part.length, url, headers)


def _bare(etag: str) -> str:
    return etag.strip('"')
