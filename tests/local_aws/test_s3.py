from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

CHECKSUM = base64.b64encode(hashlib.sha256(b"text").digest()).decode()


def test_s3_refuses_bytes_without_the_checksum_that_they_were_sent_with(region: LocalRegion) -> None:
    s3 = region.client("s3")
    where = {"Bucket": region.bucket, "Key": "checksum/object"}
    with pytest.raises(ClientError, match="BadDigest"):
        s3.put_object(**where, Body=b"tixt", ChecksumSHA256=CHECKSUM)
    assert s3.list_objects_v2(Bucket=region.bucket, Prefix="checksum/")["KeyCount"] == 0
    s3.put_object(**where, Body=b"text", ChecksumSHA256=CHECKSUM)
    assert s3.get_object(**where)["Body"].read() == b"text"


def test_s3_refuses_such_a_part_too(region: LocalRegion) -> None:
    s3 = region.client("s3")
    where = {"Bucket": region.bucket, "Key": "checksum/parts"}
    upload = s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    with pytest.raises(ClientError, match="BadDigest"):
        s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"tixt", ChecksumSHA256=CHECKSUM)
    s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"text", ChecksumSHA256=CHECKSUM)
    s3.abort_multipart_upload(**where, UploadId=upload)
