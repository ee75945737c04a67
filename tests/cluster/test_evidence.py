"""What explains a failed creation, as files; and that a bucket which refuses them hides nothing."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from hpc import errors
from hpc.cluster.diagnosis import Evidence
from hpc.cluster.evidence import files_of, read_head_node_logs, save
from hpc.cluster.sensors import diagnose

from .test_stacks import STACK_ID, event

FAILED = event("HeadNode", "CREATE_FAILED", "no capacity", type="AWS::EC2::Instance")


class Logs:
    """CloudWatch Logs with one line in each stream."""

    def get_log_events(self, *, logGroupName: str, logStreamName: str, **_: Any) -> dict[str, Any]:
        return {"events": [{"message": f"{logGroupName} {logStreamName}"}]}


class Bucket:
    """S3 that keeps what it is given, or refuses."""

    def __init__(self, error: Exception | None = None) -> None:
        self.objects: dict[tuple[str, str], bytes] = {}
        self.error = error

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:
        if self.error:
            raise self.error
        self.objects[Bucket, Key] = Body


def test_people_and_programs_read_the_same() -> None:
    facts: dict[str, Any] = {"stack_id": STACK_ID, "events": [event("demo", "CREATE_IN_PROGRESS"), FAILED]}
    evidence = Evidence("demo", "CREATE_FAILED", [FAILED], unknown=["the bootstrap log: AccessDenied"], **facts)
    error = errors.CapacityError("no t3.large", remedy="wait")

    files = files_of(evidence, error, "Region: us-east-1\n")

    told = json.loads(files["explanation.json"])
    assert files["explanation.txt"] == "no t3.large\n  What to do: wait\n"
    assert files["cluster-config.yaml"] == "Region: us-east-1\n"
    assert (told["error"], told["what_to_do"], told["stack_id"]) == ("CapacityError", "wait", STACK_ID)
    assert [failure["reason"] for failure in told["failed_resources"]] == ["no capacity"]
    assert [each["status"] for each in told["stack_events"]] == ["CREATE_IN_PROGRESS", "CREATE_FAILED"]
    assert told["not_known"] == ["the bootstrap log: AccessDenied"]


def test_only_the_logs_of_the_head_nodes_start_are_kept() -> None:
    found = read_head_node_logs(Logs(), "/g", ["ip-1.i-1.chef-client", "ip-1.i-1.slurmctld", "ip-1.i-1.cloud-init"])
    assert found == {
        "ip-1.i-1.chef-client.log": "/g ip-1.i-1.chef-client\n",
        "ip-1.i-1.cloud-init.log": "/g ip-1.i-1.cloud-init\n",
    }


def test_files_lie_below_the_folder() -> None:
    bucket = Bucket()
    save(bucket, "s3://results/failed-creates/demo/1", {"explanation.txt": "ä"})
    assert bucket.objects == {("results", "failed-creates/demo/1/explanation.txt"): "ä".encode()}


@pytest.mark.parametrize("refused", [True, False])
def test_a_bucket_that_refuses_hides_no_failure(refused: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Nothing:
        """Answers no question."""

        def __getattr__(self, name: str) -> Any:
            raise PermissionError("not for you")

    bucket = Bucket(PermissionError("no writing") if refused else None)
    clients = {"cloudformation": Nothing(), "logs": Nothing(), "s3": bucket}
    task: Any = SimpleNamespace(
        cluster_name="demo",
        account=SimpleNamespace(client=clients.__getitem__),
        pcluster=lambda: SimpleNamespace(describe=lambda name: {"failures": []}),
    )
    event = {"stack_status": "CREATE_FAILED", "stack_id": STACK_ID}

    error = diagnose(task, event, "CREATE_COMPLETE", evidence_uri="s3://results/failed", configuration="x")

    assert type(error) is errors.ClusterCreateFailedError
    folder = f"s3://results/failed/{STACK_ID.rpartition('/')[2]}"
    if refused:
        assert f"could not be saved in {folder}: no writing" in caplog.text
    else:
        assert f"is in {folder}/: explanation.txt" in caplog.text
        assert len(bucket.objects) == 3
