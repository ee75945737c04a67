"""The real pcluster, the local region: a cluster from nothing to nothing, and what goes wrong on the way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from hpc import errors
from hpc.cluster.delete_operator import ParallelClusterDeleteOperator, Proof
from hpc.cluster.fleet import start_compute_fleet
from hpc.cluster.install import HOME_VARIABLE, Environment
from hpc.cluster.leftovers import find_leftovers
from hpc.cluster.operators import (
    ParallelClusterCreateOperator,
    ParallelClusterInstallOperator,
    ParallelClusterVerifyOperator,
    RenderClusterConfigOperator,
)
from hpc.cluster.sensors import ParallelClusterSensor
from hpc.cluster.verification import require_fleet
from hpc.config import CLUSTERS_DIR
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import Session, run_session
from hpc.names import TAG_AIRFLOW, TAG_ALTERNATIVE, TAG_EXPIRES, TAG_OWNER, TAG_RUN_ID, TAG_SIMULATION
from tests.local_aws.conftest import until

from .conftest import TEMPLATE

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.region, pytest.mark.pcluster, pytest.mark.usefixtures("connections", "parallelcluster")]

Drive = Callable[[Any], Any]
Lines = Callable[[], str]
MADE_BY_THE_STACK = {
    *("CloudFormation stack", "EC2 instance", "EBS volume", "network interface", "security group", "launch template"),
    *("FSx file system", "Route 53 zone", "DynamoDB table", "CloudWatch alarm", "CloudWatch dashboard"),
}
TAGS = {
    TAG_SIMULATION: "lj_melt",
    TAG_RUN_ID: "manual__2026-11-23",
    TAG_OWNER: "materials-science",
    TAG_EXPIRES: "2026-11-24T02:00:00Z",
}
QUICK: dict[str, Any] = {"waiter_delay": 1, "waiter_max_attempts": 120}


def create(name: str, config: str, **arguments: Any) -> ParallelClusterCreateOperator:
    return ParallelClusterCreateOperator(
        task_id="create_cluster", cluster_name=name, cluster_config=config, **QUICK, **arguments
    )


def delete(name: str, **arguments: Any) -> ParallelClusterDeleteOperator:
    return ParallelClusterDeleteOperator(
        task_id="delete_cluster", cluster_name=name, **{"settle_seconds": 20, **QUICK, **arguments}
    )


def status(region: LocalRegion, name: str) -> str:
    answer: str = region.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    return answer


def tags_of_a_cluster(region: LocalRegion, name: str, file_systems: list[str]) -> dict[str, dict[str, str]]:
    """Ask AWS for the tags of what costs money, by what it is."""
    ec2 = region.client("ec2")
    stack = region.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    found = ec2.describe_instances(Filters=[{"Name": "tag:parallelcluster:cluster-name", "Values": [name]}])
    instances = [instance for reservation in found["Reservations"] for instance in reservation["Instances"]]
    attached = [{"Name": "attachment.instance-id", "Values": [instance["InstanceId"] for instance in instances]}]
    systems = region.client("fsx").describe_file_systems(FileSystemIds=file_systems)["FileSystems"]
    things = [
        ("stack", stack),
        *((f"instance {instance['PrivateIpAddress']}", instance) for instance in instances),
        *((f"volume {volume['VolumeId']}", volume) for volume in ec2.describe_volumes(Filters=attached)["Volumes"]),
        *((f"file system {system['FileSystemId']}", system) for system in systems),
    ]
    return {what: {tag["Key"]: tag["Value"] for tag in thing.get("Tags", [])} for what, thing in things}


def saved(region: LocalRegion, prefix: str) -> dict[str, str]:
    """Return the objects below a prefix of the region's bucket."""
    s3 = region.client("s3")
    listed = s3.list_objects_v2(Bucket=region.bucket, Prefix=prefix)["Contents"]
    return {
        item["Key"]: s3.get_object(Bucket=region.bucket, Key=item["Key"])["Body"].read().decode() for item in listed
    }


async def states_of_the_partitions(session: Session) -> str:
    return (await session.run("sinfo --noheader --format %a | sort -u")).stdout.strip()


async def run_a_job(session: Session) -> str:
    return (await session.run("srun --nodes=1 hostname")).stdout.strip()


def test_a_cluster_from_nothing_to_nothing(
    region: LocalRegion, site: dict[str, Any], drive: Drive, lines: Lines, context: dict[str, Any]
) -> None:
    name = "life"
    installed = drive(ParallelClusterInstallOperator(task_id="install"))
    assert installed["version"] == "3.16.1"

    render = RenderClusterConfigOperator(
        task_id="render",
        cluster_name=name,
        template=str(TEMPLATE),
        values=site,
        overrides={"nodes": 3},
        tags=TAGS,
    )
    config = drive(render)
    assert render.cluster_config == config
    assert "MaxCount: 3" in config

    created = drive(create(name, config, wait_for_completion=False))
    assert created["adopted"] is False
    again = drive(create(name, config, wait_for_completion=False))
    assert again == {**created, "adopted": True}

    reached = drive(ParallelClusterSensor(task_id="wait_for_stack", cluster_name=name, **QUICK))
    again = ParallelClusterSensor(task_id="wait_for_stack", cluster_name=name, **QUICK)
    assert again.execute(context)["stack_id"] == reached["stack_id"], "a stack that is there is not waited for"
    assert reached["stack_status"] == "CREATE_COMPLETE"
    assert reached["stack_id"] == created["stack_id"]
    assert "HeadNode  AWS::EC2::Instance  CREATE_COMPLETE" in lines()
    assert f"{name}  AWS::CloudFormation::Stack  CREATE_COMPLETE" in lines()
    assert context["ti"].xcoms["cloudformation_stack"]["stack_id"] == created["stack_id"]

    verified = drive(ParallelClusterVerifyOperator(task_id="verify_cluster", cluster_name=name))
    address = HeadNodeAddress.from_dict(verified["head_node"])
    assert address.cluster_name == name
    assert verified["partitions"] == {"compute": 3}
    assert verified["fleet"] == "RUNNING"
    assert verified["shared_dirs"]["/fsx"]["mount"] == "/fsx"
    assert len(verified["file_systems"]) == 1

    with pytest.raises(errors.ClusterError, match="/nowhere on the head node of life is not writable"):
        drive(ParallelClusterVerifyOperator(task_id="verify_cluster", cluster_name=name, shared_dir="/nowhere"))

    assert run_session(address, "hpc_head_node", run_a_job) == "compute-dy-nodes-1"
    bearing = tags_of_a_cluster(region, name, verified["file_systems"])
    assert [what.split()[0] for what in bearing] == ["stack", *2 * ["instance"], *2 * ["volume"], "file"]
    assert [what for what, tags in bearing.items() if not tags.items() >= TAGS.items()] == []

    fleet = ["--cluster-name", name, "--status", "STOP_REQUESTED"]
    ParallelClusterVerifyOperator(task_id="stop", cluster_name=name).pcluster().run("update-compute-fleet", fleet)
    with pytest.raises(errors.ClusterError, match="STOP"):
        require_fleet(region.client("dynamodb"), name)
    start_compute_fleet(name, aws_conn_id="aws_default", region_name=None)
    until(lambda: run_session(address, "hpc_head_node", states_of_the_partitions) == "up")
    assert require_fleet(region.client("dynamodb"), name) == "RUNNING"

    # The looks see a cluster that is there, so that an empty answer means something.
    assert {leftover.kind for leftover in find_leftovers(name, region.client).found} >= MADE_BY_THE_STACK

    deleted = drive(delete(name, tags={TAG_RUN_ID: "manual__2026-11-23"}))
    assert deleted["stack"] == "gone"
    assert deleted["leftovers"] == []
    assert [kept.rpartition("-")[0] for kept in deleted["kept"]] == [f"/aws/parallelcluster/{name}"]
    assert "HeadNode  AWS::EC2::Instance  DELETE_COMPLETE" in lines()

    assert drive(delete(name))["leftovers"] == []


@pytest.mark.parametrize("profile", sorted(file.stem for file in CLUSTERS_DIR.glob("*.yaml")))
def test_every_shipped_profile_passes_parallelclusters_validators(
    region: LocalRegion, site: dict[str, Any], drive: Drive, profile: str
) -> None:
    render = RenderClusterConfigOperator(
        task_id="render",
        cluster_name=profile.replace("_", "-"),
        template=str(CLUSTERS_DIR / f"{profile}.yaml"),
        values={**site, "bucket": region.bucket, "nodes": 2, "partition": "compute"},
        tags=TAGS,
    )
    assert "MaxCount: 2" in drive(render)


def test_a_failed_bootstrap_is_diagnosed_then_replaced_by_the_next_try(
    faultless: LocalRegion, config: str, drive: Drive, lines: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    name = "second-try"
    faultless.fault("bootstrap", reason="Failed to run chef recipe aws-parallelcluster-slurm::config_head_node")

    with pytest.raises(errors.HeadNodeBootstrapError) as caught:
        drive(
            create(
                *(name, config),
                alternatives=[config],
                evidence_uri=f"s3://{faultless.bucket}/failed-creates/{name}",
                rollback_on_failure=False,
            )
        )

    assert status(faultless, name) == "CREATE_FAILED"
    message = str(caught.value)
    assert "(AWS::CloudFormation::WaitCondition): CREATE_FAILED" in message
    assert "Failed to run chef recipe aws-parallelcluster-slurm::config_head_node" in message
    assert "ParallelCluster says: HeadNodeBootstrapFailure: Failed to set up the head node." in message
    assert "What to do: read the bootstrap log" in message
    kept = saved(faultless, f"failed-creates/{name}/")
    (folder,) = {key.rpartition("/")[0] for key in kept}
    assert f"All that explains the failure is in s3://{faultless.bucket}/{folder}/" in caplog.text
    assert kept[f"{folder}/explanation.txt"] == f"{message}\n"
    assert yaml.safe_load(kept[f"{folder}/cluster-config.yaml"]) == yaml.safe_load(config)
    told = json.loads(kept[f"{folder}/explanation.json"])
    assert (told["cluster_name"], told["error"]) == (name, "HeadNodeBootstrapError")
    assert [event["type"] for event in told["failed_resources"]] == ["AWS::CloudFormation::WaitCondition"]
    assert told["parallelcluster"] == ["HeadNodeBootstrapFailure: Failed to set up the head node."]
    assert "HeadNode" in {event["logical_id"] for event in told["stack_events"]}
    (log,) = (key for key in kept if key.endswith(".cloud-init.log"))
    assert kept[log].splitlines()[-1] in message

    faultless.fault("clear")
    result = drive(create(name, config, rollback_on_failure=False))

    assert result["adopted"] is False
    assert f"Stack {name} of an earlier try is CREATE_FAILED: deleted first." in lines()
    assert status(faultless, name) == "CREATE_COMPLETE"
    assert drive(delete(name))["leftovers"] == []


def test_without_capacity_the_next_alternative_is_made(
    faultless: LocalRegion, site: dict[str, Any], drive: Drive, lines: Lines, context: dict[str, Any], tmp_path: Path
) -> None:
    name = "elsewhere"
    template = tmp_path / "cluster.yaml"
    # A log group bears the minute in which it was made: without one the second try need not wait for the next.
    template.write_text(TEMPLATE.read_text(encoding="utf-8").replace("RetentionInDays: 14", "Enabled: false"))
    render = RenderClusterConfigOperator(
        task_id="render",
        cluster_name=name,
        template=str(template),
        values=site,
        overrides={"head_node_instance_type": "t3.large"},
        alternatives=[{"head_node_instance_type": "t3.medium"}],
        tags=TAGS,
    )
    config = drive(render)
    alternatives = context["ti"].xcoms["alternatives"]
    tried = {"alternatives": json.dumps(alternatives), "evidence_uri": f"s3://{faultless.bucket}/failed-creates/{name}"}
    faultless.fault("capacity", target="t3.large", code="InsufficientInstanceCapacity")

    begun = drive(create(name, config, wait_for_completion=False, **tried))
    made = drive(create(name, config, adopt_only=True, **tried))

    assert (begun["alternative"], made["alternative"]) == (0, 1)
    assert made["stack_id"] != begun["stack_id"]
    stack = faultless.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert {tag["Key"]: tag["Value"] for tag in stack["Tags"]}[TAG_ALTERNATIVE] == "1"
    (head_node,) = faultless.client("ec2").describe_instances(
        Filters=[
            {"Name": "tag:parallelcluster:cluster-name", "Values": [name]},
            {"Name": "instance-state-name", "Values": ["running"]},
        ]
    )["Reservations"][0]["Instances"]
    assert head_node["InstanceType"] == "t3.medium"
    assert "We currently do not have sufficient t3.large capacity" in lines()
    assert "Trying again with alternative 1 of 1." in lines()
    told = saved(faultless, f"failed-creates/{name}/{begun['stack_id'].rpartition('/')[2]}/")
    assert {key.rpartition("/")[2] for key in told} == {"explanation.txt", "explanation.json", "cluster-config.yaml"}
    assert drive(delete(name, tags=TAGS))["leftovers"] == []


def test_a_cluster_that_somebody_deletes_is_not_made_again(faultless: LocalRegion, config: str, drive: Drive) -> None:
    name = "not-again"
    faultless.fault("delays", create=300, delete=5)
    begun = drive(create(name, config, wait_for_completion=False))
    faultless.client("cloudformation").delete_stack(StackName=name)

    with pytest.raises(errors.ClusterCreateFailedError, match="stack is DELETE_"):
        drive(create(name, config, alternatives=[config], adopt_only=True))

    assert begun["alternative"] == 0
    assert drive(delete(name))["leftovers"] == []


def test_a_rollback_is_diagnosed_and_its_stack_deleted(faultless: LocalRegion, config: str, drive: Drive) -> None:
    name = "rolled-back"
    faultless.fault("bootstrap", reason="Failed to mount FSX")

    with pytest.raises(errors.HeadNodeBootstrapError, match=r"Failed to mount FSX"):
        drive(create(name, config, rollback_on_failure=True))

    with pytest.raises(errors.HeadNodeBootstrapError):  # it had failed before the wait for it began
        drive(create(name, config, alternatives=[config], adopt_only=True))
    assert status(faultless, name).startswith("ROLLBACK_")
    assert drive(delete(name))["leftovers"] == []


def test_a_cluster_that_is_not_made_in_time_is_deleted(faultless: LocalRegion, config: str, drive: Drive) -> None:
    name = "half-made"
    faultless.fault("delays", create=300, delete=None)

    with pytest.raises(errors.DeadlineExceededError, match=r"longer than it may; the stack is CREATE_IN_PROGRESS"):
        drive(
            ParallelClusterCreateOperator(
                task_id="create", cluster_name=name, cluster_config=config, waiter_delay=1, waiter_max_attempts=2
            )
        )

    assert status(faultless, name) == "CREATE_IN_PROGRESS"
    assert drive(delete(name))["leftovers"] == []


TOPIC: dict[str, Any] = {"Topic": {"Type": "AWS::SNS::Topic"}}
NO_SUBNET: dict[str, Any] = {
    "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": "vpc-0", "CidrBlock": "10.9.0.0/24"}}
}


def make_stack(region: LocalRegion, name: str, tags: dict[str, str], resources: dict[str, Any] = TOPIC) -> str:
    """Make a stack that is no cluster, and wait for its end; return its id."""
    cloudformation = region.client("cloudformation")
    stack_id: str = cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps({"Resources": resources}),
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )["StackId"]
    until(lambda: not status(region, name).endswith("IN_PROGRESS"), seconds=30)
    return stack_id


def test_past_the_deadline_a_cluster_is_adopted_and_none_is_created_or_replaced(
    region: LocalRegion, config: str, drive: Drive
) -> None:
    late: dict[str, Any] = {"until": "2020-01-01T00:00:00Z", "wait_for_completion": False}
    made = make_stack(region, "in-time", TAGS)
    assert drive(create("in-time", config, **late))["stack_id"] == made

    make_stack(region, "failed-late", TAGS, NO_SUBNET)
    for name in ("failed-late", "too-late"):
        with pytest.raises(errors.DeadlineExceededError, match=f"cluster {name} is not created any more"):
            drive(create(name, config, **late))

    assert status(region, "failed-late") == "ROLLBACK_COMPLETE"
    with pytest.raises(region.client("cloudformation").exceptions.ClientError, match="too-late does not exist"):
        status(region, "too-late")
    for name in ("in-time", "failed-late"):
        region.client("cloudformation").delete_stack(StackName=name)


def test_whoever_clears_a_whole_run_goes_on_with_the_cluster_that_is_there(
    region: LocalRegion, site: dict[str, Any], drive: Drive, lines: Lines
) -> None:
    """ParallelCluster's dry run refuses a name that is in use, whoever uses it."""

    def render(**tags: str) -> RenderClusterConfigOperator:
        return RenderClusterConfigOperator(
            task_id="render", cluster_name="cleared", template=str(TEMPLATE), values=site, tags={**TAGS, **tags}
        )

    make_stack(region, "cleared", {**TAGS, TAG_AIRFLOW: "https://airflow.example.org"})
    assert "Scheduler: slurm" in drive(render(**{TAG_AIRFLOW: "https://airflow.example.org"}))
    assert "The cluster is there already, CREATE_COMPLETE." in lines()
    with pytest.raises(errors.ConfigurationError, match=r"cleared belongs to another cluster(.|\n)*leave that cluster"):
        drive(render(**{TAG_AIRFLOW: "https://staging.example.org"}))
    region.client("cloudformation").delete_stack(StackName="cleared")


def test_somebody_elses_cluster_is_neither_adopted_nor_deleted(region: LocalRegion, config: str, drive: Drive) -> None:
    cloudformation = region.client("cloudformation")
    template = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    cloudformation.create_stack(StackName="theirs", TemplateBody=template, Tags=[{"Key": "owner", "Value": "they"}])

    with pytest.raises(errors.ConfigurationError, match="The name theirs belongs to another cluster"):
        drive(create("theirs", config))
    with pytest.raises(errors.ConfigurationError, match="The name theirs belongs to another cluster"):
        drive(delete("theirs", tags={TAG_RUN_ID: "manual__2026-11-23"}))

    assert status(region, "theirs") == "CREATE_COMPLETE"
    cloudformation.delete_stack(StackName="theirs")


def test_the_cluster_of_another_airflow_is_not_deleted_and_the_stack_that_a_run_made_is(
    region: LocalRegion, drive: Drive, context: dict[str, Any]
) -> None:
    stack_id = make_stack(region, "same-run", {**TAGS, TAG_AIRFLOW: "https://staging.example.org"})
    tags = {**TAGS, TAG_AIRFLOW: "https://airflow.example.org"}

    with pytest.raises(errors.ConfigurationError, match=r"The name same-run belongs to another cluster .*staging"):
        drive(delete("same-run", tags=tags))
    with pytest.raises(errors.ConfigurationError, match=r"The name same-run belongs to another cluster .*staging"):
        # It has come while this run looks for what its own creation may have left.
        delete("same-run", tags=tags)._prove(cast("Any", context), Proof(time.time(), gone=time.time()))
    with pytest.raises(errors.ConfigurationError, match="run-id is 'manual__2026-11-23', not 'another'"):
        drive(delete("same-run", tags={**tags, TAG_RUN_ID: "another"}, stack_id=stack_id))

    assert status(region, "same-run") == "CREATE_COMPLETE"
    assert drive(delete("same-run", tags=tags, stack_id=stack_id))["stack"] == "gone"


def test_a_missing_stack_is_an_error_of_the_wait(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc.cluster.triggers.SECONDS_UNTIL_MISSING", 0)

    with pytest.raises(errors.ClusterError, match="There is no stack nosuch in this region"):
        drive(ParallelClusterSensor(task_id="wait_for_stack", cluster_name="nosuch", **QUICK))


def test_without_pcluster_a_cluster_is_deleted_all_the_same(
    config: str,
    drive: Drive,
    lines: Lines,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
    parallelcluster: Environment,
) -> None:
    name = "no-command"
    drive(create(name, config, wait_for_completion=False))
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))

    with pytest.raises(errors.ConfigurationError, match="is not installed in"):
        drive(create("never", config))
    assert drive(delete(name, deferrable=False))["leftovers"] == []
    assert "its stack is deleted directly" in lines()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"instance_type": "c5.tiny"}, r"do not exist: \[c5\.tiny\]"),
        ({"nodes": "many"}, r"Scheduling\.SlurmQueues\.0\.ComputeResources\.0\.MaxCount: Not a valid integer"),
        ({"key_name": "nosuch"}, r"ERROR KeyPairValidator: "),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_exists(
    region: LocalRegion, site: dict[str, Any], drive: Drive, overrides: dict[str, Any], words: str
) -> None:
    render = RenderClusterConfigOperator(
        task_id="render", cluster_name="wrong", template=str(TEMPLATE), values=site, overrides=overrides
    )

    with pytest.raises(errors.ConfigurationError, match=words):
        drive(render)


def test_a_template_that_is_not_there_is_a_wrong_configuration(drive: Drive) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"nosuch\.yaml cannot be read"):
        drive(RenderClusterConfigOperator(task_id="render", cluster_name="wrong", template="nosuch.yaml"))


PLACEMENT = "The placement group is in use and may not be deleted. (Error Code: InvalidPlacementGroup.InUse)"


def test_a_deletion_that_fails_is_tried_again_then_done_without_what_refuses(
    faultless: LocalRegion, config: str, drive: Drive, lines: Lines
) -> None:
    name = "stubborn"
    drive(create(name, config))
    faultless.fault("deletion", target="AWS::EC2::LaunchTemplate", reason=PLACEMENT, times=1)
    faultless.fault("deletion", target="AWS::EC2::SecurityGroup", reason="Cannot delete entity.", times=None)

    deleted = drive(delete(name))

    assert "(AWS::EC2::LaunchTemplate) is still in use" in lines()
    assert "(AWS::EC2::SecurityGroup) refuses, so the stack is deleted without it" in lines()
    assert deleted["leftovers"] == []
    assert {thing.split(" sg-")[0] for thing in deleted["removed"]} == {"security group"}


def test_a_head_node_that_outlives_its_stack_is_terminated_and_a_file_system_reported(
    faultless: LocalRegion, config: str, drive: Drive
) -> None:
    name = "outlived"
    drive(create(name, config))
    faultless.fault("deletion", target="AWS::EC2::Instance", reason="", times=None)
    faultless.fault("deletion", target="AWS::FSx::FileSystem", reason="", times=None)

    with pytest.raises(
        errors.LeftoversError, match=r"for about \$0\.23 an hour.*:\n  FSx file system fs-\w+ \("
    ) as caught:
        drive(delete(name, settle_seconds=3))

    assert "EC2 instance" not in str(caught.value)
    faultless.fault("clear")
    for system in faultless.client("fsx").describe_file_systems()["FileSystems"]:
        faultless.client("fsx").delete_file_system(FileSystemId=system["FileSystemId"])
    assert drive(delete(name))["leftovers"] == []


def test_a_file_system_that_refuses_keeps_its_stack_and_is_named_with_its_price(
    faultless: LocalRegion, config: str, drive: Drive
) -> None:
    name = "refused"
    drive(create(name, config))
    faultless.fault("deletion", target="AWS::FSx::FileSystem", reason="The file system refuses.", times=None)

    with pytest.raises(errors.ClusterDeleteFailedError) as caught:
        drive(delete(name))

    assert "(AWS::FSx::FileSystem): DELETE_FAILED: The file system refuses." in str(caught.value)
    assert "an hour" in str(caught.value)
    assert status(faultless, name) == "DELETE_FAILED"
    faultless.fault("clear")
    assert drive(delete(name))["leftovers"] == []
