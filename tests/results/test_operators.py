"""ResultsToS3Operator against moto's S3 and a real sshd."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from hpc.errors import (
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    ExportError,
    PermissionDeniedError,
    ReceiptMismatchError,
)
from hpc.results import launch
from hpc.results.receipt import load_receipt
from hpc.results.triggers import ResultsExportTrigger
from tests.results.conftest import Export, set_aws_connection
from tests.results.strict_s3 import DENIED, EXPIRED, SLOW_DOWN, StrictS3

pytestmark = [pytest.mark.region, pytest.mark.slurm]

MIB = 1 << 20


def keys(s3: Any, bucket: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def content(s3: Any, bucket: str, key: str) -> bytes:
    body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def test_exports_and_returns_a_verified_receipt(export: Export, s3: Any) -> None:
    export.write("job.out", "it ran\n")
    export.write("frames/0001.png", b"\x89PNG")
    export.write("core.123", "not wanted")
    export.ti.returned["run_job"] = {"job_id": 1, "exit_code": 0}
    returned = export.run(["*.out", "frames/**"], facts={"parameters": {"steps": 5}}, facts_from=["run_job"])
    uri = f"s3://{export.bucket}/sim/run/"
    assert returned == {
        "uri": uri,
        "bucket": export.bucket,
        "prefix": "sim/run",
        "receipt_uri": f"{uri}receipt.json",
        "page_uri": f"{uri}receipt.html",
        "files": 2,
        "bytes": 11,
        "verified": True,
        "objects": [f"{uri}frames/0001.png", f"{uri}job.out"],
        "left_out": 0,
        "left_out_first": [],
    }
    names = ["frames/0001.png", "job.out", "receipt.html", "receipt.json"]
    assert keys(s3, export.bucket) == [f"sim/run/{name}" for name in names]
    page = s3.get_object(Bucket=export.bucket, Key="sim/run/receipt.html")
    assert page["ContentType"] == "text/html; charset=utf-8"
    assert '<a href="./frames/0001.png">frames/0001.png</a>' in page["Body"].read().decode()
    assert export.ti.pushed["s3_receipt"]["key"] == "sim/run/receipt.html"
    picture = s3.get_object(Bucket=export.bucket, Key="sim/run/frames/0001.png")
    assert (picture["Body"].read(), picture["ContentType"]) == (b"\x89PNG", "image/png")
    receipt = load_receipt(s3, returned["receipt_uri"])
    assert receipt.facts == {"parameters": {"steps": 5}, "run_job": {"job_id": 1, "exit_code": 0}}
    assert not export.records.exists(), "the record on the head node is removed after success"


def test_is_deferred_twice_and_hides_the_urls(
    export: Export, aws: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpc.results.launch.PATIENCE", 0)
    export.write("job.out", "it ran\n")
    operator = export.operator(["*.out"], deferrable=True)
    context: Any = {"ti": export.ti}
    stages, said = [], ""
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    while True:
        trigger, kwargs = deferred.value.trigger, deferred.value.kwargs or {}
        assert isinstance(trigger, ResultsExportTrigger)
        path, arguments = trigger.serialize()
        said += json.dumps([arguments, kwargs])
        stages.append(kwargs["stage"])
        again = ResultsExportTrigger(**json.loads(json.dumps(arguments)))
        assert path == "hpc.results.triggers.ResultsExportTrigger"
        event = asyncio.run(anext(aiter(again.run()))).payload
        said += json.dumps(event)
        try:
            returned = operator.execute_complete(context, event, **kwargs)
            break
        except TaskDeferred as next_deferral:
            deferred.value.trigger, deferred.value.kwargs = next_deferral.trigger, next_deferral.kwargs
    assert stages == ["scan", "upload"]
    assert returned["verified"] is True
    log = [line for line in "\n".join(capsys.readouterr()).splitlines() if "[werkzeug]" not in line]
    assert any("Sending 7 bytes in 1 requests" in line for line in log)
    assert "X-Amz-Signature" not in "\n".join(log) + said + json.dumps(export.ti.pushed)


def test_any_name_arrives(export: Export, s3: Any) -> None:
    names = [
        "with space.txt",
        "quo'te\"s.txt",
        "wörld-世界.txt",
        "a&b+c%20?=#;.txt",
        "new\nline.txt",
        "-rf",
        "$(touch owned).txt",
        ".hidden",
        "deep/er/and deeper/x",
    ]
    for name in names:
        export.write(name, name)
    receipt = load_receipt(s3, export.run(["**"])["receipt_uri"])
    assert [file.path for file in receipt.files] == sorted(names)
    for file in receipt.files:
        assert content(s3, export.bucket, file.key) == file.path.encode()


def test_a_name_that_is_no_text_is_refused_by_name(export: Export, aws: str) -> None:
    (export.directory / os.fsdecode(b"caf\xe9.txt")).write_text("x")
    with pytest.raises(ConfigurationError, match=r"caf\\xe9.txt is not UTF-8"):
        export.run(["*"])


def test_two_files_that_would_share_a_key_are_refused(export: Export, aws: str) -> None:
    export.write("a\nb", "1")
    export.write("a%0Ab", "2")
    with pytest.raises(ExportError, match="same object"):
        export.run(["**"])


@pytest.mark.parametrize("name", ["receipt.json", "receipt.html"])
def test_a_result_cannot_replace_the_receipt(export: Export, aws: str, name: str) -> None:
    export.write(name, "{}")
    with pytest.raises(ExportError, match=rf"overwrite the export's own 'sim/run/{re.escape(name)}'"):
        export.run(["**"])


def test_a_pattern_without_a_match_says_what_is_there(export: Export, aws: str) -> None:
    export.write("job.out", "x")
    export.write("frames/1.png", "x")
    with pytest.raises(ExportError) as error:
        export.run(["*.out", "*.dat", "frames"])
    assert "matches '*.dat', 'frames'" in str(error.value)
    assert "'frames' is a folder, write 'frames/**'" in str(error.value)
    assert "There is: 'job.out', 'frames/1.png'" in str(error.value)


def test_a_missing_folder_is_named(export: Export, aws: str) -> None:
    with pytest.raises(ConfigurationError, match=r"no folder .*/run/nowhere on the head node"):
        export.run(["*"], directory=f"{export.directory}/nowhere")


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../other/*", "a/../../b", ""])
def test_patterns_cannot_leave_the_folder(export: Export, pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="does not stay below"):
        export.run([pattern])


def test_links_out_of_the_folder_are_left_out_and_listed(export: Export, s3: Any) -> None:
    secret = export.directory.parent / "secret"
    secret.write_text("of somebody else")
    export.write("real.txt", "mine")
    (export.directory / "inside.txt").symlink_to("real.txt")
    (export.directory / "outside.txt").symlink_to(secret)
    (export.directory / "folder").symlink_to("/etc")
    (export.directory / "dangling").symlink_to("nowhere")
    os.mkfifo(export.directory / "pipe")
    returned = export.run(["**"])
    receipt = load_receipt(s3, returned["receipt_uri"])
    assert [file.path for file in receipt.files] == ["inside.txt", "real.txt"]
    assert {entry.path: entry.reason for entry in receipt.left_out} == {
        "dangling": "a link that leads nowhere",
        "folder": "a link that leads out of the folder",
        "outside.txt": "a link that leads out of the folder",
        "pipe": "not a regular file",
    }
    assert returned["left_out"] == 4
    assert returned["left_out_first"] == [entry.model_dump() for entry in receipt.left_out]


def test_of_much_that_is_left_out_the_first_are_returned(export: Export) -> None:
    export.write("real.txt", "mine")
    for number in range(7):
        (export.directory / f"link{number}").symlink_to("/etc")
    returned = export.run(["**"])
    assert returned["left_out"] == 7
    assert [entry["path"] for entry in returned["left_out_first"]] == [f"link{number}" for number in range(5)]


def test_a_retry_sends_only_what_is_missing_or_different(export: Export, s3: Any, strict: StrictS3) -> None:
    for number in range(5):
        export.write(f"{number}.dat", f"frame {number}")
    export.run(["*.dat"])
    s3.delete_object(Bucket=export.bucket, Key="sim/run/1.dat")
    s3.put_object(Bucket=export.bucket, Key="sim/run/2.dat", Body=b"FRAME 2")
    export.write("3.dat", "another size")
    strict.puts.clear()
    returned = export.run(["*.dat"])
    sent = sorted(path.rpartition("/")[2] for path in strict.puts)
    assert sent == ["1.dat", "2.dat", "3.dat", "receipt.html", "receipt.json"]
    assert content(s3, export.bucket, "sim/run/2.dat") == b"frame 2"
    assert returned["verified"] is True


def test_a_denied_put_fails_without_a_retry_and_says_what_to_allow(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a.dat", "x" * 100)
    strict.answer = lambda method, path: DENIED if method == "PUT" and path.endswith(".dat") else None
    with pytest.raises(PermissionDeniedError, match=r"403 AccessDenied to a\.dat(.|\n)*s3:PutObject"):
        export.run(["*"])
    assert len(strict.puts) == 1


def test_a_large_denied_put_is_told_from_a_broken_connection(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a.dat", os.urandom(20 * MIB))
    strict.answer = lambda method, path: DENIED if method == "PUT" and path.endswith(".dat") else None
    with pytest.raises(PermissionDeniedError):
        export.run(["*"])


def test_a_busy_server_is_asked_again(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a.dat", "x")
    answers = iter([SLOW_DOWN, SLOW_DOWN])
    strict.answer = lambda method, path: next(answers, None) if path.endswith(".dat") and method == "PUT" else None
    assert export.run(["*"])["verified"] is True
    assert len([path for path in strict.puts if path.endswith(".dat")]) == 3


def test_urls_that_expire_on_the_way_are_signed_again(export: Export, aws: str, strict: StrictS3) -> None:
    for number in range(40):
        export.write(f"{number:02}.dat", "x")
    asked = itertools.count(1)

    def expire_once(method: str, path: str) -> tuple[int, bytes] | None:
        return EXPIRED if method == "PUT" and path.endswith(".dat") and next(asked) == 20 else None

    strict.answer = expire_once
    assert export.run(["*"])["files"] == 40


def test_urls_that_are_expired_from_the_start_point_at_the_clock(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a.dat", "x")
    strict.answer = lambda method, path: EXPIRED if method == "PUT" else None
    with pytest.raises(ExportError, match=r"403 AccessDenied(.|\n)*clock of the Airflow worker"):
        export.run(["*"])


def test_damage_on_the_way_is_refused_by_s3(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a.dat", "precious")
    strict.damage = lambda path: path.endswith("a.dat")
    with pytest.raises(ExportError, match="BadDigest"):
        export.run(["*"])


def test_an_object_lost_after_the_upload_fails_the_verification(export: Export, s3: Any, strict: StrictS3) -> None:
    export.write("a.dat", "precious")
    export.write("b.dat", "precious too")

    def lose(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("receipt.json"):
            s3.delete_object(Bucket=export.bucket, Key="sim/run/a.dat")

    strict.answer = lose
    with pytest.raises(ReceiptMismatchError, match=r"1 of 2 files are not in S3(.|\n)*a\.dat(.|\n)*is not there"):
        export.run(["*"])


def test_a_file_that_still_grows_fails_the_export(export: Export, s3: Any, strict: StrictS3) -> None:
    file = export.write("grows.dat", "1")
    export.write("rests.dat", "1")

    def grow(method: str, path: str) -> None:
        if method == "PUT":
            with file.open("a") as growing:
                growing.write("2")

    strict.answer = grow
    with pytest.raises(ExportError, match=r"grows\.dat changed while it was exported(.|\n)*background process"):
        export.run(["*"])
    strict.answer = lambda *_: None
    assert export.run(["*"])["files"] == 2, "a second try ends well"


def test_large_files_go_in_parts(export: Export, s3: Any, strict: StrictS3) -> None:
    data = os.urandom(12 * MIB + 5)
    export.write("field.bin", data)
    export.write("small.txt", "x")
    returned = export.run(["*"], part_size=5 * MIB)
    assert content(s3, export.bucket, "sim/run/field.bin") == data
    assert len([path for path in strict.puts if path.endswith("field.bin")]) == 3
    receipt = load_receipt(s3, returned["receipt_uri"])
    assert receipt.files[0].s3_checksum.endswith("-3")
    strict.puts.clear()
    export.run(["*"], part_size=5 * MIB)
    assert [path.rpartition("/")[2] for path in strict.puts] == ["receipt.json", "receipt.html"]


def test_a_multipart_upload_goes_on_after_a_failure(export: Export, s3: Any, strict: StrictS3) -> None:
    export.write("field.bin", os.urandom(12 * MIB))
    strict.answer = lambda method, path: (
        DENIED if method == "PUT" and path.endswith("field.bin") and len(strict.puts) == 3 else None
    )
    with pytest.raises(PermissionDeniedError):
        export.run(["*"], part_size=5 * MIB)
    strict.answer = lambda *_: None
    assert export.run(["*"], part_size=5 * MIB)["verified"] is True
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=export.bucket), "the first upload was taken up again"


def test_many_small_files(export: Export, s3: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aws_connection(monkeypatch, endpoint)  # moto itself is faster
    monkeypatch.setattr("hpc.results.operators.UNITS_PER_ROUND", 400)
    for number in range(1000):
        export.write(f"{number % 7}/{number:04}.dat", f"value {number}")
    returned = export.run(["**/*.dat"])
    assert (returned["files"], len(returned["objects"])) == (1000, 50)
    assert len(keys(s3, export.bucket)) == 1000 + len(["receipt.json", "receipt.html"])


def test_empty_files_arrive(export: Export, s3: Any) -> None:
    export.write("empty", b"")
    assert export.run(["empty"])["bytes"] == 0
    assert content(s3, export.bucket, "sim/run/empty") == b""


def test_s3_out_of_reach_of_the_head_node_is_a_lost_connection(
    export: Export, aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export.write("a", "x")
    impatient = [(name, source.replace("ATTEMPTS = 6", "ATTEMPTS = 2")) for name, source in launch.program()]
    monkeypatch.setattr("hpc.results.launch.program", lambda: impatient)
    real = "hpc.results.signing.UrlSigner.put"
    monkeypatch.setattr(real, lambda *_, **__: "http://127.0.0.1:9/nobody?here")
    with pytest.raises(ConnectionLostError, match="could not be sent in 2 tries"):
        export.run(["a"])


def test_the_limit_stops_the_exporter(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a", "x")
    strict.answer = lambda method, path: SLOW_DOWN if method == "PUT" else None
    with pytest.raises(DeadlineExceededError, match="took longer than"):
        export.run(["a"], waiter_delay=1, waiter_max_attempts=4)


def test_an_exporter_that_is_killed_is_not_done(export: Export, aws: str, strict: StrictS3) -> None:
    export.write("a", "x")
    export.write("b", "x")

    def kill(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/b"):
            os.kill(int((export.records / "pid").read_text()), signal.SIGKILL)

    strict.answer = kill
    with pytest.raises(ExportError, match="ended without saying why"):
        export.run(["*"])
    strict.answer = lambda *_: None
    assert export.run(["*"])["files"] == 2


async def test_a_user_who_ends_the_task_ends_the_exporter(
    export: Export, aws: str, strict: StrictS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    export.write("a", "x")
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def busy(method: str, path: str) -> tuple[int, bytes] | None:
        if method == "PUT":
            loop.call_soon_threadsafe(started.set)
            return SLOW_DOWN
        return None

    strict.answer = busy
    monkeypatch.setattr("hpc.results.launch.PATIENCE", 1)
    operator = export.operator(["*"], deferrable=True)
    context: Any = {"ti": export.ti}
    with pytest.raises(TaskDeferred) as deferred:
        await asyncio.to_thread(operator.execute, context)
    while deferred.value.kwargs["stage"] == "scan":  # on a slow machine the scan is deferred as well
        event = (await anext(aiter(deferred.value.trigger.run()))).payload
        with pytest.raises(TaskDeferred) as deferred:
            await asyncio.to_thread(operator.execute_complete, context, event, **deferred.value.kwargs)
    trigger = deferred.value.trigger
    assert isinstance(trigger, ResultsExportTrigger)
    await asyncio.wait_for(started.wait(), 60)
    await trigger.on_kill()
    event = (await anext(aiter(trigger.run()))).payload
    assert (event["status"], event["progress"]["kind"]) == ("failed", "stopped")


def test_the_history_of_the_cluster_is_kept_with_the_results(export: Export, s3: Any) -> None:
    export.write("job.out", "it ran\n")
    log = export.write("../slurmctld.log", "slurmctld: started")
    asked: list[Any] = []

    def history(cluster_name: str, **arguments: Any) -> dict[str, str]:
        asked.append((cluster_name, arguments))
        return {"stack-events.txt": "HeadNode  CREATE_COMPLETE\n"}

    logs = {str(log): "daemon.log", "/never/written.log": "none.log"}
    receipt = load_receipt(s3, export.run(["*.out"], history=history, logs=logs)["receipt_uri"])
    assert asked == [(export.sshd.address.cluster_name, {"aws_conn_id": "aws_default", "region_name": None})]
    assert [file.path for file in receipt.files] == ["daemon.log", "job.out", "none.log", ".cluster/stack-events.txt"]
    assert content(s3, export.bucket, "sim/run/.cluster/stack-events.txt") == b"HeadNode  CREATE_COMPLETE\n"
    assert content(s3, export.bucket, "sim/run/daemon.log") == b"slurmctld: started"
    assert b"No such file" in content(s3, export.bucket, "sim/run/none.log")


def test_results_do_not_wait_for_a_history_that_cannot_be_had(export: Export, aws: str) -> None:
    export.write("job.out", "it ran\n")

    def history(*_: Any, **__: Any) -> dict[str, str]:
        raise PermissionDeniedError("cloudformation:DescribeStackEvents is not allowed")

    assert export.run(["*.out"], history=history)["files"] == 1


def test_a_page_of_pictures_is_made_and_linked(export: Export, s3: Any, aws: str) -> None:
    export.write("a.png", b"\x89PNG")
    export.write('"><script>.png', b"\x89PNG")
    export.write("numbers.txt", "1 2 3")
    returned = export.run(["*"], gallery=True)
    page = content(s3, export.bucket, "sim/run/index.html").decode()
    assert page.count("<img") == 2
    assert "<script>" not in page
    assert returned["files"] == 4
    assert export.ti.pushed["s3_pictures"]["key"] == "sim/run/index.html"
    assert export.ti.pushed["s3_results"]["endpoint_url"] == aws


def test_a_gallery_does_not_replace_a_result(export: Export, s3: Any, aws: str) -> None:
    export.write("index.html", "mine")
    export.write("a.png", b"\x89PNG")
    export.run(["*"], gallery=True)
    assert content(s3, export.bucket, "sim/run/index.html") == b"mine"
    assert export.ti.pushed["s3_pictures"]["key"] == "sim/run/pictures.html"
