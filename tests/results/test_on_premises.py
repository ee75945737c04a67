"""Results on their way from S3 to a real SFTP server."""

from __future__ import annotations

import hashlib
import json
import os
import pwd
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import (
    ConfigurationError,
    ConnectionLostError,
    ExportError,
    HpcError,
    PermissionDeniedError,
    ReceiptMismatchError,
)
from hpc.results.bucket import BLOCK
from hpc.results.on_premises import SIDECAR
from hpc.results.on_premises_operator import ResultsOnPremisesOperator
from hpc.results.receipt import Receipt, make_receipt
from tests.head_node.conftest import Sshd
from tests.results.strict_s3 import StrictS3
from tests.results.test_receipt import entry

pytestmark = pytest.mark.region

FILES = {"job.out": b"it ran", "frames/1 ü\n.png": b"\x89PNG", "empty": b"", "big/field.bin": os.urandom(3_500_000)}


@pytest.fixture
def receipt(s3: Any, bucket: str) -> Receipt:
    for path, data in FILES.items():
        s3.put_object(Bucket=bucket, Key=f"sim/{path.replace(chr(10), '%0A')}", Body=data)
    files = [
        entry(path, data).model_copy(update={"key": f"sim/{path.replace(chr(10), '%0A')}"})
        for path, data in FILES.items()
    ]
    receipt = make_receipt(
        cluster_name="demo", directory="/d", bucket=bucket, prefix="sim", receipt_key="receipt.json", files=files
    )
    s3.put_object(Bucket=bucket, Key="sim/receipt.json", Body=receipt.to_json())
    return receipt


def site_connection(monkeypatch: pytest.MonkeyPatch, sshd: Sshd, **changes: Any) -> None:
    value = {
        "conn_type": "sftp",
        "host": "127.0.0.1",
        "port": sshd.port,
        "login": pwd.getpwuid(os.geteuid()).pw_name,
        "extra": {"key_file": str(sshd.directory / "id_user"), "host_key": sshd.address.host_keys[0]},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SITE", json.dumps(value | changes))


@pytest.fixture
def site(tmp_path: Path, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> Path:
    site_connection(monkeypatch, sshd)
    return tmp_path / "site" / "results"


def send(receipt: Receipt, directory: Path) -> dict[str, Any]:
    context: Any = {}
    return ResultsOnPremisesOperator(
        task_id="send_on_premises", receipt_uri=receipt.uri, sftp_conn_id="site", directory=str(directory)
    ).execute(context)


def test_all_arrive_with_the_receipt(receipt: Receipt, site: Path) -> None:
    returned = send(receipt, site)
    assert {path: (site / path).read_bytes() for path in FILES} == FILES
    assert Receipt.model_validate_json((site / "receipt.json").read_bytes()) == receipt
    assert (returned["sent"], returned["files"], returned["verified"]) == (4, 4, True)
    assert not list(site.rglob("*.partial"))


def test_a_retry_sends_only_what_is_not_there(receipt: Receipt, site: Path, strict: StrictS3) -> None:
    send(receipt, site)
    (site / "job.out").unlink()
    (site / "big/field.bin").write_bytes(b"short")
    asked: list[str] = []

    def note(method: str, path: str) -> None:
        if method == "GET":
            asked.append(path.rpartition("/")[2])

    strict.answer = note
    assert send(receipt, site)["sent"] == 2
    assert sorted(asked) == ["field.bin", "job.out", "receipt.json"]
    assert (site / "job.out").read_bytes() == FILES["job.out"]


def test_what_nobody_verified_is_sent_again(receipt: Receipt, site: Path) -> None:
    site.mkdir(parents=True)
    (site / "job.out").write_bytes(b"IT RAN")
    (site / SIDECAR).write_text('{"path": "job.out", "sha2')
    assert send(receipt, site)["sent"] == 4
    assert (site / "job.out").read_bytes() == b"it ran"


def test_a_try_that_ends_in_the_middle_keeps_what_it_did(receipt: Receipt, site: Path, strict: StrictS3) -> None:
    def gone_once_another_is_there(method: str, path: str) -> tuple[int, bytes] | None:
        if method != "GET" or not path.endswith("field.bin"):
            return None
        end = time.monotonic() + 30
        while not ((site / SIDECAR).exists() and "job.out" in (site / SIDECAR).read_text()):
            assert time.monotonic() < end, "no other file was sent beside it"
            time.sleep(0.02)
        return 404, b"<Error><Code>NoSuchKey</Code></Error>"

    strict.answer = gone_once_another_is_there
    with pytest.raises(Exception, match="NoSuchKey"):
        send(receipt, site)
    assert not (site / "receipt.json").exists(), "the receipt comes last"
    strict.answer = lambda *_: None
    assert send(receipt, site)["sent"] < 4


def test_a_file_that_was_interrupted_goes_on(receipt: Receipt, site: Path, strict: StrictS3) -> None:
    strict.cut = lambda method, path: 2_200_000 if method == "GET" and path.endswith("field.bin") else None
    with pytest.raises(HpcError, match="total bytes expected"):
        send(receipt, site)
    (begun,) = [file for file in site.glob("*.partial") if file.stat().st_size > 1_000_000]
    number = begun.stat().st_ino
    strict.cut = lambda *_: None
    send(receipt, site)
    assert strict.ranges == [f"/{receipt.bucket}/sim/big/field.bin bytes={2_200_000 - BLOCK}-"]
    assert (site / "big/field.bin").read_bytes() == FILES["big/field.bin"]
    assert (site / "big/field.bin").stat().st_ino == number


def test_what_was_begun_and_is_another_file_is_written_anew(receipt: Receipt, site: Path) -> None:
    site.mkdir(parents=True)
    partial = ".airflow-parallelcluster." + hashlib.sha256(b"big/field.bin").hexdigest() + ".partial"
    (site / partial).write_bytes(os.urandom(2 << 20))
    assert send(receipt, site)["sent"] == 4
    assert (site / "big/field.bin").read_bytes() == FILES["big/field.bin"]


def test_an_object_that_is_not_as_the_receipt_says_does_not_get_its_name(receipt: Receipt, site: Path, s3: Any) -> None:
    s3.put_object(Bucket=receipt.bucket, Key="sim/job.out", Body=b"IT RAN")
    with pytest.raises(ReceiptMismatchError, match=r"S3 holds job\.out with SHA-256"):
        send(receipt, site)
    assert not (site / "job.out").exists()
    assert not (site / "receipt.json").exists()


def test_an_unknown_host_key_is_refused(receipt: Receipt, site: Path, sshd: Sshd, monkeypatch: Any) -> None:
    other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdGBHZ3cYTHzXiPGD5i4LJHtG6tc8Tg3R8i9RmPk1Wn"
    site_connection(monkeypatch, sshd, extra={"key_file": str(sshd.directory / "id_user"), "host_key": other})
    with pytest.raises(PermissionDeniedError, match=r"host key of the site"):
        send(receipt, site)


def test_a_site_that_is_down_is_a_lost_connection(receipt: Receipt, site: Path, sshd: Sshd, monkeypatch: Any) -> None:
    site_connection(monkeypatch, sshd, port=9)
    with pytest.raises(ConnectionLostError, match="does not answer"):
        send(receipt, site)


def test_a_folder_that_cannot_be_made_is_said(receipt: Receipt, site: Path) -> None:
    site.parent.mkdir(parents=True)
    site.write_text("a file is in the way")
    with pytest.raises(ExportError, match="the site site could not store"):
        send(receipt, site)


@pytest.mark.parametrize("directory", ["relative", "/a/../b"])
def test_the_folder_has_to_be_absolute(receipt: Receipt, site: Path, directory: str) -> None:
    with pytest.raises(ConfigurationError, match="no absolute folder"):
        send(receipt, Path(directory))
