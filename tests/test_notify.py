"""Messages to people: sent through Airflow's notifiers to a web hook, a mail server and a topic that really listen."""

from __future__ import annotations

import email
import json
from collections.abc import Iterator
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiosmtpd.controller import Controller
from pydantic import ValidationError

from hpc import site
from hpc.cluster.pool import PoolStore
from hpc.config import Mail, Notify
from hpc.errors import ConfigurationError
from hpc.notify import LONGEST_TEXT, Message, RunOf, Teller, send
from workshop.airflow import free_port

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

MESSAGE = Message("the deletion\nFAILED", "EBS <volume> & {{ conn.aws_default.password }}: «ö»", "https://airflow/run")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a web hook of Slack's kind was sent; the connection `slack_default` leads to it."""
    received: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append({"path": self.path, **json.loads(body)})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    connection = {
        "conn_type": "slackwebhook",
        "host": f"http://127.0.0.1:{server.server_port}",
        "password": "T0/B0/x",  # pragma: allowlist secret
    }
    monkeypatch.setenv("AIRFLOW_CONN_SLACK_DEFAULT", json.dumps(connection))
    yield received
    server.shutdown()
    server.server_close()


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The mails that a mail server took; the connection `smtp_default` leads to it."""
    received: list[Any] = []

    class Inbox:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            received.append((envelope.rcpt_tos, email.message_from_bytes(envelope.content, policy=default)))
            return "250 OK"

    server = Controller(Inbox(), hostname="127.0.0.1", port=free_port())
    server.start()
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@example.org"}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    yield received
    server.stop()


def test_slack_gets_one_message_that_no_text_in_it_can_change(hook: list[dict[str, Any]]) -> None:
    assert send(MESSAGE, Notify(slack="slack_default"), None) == 1
    (said,) = hook
    assert said["path"] == "/T0/B0/x"
    assert said["text"] == (
        "*the deletion FAILED*\nEBS &lt;volume&gt; &amp; {{ conn.aws_default.password }}: «ö»\nhttps://airflow/run"
    )


def test_mail_goes_to_everybody_who_is_named(mailbox: list[Any]) -> None:
    people = Mail(to=("hpc@example.org", "ops@example.org"))
    assert send(MESSAGE, Notify(mail=people), None) == 1
    ((to, mail),) = mailbox
    assert to == ["hpc@example.org", "ops@example.org"]
    assert mail["Subject"] == "the deletion FAILED"
    assert mail["From"] == "airflow@example.org"
    text = mail.get_body().get_content()
    assert "EBS &lt;volume&gt; &amp; {{ conn.aws_default.password }}: «ö»" in text
    assert "https://airflow/run" in text


@pytest.mark.region
@pytest.mark.usefixtures("connections")
def test_a_topic_of_sns_gets_it(region: LocalRegion) -> None:
    keys = {"aws_access_key_id": region.access_key_id, "aws_secret_access_key": region.secret_access_key}

    def client(service: str) -> Any:
        return boto3.client(service, region_name=region.region, endpoint_url=region.endpoint_url, **keys)  # type: ignore[call-overload]

    topic = client("sns").create_topic(Name="hpc")["TopicArn"]
    queue = client("sqs").create_queue(QueueName="hpc")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    assert send(MESSAGE, Notify(sns=topic), "aws_default") == 1
    (received,) = client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    body = json.loads(received["Body"])
    assert (body["Subject"], body["Message"]) == ("the deletion FAILED", MESSAGE.body)


@pytest.mark.usefixtures("mailbox")
def test_a_channel_that_is_down_keeps_no_other_from_being_told(
    hook: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    nobody = Mail(to=("hpc@example.org",), connection="there_is_none")
    assert send(MESSAGE, Notify(slack="slack_default", mail=nobody), None) == 1
    assert len(hook) == 1
    assert "Nobody was told by mail: the deletion FAILED" in caplog.text


def test_nobody_is_told_and_nothing_is_asked_where_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_read", lambda: {})
    monkeypatch.setattr("hpc.notify.cost_of", lambda *_: pytest.fail("AWS was asked"))
    Teller(None, "aws_default").tell(RunOf("melt", "manual__1"), "the run FAILED", "why")
    assert send(MESSAGE, None, None) == 0


@pytest.mark.region
@pytest.mark.usefixtures("connections")
def test_a_run_is_told_with_what_it_costs_an_hour(
    hook: list[dict[str, Any]], region: LocalRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"region": region.region, "notify": {"slack": "slack_default"}}
    monkeypatch.setattr(site, "_read", lambda: facts)
    site._variable.cache_clear()
    run = RunOf("melt", "manual__1", "https://airflow/run")
    session = boto3.Session(region.access_key_id, region.secret_access_key, region_name=region.region)
    ec2 = session.client("ec2", endpoint_url=region.endpoint_url)
    tags = [{"Key": "parallelcluster:cluster-name", "Value": run.cluster}]
    volume = ec2.create_volume(
        AvailabilityZone=f"{region.region}a",
        Size=730,
        VolumeType="gp3",
        TagSpecifications=[{"ResourceType": "volume", "Tags": tags}],
    )["VolumeId"]
    try:
        Teller(None, "aws_default").tell(run, "the run FAILED", "why")
    finally:
        ec2.delete_volume(VolumeId=volume)
        site._variable.cache_clear()
    assert hook[0]["text"] == (
        f"*melt: the run FAILED*\nRun manual__1 of melt, cluster {run.cluster}: the run FAILED.\nwhy\n"
        f"It costs about $0.08 an hour ($58.40 a month) now: EBS volume {volume}.\nhttps://airflow/run"
    )


@pytest.mark.region
@pytest.mark.usefixtures("connections")
def test_of_a_run_that_shares_its_cluster_the_shared_one_is_told(
    hook: list[dict[str, Any]], region: LocalRegion, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"region": region.region, "bucket": region.bucket, "notify": {"slack": "slack_default"}}
    monkeypatch.setattr(site, "_read", lambda: facts)
    site._variable.cache_clear()
    PoolStore(region.client("s3"), region.bucket, "told").change(lambda pool: pool.model_copy(update={"generation": 3}))
    Teller(None, "aws_default", "told").tell(RunOf("melt", "manual__1"), "the run FAILED", "why")
    site._variable.cache_clear()
    assert "Run manual__1 of melt, cluster pool-told-3: the run FAILED.\nwhy\nIt costs nothing now." in hook[0]["text"]


def test_what_a_task_has_told_of_itself_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Teller, "__call__", lambda _self, _context, _event, text: told.append(text))
    callback = Teller(None, None).failed("the run FAILED", unless=ConfigurationError)
    callback({"exception": ConfigurationError("wrong")})  # type: ignore[typeddict-item]
    callback({"exception": ValueError("a fault")})  # type: ignore[typeddict-item]
    callback({})  # type: ignore[typeddict-item]
    assert told == ["a fault", "The task was ended; its log may say why."]


def test_a_retry_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Teller, "__call__", lambda _self, _context, event, _text: told.append(event))
    callback = Teller(None, None).retried("the deletion failed")
    for number in (1, 2, 3):
        callback({"ti": type("TaskInstance", (), {"try_number": number})()})  # type: ignore[typeddict-item]
    assert told == ["the deletion failed, and is tried again"]


def test_a_long_text_is_cut_and_the_link_stays() -> None:
    body = Message("s", "x" * 10_000, "https://airflow").body
    assert len(body) < LONGEST_TEXT + 50
    assert body.endswith("…\nhttps://airflow")


def test_somebody_has_to_be_told() -> None:
    with pytest.raises(ValidationError, match="name at least one of slack, mail, sns"):
        Notify()


def test_a_malformed_channel_of_the_site_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "_read", lambda: {"notify": {"slak": "x", "sns": "arn"}})
    with pytest.raises(ConfigurationError) as caught:
        site.site_notify()
    assert "notify.slak: there is no such key; did you mean slack?" in str(caught.value)
    assert "notify.sns = 'arn'" in str(caught.value)
