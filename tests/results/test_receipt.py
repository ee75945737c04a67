"""Receipts against moto's S3: what is verified, and what is not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import ConfigurationError, ExportError, ReceiptMismatchError
from hpc.results.bucket import ResultsBucket
from hpc.results.receipt import (
    Receipt,
    ReceiptFile,
    load_receipt,
    make_receipt,
    require_verified,
    split_uri,
    verify_receipt,
)
from hpc.results.verify import main
from tests.results.strict_s3 import StrictS3

pytestmark = pytest.mark.region

PLUGINS = Path(__file__).parents[2] / "plugins"


def entry(path: str, data: bytes) -> ReceiptFile:
    digest = hashlib.sha256(data)
    checksum = base64.b64encode(digest.digest()).decode()
    return ReceiptFile(path=path, key=f"sim/{path}", size=len(data), sha256=digest.hexdigest(), s3_checksum=checksum)


def stored(s3: Any, bucket: str, contents: dict[str, bytes]) -> Receipt:
    """Put files into a bucket, and their receipt."""
    for path, data in contents.items():
        s3.put_object(Bucket=bucket, Key=f"sim/{path}", Body=data, ChecksumAlgorithm="SHA256")
    receipt = make_receipt(
        cluster_name="demo",
        directory="/fsx/run",
        bucket=bucket,
        prefix="sim",
        receipt_key="receipt.json",
        files=[entry(path, data) for path, data in contents.items()],
        facts={"parameters": {"steps": 3}},
    )
    s3.put_object(Bucket=bucket, Key="sim/receipt.json", Body=receipt.to_json())
    return receipt


@pytest.fixture
def receipt(s3: Any, bucket: str) -> Receipt:
    return stored(s3, bucket, {"a.dat": b"alpha", "b c/ü.dat": b"beta"})


def test_what_agrees_is_verified(s3: Any, receipt: Receipt) -> None:
    assert verify_receipt(s3, receipt) == []
    assert verify_receipt(s3, receipt, read=True) == []
    assert require_verified(s3, receipt.uri) == receipt
    assert receipt.commands.verify == f"python -m hpc.results.verify {receipt.uri}"


def test_a_missing_object_is_named(s3: Any, receipt: Receipt) -> None:
    s3.delete_object(Bucket=receipt.bucket, Key="sim/a.dat")
    with pytest.raises(ReceiptMismatchError, match=r"a\.dat: s3://.*/sim/a\.dat is not there(.|\n)*clear the export"):
        require_verified(s3, receipt.uri)


def test_another_size_is_a_mismatch(s3: Any, receipt: Receipt) -> None:
    s3.put_object(Bucket=receipt.bucket, Key="sim/a.dat", Body=b"alph")
    assert [mismatch.reason for mismatch in verify_receipt(s3, receipt)] == ["has 4 bytes instead of 5"]


@pytest.mark.parametrize("more", [{}, {"ChecksumAlgorithm": "SHA256"}, {"ChecksumAlgorithm": "CRC32"}])
def test_other_bytes_of_the_same_size_are_a_mismatch(s3: Any, receipt: Receipt, more: dict[str, str]) -> None:
    s3.put_object(Bucket=receipt.bucket, Key="sim/a.dat", Body=b"alphA", **more)
    (mismatch,) = verify_receipt(s3, receipt)
    assert mismatch.path == "a.dat"
    assert hashlib.sha256(b"alphA").hexdigest() in mismatch.reason


def test_what_was_proven_is_listed_and_not_asked_for(s3: Any, receipt: Receipt, strict: StrictS3) -> None:
    proven = {key: listed.etag for key, listed in ResultsBucket(s3, receipt.bucket).listed("sim").items()}
    asked: list[str] = []

    def note(method: str, path: str) -> None:
        asked.append(method + path.partition(receipt.bucket)[2])

    strict.answer = note
    assert verify_receipt(s3, receipt, proven=proven) == []
    assert asked == ["GET"]
    s3.put_object(Bucket=receipt.bucket, Key="sim/a.dat", Body=b"alphA", ChecksumAlgorithm="SHA256")
    s3.delete_object(Bucket=receipt.bucket, Key="sim/b c/ü.dat")
    found = {mismatch.path: mismatch.reason for mismatch in verify_receipt(s3, receipt, proven=proven)}
    assert found.keys() == {"a.dat", "b c/ü.dat"}
    assert hashlib.sha256(b"alphA").hexdigest() in found["a.dat"]


def test_the_same_bytes_without_a_checksum_are_read_and_verified(s3: Any, receipt: Receipt) -> None:
    s3.put_object(Bucket=receipt.bucket, Key="sim/a.dat", Body=b"alpha", ChecksumAlgorithm="CRC32")
    assert verify_receipt(s3, receipt) == []


def test_a_shortened_list_does_not_add_up(s3: Any, receipt: Receipt) -> None:
    document = json.loads(receipt.to_json())
    document["files"].pop()
    s3.put_object(Bucket=receipt.bucket, Key="sim/receipt.json", Body=json.dumps(document))
    with pytest.raises(ReceiptMismatchError, match="does not add up"):
        require_verified(s3, receipt.uri)


def test_no_receipt_is_an_error(s3: Any, bucket: str) -> None:
    with pytest.raises(ExportError, match="there is no receipt"):
        load_receipt(s3, f"s3://{bucket}/nowhere/receipt.json")


@pytest.mark.parametrize("document", [b"", b"{}", b'{"schema_version": 2}'])
def test_a_receipt_that_is_none_is_an_error(s3: Any, bucket: str, document: bytes) -> None:
    s3.put_object(Bucket=bucket, Key="receipt.json", Body=document)
    with pytest.raises(ExportError, match="not a receipt"):
        load_receipt(s3, f"s3://{bucket}/receipt.json")


def test_a_copied_receipt_says_nothing_about_its_new_place(s3: Any, receipt: Receipt) -> None:
    s3.put_object(Bucket=receipt.bucket, Key="elsewhere/receipt.json", Body=receipt.to_json())
    with pytest.raises(ExportError, match="is a copy of"):
        load_receipt(s3, f"s3://{receipt.bucket}/elsewhere/receipt.json")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_receipt_cannot_write_elsewhere(path: str) -> None:
    with pytest.raises(ValueError, match="relative path"):
        entry(path, b"x")


@pytest.mark.parametrize("uri", ["", "s3://", "s3://bucket", "s3://bucket/", "/a/b", "https://bucket/key"])
def test_what_is_no_uri(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        split_uri(uri)


def test_keys_may_hold_what_urls_may_not() -> None:
    assert split_uri("s3://bucket/a b/c#d?e=f") == ("bucket", "a b/c#d?e=f")


def verify(receipt: Receipt, endpoint: str, *more: str) -> subprocess.CompletedProcess[str]:
    program = (
        "import logging, sys, hpc.results.verify as v; logging.basicConfig(); code = v.main(); "
        "assert 'airflow' not in sys.modules"
    )
    return subprocess.run(
        [sys.executable, "-c", f"{program}; sys.exit(code)", receipt.uri, "--endpoint-url", endpoint, *more],
        env={**os.environ, "PYTHONPATH": str(PLUGINS)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_verified_without_airflow(s3: Any, receipt: Receipt, aws: str) -> None:
    ended = verify(receipt, aws)
    assert (ended.returncode, ended.stdout) == (0, f"{receipt.uri}: 2 files, 9 bytes: verified\n")


def test_the_command_has_connections_for_all_that_it_asks_at_once(s3: Any, bucket: str, aws: str) -> None:
    """Otherwise urllib3 opens and discards them, and says so each time."""
    ended = verify(stored(s3, bucket, {f"{number}.dat": b"x" for number in range(100)}), aws, "--read")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_command_names_what_is_lost(
    s3: Any, receipt: Receipt, aws: str, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.delete_object(Bucket=receipt.bucket, Key="sim/a.dat")
    assert main([receipt.uri, "--endpoint-url", aws, "--read"]) == 1
    assert "'a.dat': s3://" in capsys.readouterr().out


def test_the_command_tells_lost_from_unknown(
    bucket: str, aws: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([f"s3://{bucket}/none.json", "--endpoint-url", aws]) == 2
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main([f"s3://{bucket}/none.json", "--endpoint-url", "http://127.0.0.1:9"]) == 2
    assert "could not verify" in capsys.readouterr().err
