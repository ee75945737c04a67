"""Our signatures are botocore's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from hpc.results.signing import UrlSigner

BUCKET = "my-results"
PLACES = {
    "on AWS": {"config": Config(signature_version="s3v4", s3={"addressing_style": "virtual"})},
    "an endpoint of its own": {"endpoint_url": "http://127.0.0.1:9000", "config": Config(signature_version="s3v4")},
}


def client(place: str, token: str | None) -> Any:
    make_client: Any = boto3.client
    return make_client(
        "s3",
        region_name="eu-central-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalr/K7MDENG",  # pragma: allowlist secret
        aws_session_token=token,
        **PLACES[place],
    )


def signer(s3: Any, token: str | None, at: str) -> UrlSigner:
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "wJalr/K7MDENG", token)
    now = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return UrlSigner(s3, credentials, BUCKET, seconds=600, now=now)


def same(ours: str, theirs: str) -> bool:
    mine, other = urlsplit(ours), urlsplit(theirs)
    return (mine[:3], parse_qs(mine.query)) == (other[:3], parse_qs(other.query))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("token", [None, "a/token+with=signs"])
def test_a_whole_object(place: str, token: str | None) -> None:
    s3 = client(place, token)

    @given(st.text(min_size=1, max_size=30).filter(lambda key: key.isprintable() and not set(key) <= {".", "/"}))
    def check(key: str) -> None:
        asked = {"ContentType": "text/plain; charset=utf-8", "ChecksumSHA256": "x+/=", "ChecksumAlgorithm": "SHA256"}
        theirs = s3.generate_presigned_url(
            "put_object", Params={"Bucket": BUCKET, "Key": f"sim/{key}", **asked}, ExpiresIn=600
        )
        headers = {
            "content-type": asked["ContentType"],
            "x-amz-checksum-sha256": asked["ChecksumSHA256"],
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        at = parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0]
        assert same(signer(s3, token, at).put(f"sim/{key}", headers), theirs)

    check()


@pytest.mark.parametrize("place", PLACES)
def test_a_part(place: str) -> None:
    s3 = client(place, None)
    part = {"Bucket": BUCKET, "Key": "a b/c", "UploadId": "id+/=~", "PartNumber": 7, "ChecksumSHA256": "x+/="}
    theirs = s3.generate_presigned_url("upload_part", Params=part, ExpiresIn=600)
    at = parse_qs(urlsplit(theirs).query)["X-Amz-Date"][0]
    ours = signer(s3, None, at).put("a b/c", {"x-amz-checksum-sha256": "x+/="}, partNumber="7", uploadId="id+/=~")
    assert same(ours, theirs)
