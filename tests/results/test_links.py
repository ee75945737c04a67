from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest

from hpc.results.links import S3PicturesLink, S3ReceiptLink, S3ResultsLink

AWS = {"region_name": "eu-west-1", "aws_domain": "aws.amazon.com", "endpoint_url": "", "bucket": "my-results"}


@pytest.mark.parametrize(
    ("link", "url"),
    [
        (S3ResultsLink, "https://console.aws.amazon.com/s3/buckets/my-results?region=eu-west-1&prefix=sim/a%20b/"),
        (S3ReceiptLink, "https://console.aws.amazon.com/s3/object/my-results?region=eu-west-1&prefix=sim/a%20b"),
        (S3PicturesLink, "https://console.aws.amazon.com/s3/object/my-results?region=eu-west-1&prefix=sim/a%20b"),
    ],
)
def test_on_aws_they_lead_to_the_console(link: Any, url: str) -> None:
    assert link().format_link(**AWS, key="sim/a b") == url


@pytest.mark.region
def test_elsewhere_they_open_in_a_bucket_that_everybody_may_read(s3: Any, bucket: str, aws: str) -> None:
    s3.put_object(Bucket=bucket, Key="sim/a b/ü#.png", Body=b"\x89PNG", ContentType="image/png")
    everybody = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [everybody]}))
    place = {**AWS, "endpoint_url": aws + "/", "bucket": bucket}
    with urllib.request.urlopen(S3PicturesLink().format_link(**place, key="sim/a b/ü#.png")) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"\x89PNG", "image/png")
    with urllib.request.urlopen(S3ResultsLink().format_link(**place, key="sim/a b")) as answer:
        assert "sim/a b/ü#.png" in answer.read().decode()
