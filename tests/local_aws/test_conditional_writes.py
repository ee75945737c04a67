"""S3 looks at a condition and writes in one step: of many writers that saw the same object, one succeeds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = pytest.mark.region
WRITERS = 8


def race(region: LocalRegion, key: str, condition: dict[str, str]) -> list[str]:
    """Let all write at once; return the codes of those that were refused."""
    clients, begin = [region.client("s3") for _ in range(WRITERS)], Barrier(WRITERS)

    def write(number: int) -> str:
        begin.wait()
        try:
            clients[number].put_object(Bucket=region.bucket, Key=key, Body=f"{number}".encode(), **condition)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    with ThreadPoolExecutor(WRITERS) as threads:
        return [code for code in threads.map(write, range(WRITERS)) if code]


def test_one_of_many_conditional_writers_succeeds(region: LocalRegion) -> None:
    key, s3 = "conditional/object", region.client("s3")
    assert race(region, key, {"IfNoneMatch": "*"}) == ["PreconditionFailed"] * (WRITERS - 1)
    for _ in range(20):
        etag = s3.put_object(Bucket=region.bucket, Key=key, Body=b"seen by all")["ETag"]
        assert race(region, key, {"IfMatch": etag}) == ["PreconditionFailed"] * (WRITERS - 1)
    s3.delete_object(Bucket=region.bucket, Key=key)
    assert race(region, key, {"IfMatch": etag}) == ["NoSuchKey"] * WRITERS
