"""The unmodified `pcluster` command against the region, with all validators on.

One cluster serves most of the tests, in the order in which they stand here: a create costs the command ten seconds.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc.cluster.install import Environment
from local_aws.testing import LocalRegion
from tests.local_aws.conftest import HeadNode, Pcluster, cluster_document, until

pytestmark = [pytest.mark.region, pytest.mark.slurm, pytest.mark.pcluster]


def what_bills(region: LocalRegion) -> set[str]:
    """The ids of all file systems, network interfaces and volumes in the region, other tests' among them."""
    ec2 = region.client("ec2")
    return {
        *(each["FileSystemId"] for each in region.client("fsx").describe_file_systems()["FileSystems"]),
        *(each["NetworkInterfaceId"] for each in ec2.describe_network_interfaces()["NetworkInterfaces"]),
        *(each["VolumeId"] for each in ec2.describe_volumes()["Volumes"]),
    }


@pytest.fixture(scope="module")
def before(region: LocalRegion) -> set[str]:
    """What was there before the cluster `demo`."""
    return what_bills(region)


@pytest.fixture(scope="module")
def demo(
    before: set[str],
    region: LocalRegion,
    tmp_path_factory: pytest.TempPathFactory,
    parallelcluster: Environment,
) -> Iterator[HeadNode]:
    """The head node of a cluster named `demo`; the last test deletes it."""
    directory = tmp_path_factory.mktemp("demo")
    configuration = write(directory / "cluster.yaml", cluster_document(region))
    pcluster = Pcluster(region, directory, parallelcluster.bin)
    code, answer = pcluster.create("demo", configuration)
    assert code == 0, answer
    assert answer["cluster"]["clusterStatus"] == "CREATE_IN_PROGRESS"
    pcluster.wait_for_stack("demo", "CREATE_COMPLETE")
    yield HeadNode(region, pcluster.describe("demo")["headNode"]["publicIpAddress"])
    if pcluster.stack_status("demo") is not None:
        pcluster.delete("demo")
        pcluster.wait_for_stack("demo", None)


def write(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_dry_run_validates_and_creates_nothing(pcluster: Pcluster, configuration: Path) -> None:
    code, answer = pcluster.create("dry", configuration, "--dryrun", "true")
    assert code == 1
    assert answer["message"] == "Request would have succeeded, but DryRun flag is set."
    assert pcluster.stack_status("dry") is None


def test_a_dry_run_refuses_an_instance_type_that_does_not_exist(
    region: LocalRegion, pcluster: Pcluster, tmp_path: Path
) -> None:
    document = cluster_document(region)
    document["HeadNode"]["InstanceType"] = "t9.nonsense"
    code, answer = pcluster.create("dry", write(tmp_path / "wrong.yaml", document), "--dryrun", "true")
    assert code == 1
    assert "t9.nonsense" in json.dumps(answer)


def test_a_created_cluster_is_described_and_listed(demo: HeadNode, pcluster: Pcluster) -> None:
    description = pcluster.describe("demo")
    assert description["clusterStatus"] == "CREATE_COMPLETE"
    assert description["computeFleetStatus"] == "RUNNING"
    assert description["headNode"]["state"] == "running"
    assert [cluster["clusterName"] for cluster in pcluster.run("list-clusters")[1]["clusters"]] == ["demo"]
    assert demo.answer("/opt/slurm/bin/scontrol ping").endswith("is UP")
    assert demo.answer("touch /fsx/here && ls /fsx") == "here"


def test_the_console_carries_the_host_key(demo: HeadNode, pcluster: Pcluster) -> None:
    region = demo.region
    head = pcluster.describe("demo")["headNode"]
    console = region.client("ec2").get_console_output(InstanceId=head["instanceId"])["Output"]
    keys = re.search(r"-----BEGIN SSH HOST KEY KEYS-----\n(.+?)\n-----END SSH HOST KEY KEYS-----", console, re.DOTALL)
    assert keys is not None
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(region.ssh_port), head["publicIpAddress"]]
    offered = subprocess.run(scan, capture_output=True, text=True, check=True).stdout.split(" ", 1)[1].strip()
    assert keys[1].startswith(offered)
    assert head["publicIpAddress"] != head["privateIpAddress"]


def test_alarms_follow_the_metrics(demo: HeadNode, faults: LocalRegion) -> None:
    cloudwatch = faults.client("cloudwatch")

    def states() -> set[str]:
        answer = cloudwatch.describe_alarms(
            AlarmNames=["demo-HeadNode-Cpu", "demo-HeadNode"], AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        return {alarm["StateValue"] for alarm in answer["MetricAlarms"] + answer["CompositeAlarms"]}

    until(lambda: states() == {"OK"})
    faults.fault("metric", alarm="demo-HeadNode-Cpu", value=99.0)
    until(lambda: states() == {"ALARM"}, 10)
    faults.fault("clear")
    until(lambda: states() == {"OK"})


def test_a_dcv_link_opens_the_stand_in_page_once(demo: HeadNode) -> None:
    said = demo.answer("/opt/parallelcluster/scripts/pcluster_dcv_connect.sh /home/ec2-user")
    pattern = r"PclusterDcvServerPort=([\d]+) PclusterDcvSessionId=([\w]+) PclusterDcvSessionToken=([\w-]+)"
    match = re.fullmatch(pattern, said)  # the pattern is that of the pinned command
    assert match is not None, said
    port, _, token = match.groups()
    trust = ssl.create_default_context(cadata=ssl.get_server_certificate((demo.address, int(port))))
    url = f"https://{demo.address}:{port}?authToken={token}"
    with urllib.request.urlopen(url, context=trust) as page:
        assert "stands in for it" in page.read().decode()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url, context=trust)


def test_a_cluster_with_static_nodes_lives_beside_it(demo: HeadNode, pcluster: Pcluster, tmp_path: Path) -> None:
    region = demo.region
    assert pcluster.create("static", write(tmp_path / "static.yaml", cluster_document(region, 1, 2)))[0] == 0
    pcluster.wait_for_stack("static", "CREATE_COMPLETE")
    node = "compute-st-c5l-1"
    head = HeadNode(region, pcluster.describe("static")["headNode"]["publicIpAddress"])

    def instance() -> str | None:
        instances: dict[str, str] = region.status()["clusters"]["static"]["instances"]
        return instances.get(node)

    def is_idle() -> bool:
        return head.answer(f"sinfo --noheader --nodes {node} --format %T") == "idle"

    first = until(instance)
    until(is_idle)
    assert head.answer("ls /fsx") == "", "each cluster has a file system of its own"
    region.client("ec2").terminate_instances(InstanceIds=[first])
    until(lambda: instance() not in (None, first), 60)
    until(is_idle)
    assert pcluster.delete("static")[0] == 0
    pcluster.wait_for_stack("static", None)
    assert demo.answer("ls /fsx") == "here"


def test_the_fleet_stops_an_update_adds_nodes_and_the_fleet_starts(
    demo: HeadNode, pcluster: Pcluster, tmp_path: Path
) -> None:
    def fleet_status() -> Any:
        return pcluster.run("describe-compute-fleet", "--cluster-name", "demo")[1]["status"]

    demo.answer("cd /fsx && srun -N1 true")
    pcluster.run("update-compute-fleet", "--cluster-name", "demo", "--status", "STOP_REQUESTED")
    until(lambda: fleet_status() == "STOPPED")
    assert demo.answer("sinfo --noheader --format %a | sort -u") == "inactive"
    assert demo.region.status()["clusters"]["demo"]["instances"] == {}

    changed = write(tmp_path / "changed.yaml", cluster_document(demo.region, maximum=6))
    code, answer = pcluster.run("update-cluster", "--cluster-name", "demo", "--cluster-configuration", str(changed))
    assert code == 0, answer
    pcluster.wait_for_stack("demo", "UPDATE_COMPLETE")
    until(lambda: demo.run("sinfo --noheader --format %D | awk '{ n += $1 } END { print n }'").stdout.strip() == "6")

    pcluster.run("update-compute-fleet", "--cluster-name", "demo", "--status", "START_REQUESTED")
    until(lambda: demo.answer("sinfo --noheader --format %a | sort -u") == "up")
    assert demo.answer("cd /fsx && srun -N6 hostname | sort | uniq | wc -l") == "6"


def test_logs_are_exported(demo: HeadNode, pcluster: Pcluster, tmp_path: Path) -> None:
    archive = tmp_path / "logs.tar.gz"
    arguments = ["--cluster-name", "demo", "--bucket", demo.region.bucket, "--output-file", str(archive)]
    code, answer = pcluster.run("export-cluster-logs", *arguments)
    assert code == 0, answer
    names = subprocess.run(["tar", "tzf", str(archive)], capture_output=True, text=True, check=True).stdout
    assert "slurmctld" in names
    assert "clustermgtd" in names
    assert "cfn-events" in names


def test_a_deleted_cluster_leaves_nothing(before: set[str], demo: HeadNode, pcluster: Pcluster) -> None:
    region = demo.region
    code, answer = pcluster.delete("demo")
    assert code == 0, answer
    assert answer["cluster"]["clusterStatus"] == "DELETE_IN_PROGRESS"
    pcluster.wait_for_stack("demo", None)
    instances = [
        instance
        for reservation in region.client("ec2").describe_instances()["Reservations"]
        for instance in reservation["Instances"]
        if {"Key": "parallelcluster:cluster-name", "Value": "demo"} in instance["Tags"]
    ]
    assert {instance["State"]["Name"] for instance in instances} == {"terminated"}
    assert what_bills(region) <= before
    assert "demo" not in region.status()["clusters"]
    assert not (region.directory / "clusters/demo").exists()


@pytest.mark.parametrize(("rollback", "status"), [("true", "ROLLBACK_COMPLETE"), ("false", "CREATE_FAILED")])
def test_a_bootstrap_failure_leaves_a_stack_that_tells_why(
    faults: LocalRegion, pcluster: Pcluster, configuration: Path, rollback: str, status: str
) -> None:
    faults.fault("bootstrap", reason="Failed to run chef recipe aws-parallelcluster-slurm::config")
    assert pcluster.create("broken", configuration, "--rollback-on-failure", rollback)[0] == 0
    pcluster.wait_for_stack("broken", status)
    description = pcluster.describe("broken")
    assert description["clusterStatus"] == "CREATE_FAILED"
    assert description["failures"][0]["failureCode"] == "HeadNodeBootstrapFailure"
    events = faults.client("cloudformation").describe_stack_events(StackName="broken")["StackEvents"]
    reasons = [event["ResourceStatusReason"] for event in events if event["ResourceStatus"] == "CREATE_FAILED"]
    assert any("Failed to run chef recipe" in reason for reason in reasons)
    assert ("headNode" in description) == (rollback == "false")
    assert pcluster.delete("broken")[0] == 0
    pcluster.wait_for_stack("broken", None)


def test_events_appear_over_time_and_a_cluster_can_be_deleted_while_it_is_created(
    faults: LocalRegion, pcluster: Pcluster, configuration: Path
) -> None:
    faults.fault("delays", create=120.0, delete=4.0)
    assert pcluster.create("slow", configuration)[0] == 0
    cloudformation = faults.client("cloudformation")

    def statuses() -> dict[str, str]:
        events = cloudformation.describe_stack_events(StackName="slow")["StackEvents"]
        return {event["LogicalResourceId"]: event["ResourceStatus"] for event in reversed(events)}

    waiting = until(lambda: {k: v for k, v in statuses().items() if re.match(r"HeadNodeWaitCondition\d", k)})
    assert list(waiting.values()) == ["CREATE_IN_PROGRESS"]
    assert statuses()["HeadNode"] == "CREATE_COMPLETE"
    assert "HeadNodeAlarm" not in statuses(), "the alarm depends on the wait condition"
    stack = cloudformation.describe_stacks(StackName="slow")["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_IN_PROGRESS"
    assert not stack.get("Outputs")
    assert pcluster.delete("slow")[0] == 0
    assert pcluster.stack_status("slow") == "DELETE_IN_PROGRESS"
    pcluster.wait_for_stack("slow", None)
    assert "slow" not in faults.status()["clusters"]
