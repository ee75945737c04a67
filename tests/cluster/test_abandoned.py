"""Which clusters nobody looks after: judged by their tags and their run, found in the region itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from hpc.cluster.abandoned import Run, Sighting, find_ours, judge, judge_shared, state_of, state_of_lease
from hpc.cluster.leftovers import find_leftovers
from hpc.cluster.pool import Lease
from hpc.errors import PermissionDeniedError
from hpc.names import (
    TAG_AIRFLOW,
    TAG_EXPIRES,
    TAG_KEEP,
    TAG_POOL,
    TAG_RUN_ID,
    TAG_SIMULATION,
    TAG_SSH,
    cluster_name,
    encode_tag,
)

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
PAST, FUTURE = "2026-11-27T11:59:59Z", "2026-11-27T12:00:01Z"
AIRFLOW = "https://airflow.example.org"
NAME = cluster_name("melt", "manual__1")
TAGS = {TAG_SIMULATION: "melt", TAG_RUN_ID: "manual__1", TAG_AIRFLOW: AIRFLOW, TAG_EXPIRES: FUTURE}


def sighting(**tags: str) -> Sighting:
    return Sighting(NAME, "CREATE_COMPLETE", {**TAGS, **tags})


@pytest.mark.parametrize("run", Run)
def test_an_expired_cluster_is_abandoned_whatever_its_run_does(run: Run) -> None:
    verdict = judge(sighting(**{TAG_EXPIRES: PAST}), run, NOW)
    assert verdict.abandoned
    assert PAST in verdict.why


@pytest.mark.parametrize("run", Run)
def test_what_is_marked_is_kept(run: Run) -> None:
    verdict = judge(sighting(**{TAG_EXPIRES: PAST, TAG_KEEP: ""}), run, NOW)
    assert not verdict.abandoned
    assert TAG_KEEP in verdict.why


@pytest.mark.parametrize(
    ("run", "abandoned", "why"),
    [
        (Run.ALIVE, False, "its run goes on; expires at 2026-11-27 12:00 UTC"),
        (Run.OVER, True, "its run is over"),
        (Run.MISSING, True, "its run no longer exists"),
        (Run.UNKNOWN, False, "cannot tell whether its run is over; expires at"),
    ],
)
def test_before_its_expiry_the_run_decides(run: Run, abandoned: bool, why: str) -> None:
    verdict = judge(sighting(), run, NOW)
    assert verdict.abandoned is abandoned
    assert why in verdict.why


def test_of_a_shared_cluster_its_pool_decides_and_not_its_first_run() -> None:
    shared = sighting(**{TAG_POOL: "mesh", TAG_EXPIRES: PAST})
    assert shared.pool == "mesh"
    assert sighting().pool == ""
    lease = Lease(dag_id="grid", run_id="manual__2", expires=NOW)
    verdict = judge_shared(shared, {lease: Run.UNKNOWN})
    assert (verdict.abandoned, verdict.why) == (
        False,
        "is held by run manual__2 of grid, until 2026-11-27 12:00 UTC at the latest",
    )
    assert judge_shared(shared, {}).abandoned
    assert not judge_shared(sighting(**{TAG_POOL: "mesh", TAG_KEEP: ""}), {}).abandoned


def test_a_shared_cluster_is_held_by_the_leases_of_runs_that_may_go_on_and_by_no_others() -> None:
    shared = sighting(**{TAG_POOL: "mesh"})
    over, missing, other = (Lease(dag_id="grid", run_id=f"manual__{each}", expires=NOW) for each in (1, 2, 3))
    for run in (Run.ALIVE, Run.UNKNOWN):
        verdict = judge_shared(shared, {over: Run.OVER, other: run, missing: Run.MISSING})
        assert not verdict.abandoned
        assert verdict.why.startswith("is held by run manual__3 of grid, until ")
    verdict = judge_shared(shared, {over: Run.OVER, missing: Run.MISSING})
    assert (verdict.abandoned, verdict.why) == (
        True,
        "no run of pool mesh holds it; there is a lease until 2026-11-27 12:00 UTC, but its run is over: run manual__1 "
        "of grid; there is a lease until 2026-11-27 12:00 UTC, but its run no longer exists: run manual__2 of grid",
    )


def test_a_head_node_is_reached_by_the_connection_that_the_tags_name() -> None:
    assert sighting().ssh_conn_id == "hpc_head_node"
    assert sighting(**{TAG_SSH: encode_tag("lab:head_node", otherwise="")}).ssh_conn_id == "lab:head_node"


def test_without_an_expiry_an_unknown_run_is_for_people() -> None:
    verdict = judge(sighting(**{TAG_EXPIRES: "tomorrow"}), Run.UNKNOWN, NOW)
    assert not verdict.abandoned
    assert "delete it by hand" in verdict.why


def counts(**by_state: int) -> Any:
    """What `get_dr_count` answers about a run that is in those states."""

    def count(dag_id: str, run_ids: list[str], states: list[str] | None = None) -> int:
        assert (dag_id, run_ids) == ("melt", ["manual__1"])
        return sum(number for state, number in by_state.items() if states is None or state in states)

    return count


@pytest.mark.parametrize(
    ("state", "run"),
    [("queued", Run.ALIVE), ("running", Run.ALIVE), ("success", Run.OVER), ("failed", Run.OVER), (None, Run.MISSING)],
)
def test_airflow_knows_its_own_runs(state: str | None, run: Run) -> None:
    assert state_of(sighting(), AIRFLOW, counts(**({state: 1} if state else {}))) is run


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize(
    ("state", "run"),
    [("queued", Run.ALIVE), ("running", Run.ALIVE), ("success", Run.OVER), ("failed", Run.OVER), (None, Run.MISSING)],
)
def test_airflow_knows_the_runs_of_its_leases(state: str | None, run: Run, leaving: bool) -> None:
    lease = Lease(dag_id="melt", run_id="manual__1", expires=NOW, leaving=leaving, airflow=AIRFLOW)
    assert state_of_lease(lease, AIRFLOW, counts(**({state: 1} if state else {}))) is run


@pytest.mark.parametrize(("airflow", "own"), [("https://other.example.org", AIRFLOW), ("", AIRFLOW), ("", "")])
def test_the_run_of_another_airflows_lease_and_of_an_old_one_is_unknown(airflow: str, own: str) -> None:
    lease = Lease(dag_id="melt", run_id="manual__1", expires=NOW, airflow=airflow)
    assert state_of_lease(lease, own, counts()) is Run.UNKNOWN


def test_a_run_that_begins_again_between_the_two_questions_is_alive() -> None:
    answers = iter([1, 1])  # it is there; and, cleared a moment later, it runs

    def count(dag_id: str, run_ids: list[str], states: list[str] | None = None) -> int:
        asked.append(states)
        return next(answers)

    asked: list[list[str] | None] = []
    lease = Lease(dag_id="melt", run_id="manual__1", expires=NOW, airflow=AIRFLOW)
    assert state_of_lease(lease, AIRFLOW, count) is Run.ALIVE
    assert asked == [None, ["queued", "running"]], "those that go on are counted last"


@pytest.mark.parametrize(
    ("tags", "airflow"),
    [
        ({TAG_AIRFLOW: "https://other.example.org"}, AIRFLOW),
        ({TAG_AIRFLOW: ""}, ""),
        ({TAG_RUN_ID: "manual__2"}, AIRFLOW),
        ({TAG_RUN_ID: ""}, AIRFLOW),
    ],
)
def test_another_airflows_run_and_one_that_the_tags_do_not_name_are_unknown(tags: dict[str, str], airflow: str) -> None:
    assert state_of(sighting(**tags), airflow, counts()) is Run.UNKNOWN


@pytest.fixture(scope="module")
def clients(region: Any) -> Iterator[Any]:
    """Clients of the local region, with one stack and one volume of ours, and one stack and one volume of others."""
    session = boto3.Session(
        aws_access_key_id=region.access_key_id,
        aws_secret_access_key=region.secret_access_key,
        region_name=region.region,
    )

    def client(service: str) -> Any:
        return session.client(service, endpoint_url=region.endpoint_url)

    template = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'
    ours = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    cloudformation, ec2 = client("cloudformation"), client("ec2")
    cloudformation.create_stack(StackName=NAME, TemplateBody=template, Tags=ours)
    cloudformation.create_stack(StackName="theirs", TemplateBody=template)
    volumes = [
        ec2.create_volume(
            AvailabilityZone=f"{region.region}a",
            Size=1,
            TagSpecifications=[{"ResourceType": "volume", "Tags": [*tags, {"Key": CLUSTER_TAG, "Value": name}]}],
        )["VolumeId"]
        for tags, name in ((ours, "lost"), ([], "theirs"), (ours, NAME))
    ]
    yield client
    for volume in volumes:
        ec2.delete_volume(VolumeId=volume)
    for stack in (NAME, "theirs"):
        cloudformation.delete_stack(StackName=stack)


CLUSTER_TAG = "parallelcluster:cluster-name"


def fail_on_unknown(service: str, error: Exception) -> None:
    pytest.fail(f"{service} can be read: {error}")


@pytest.mark.region
def test_stacks_of_ours_and_what_has_lost_its_stack_are_found_and_nothing_else(clients: Any) -> None:
    found = {seen.cluster_name: seen for seen in find_ours(clients, lambda *_: pytest.fail("all can be read"))}
    assert found[NAME].has_stack
    assert found[NAME].run_id == "manual__1"
    assert not found["lost"].has_stack
    assert found["lost"].simulation == "melt"
    assert found["lost"].expires == datetime(2026, 11, 27, 12, 0, 1, tzinfo=UTC)
    assert "theirs" not in found


def tags_of(name: str) -> list[dict[str, str]]:
    """The tags that CloudFormation gives to what the stack of a cluster makes."""
    return [{"Key": key, "Value": value} for key, value in {**TAGS, CLUSTER_TAG: name}.items()]


def leave_alarm(clients: Any, name: str) -> Callable[[], Any]:
    cloudwatch, alarm = clients("cloudwatch"), f"{name}-HeadNode-Health"
    cloudwatch.put_metric_alarm(
        AlarmName=alarm,
        Namespace="n",
        MetricName="m",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
        Statistic="Maximum",
        Tags=tags_of(name),
    )
    return lambda: cloudwatch.delete_alarms(AlarmNames=[alarm])


def leave_table(clients: Any, name: str) -> Callable[[], Any]:
    dynamodb, table = clients("dynamodb"), f"parallelcluster-{name}"
    dynamodb.create_table(
        TableName=table,
        KeySchema=[{"AttributeName": "Id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "Id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=tags_of(name),
    )
    return lambda: dynamodb.delete_table(TableName=table)


def leave_zone(clients: Any, name: str, region: str = "us-east-1", domain: str = "pcluster") -> Callable[[], Any]:
    route53 = clients("route53")
    zone = route53.create_hosted_zone(
        Name=f"{name}.{domain}.",
        CallerReference=name,
        HostedZoneConfig={"PrivateZone": True},  # AWS knows that by the VPC
        VPC={"VPCId": "vpc-0", "VPCRegion": region},
    )["HostedZone"]["Id"].rpartition("/")[2]
    route53.change_tags_for_resource(ResourceType="hostedzone", ResourceId=zone, AddTags=tags_of(name))
    return lambda: route53.delete_hosted_zone(Id=zone)


@pytest.mark.region
@pytest.mark.parametrize("leave", [leave_alarm, leave_table, leave_zone])
def test_what_outlived_its_stack_elsewhere_than_in_ec2_is_found_and_costs_what_it_costs(
    clients: Any, leave: Callable[..., Callable[[], Any]]
) -> None:
    name = f"outlived-{leave.__name__.removeprefix('leave_')}"
    remove = leave(clients, name)
    try:
        (found,) = (each for each in find_ours(clients, fail_on_unknown) if each.cluster_name == name)
        assert (found.has_stack, found.run_id) == (False, "manual__1")
        assert len(find_leftovers(name, clients).found) == 1
    finally:
        remove()
    assert name not in {each.cluster_name for each in find_ours(clients, fail_on_unknown)}


@pytest.mark.region
def test_the_zone_of_a_cluster_in_another_region_and_log_groups_that_stay_are_no_leftovers(clients: Any) -> None:
    elsewhere = leave_zone(clients, "elsewhere", "eu-west-1")
    of_people = leave_zone(clients, "of-people", domain="example.org")
    logs, group = clients("logs"), "/aws/parallelcluster/logged-202611230100"
    logs.create_log_group(logGroupName=group, tags={tag["Key"]: tag["Value"] for tag in tags_of("logged")})
    found = {each.cluster_name for each in find_ours(clients, fail_on_unknown)}
    for remove in (elsewhere, of_people, lambda: logs.delete_log_group(logGroupName=group)):
        remove()
    assert not {"elsewhere", "of-people", "logged"} & found


@pytest.mark.region
def test_a_zone_that_goes_while_it_is_looked_at_hinders_nothing(clients: Any) -> None:
    class Losing:
        def __init__(self, client: Any) -> None:
            self.client = client

        def __getattr__(self, name: str) -> Any:
            if name == "list_tags_for_resource" and removers:
                removers.pop()()
            return getattr(self.client, name)

    removers = [leave_zone(clients, "going")]
    losing = Losing(clients("route53"))
    found = find_ours(lambda service: losing if service == "route53" else clients(service), fail_on_unknown)
    assert removers == []
    assert "going" not in {each.cluster_name for each in found}


@pytest.mark.region
def test_a_service_that_tells_nothing_hides_nothing_of_the_others(clients: Any) -> None:
    def partly(service: str) -> Any:
        if service == "fsx":
            raise PermissionDeniedError("not allowed to perform fsx:DescribeFileSystems")
        return clients(service)

    unknown = list[str]()
    found = {seen.cluster_name for seen in find_ours(partly, lambda service, error: unknown.append(service))}
    assert {NAME, "lost"} <= found
    assert unknown == ["fsx"]
