"""Step 13's proof: look for everything that bears the cluster's name or tag and can cost money.

Each kind of thing is asked for by itself; an answer that was refused is an error, never an empty list. Log groups
stay on purpose, for they tell what happened, and are listed as kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpc.aws_errors import aws_errors, error_code
from hpc.cluster.log_groups import find_log_groups
from hpc.cluster.stacks import describe_stack

TAG = "parallelcluster:cluster-name"
#: Function from a service's name to its boto3 client.
Clients = Callable[[str], Any]


@dataclass(frozen=True)
class Leftover:
    """One thing that is still there."""

    kind: str
    id: str
    state: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.id}" + (f" ({self.state})" if self.state else "")


def find_leftovers(cluster_name: str, clients: Clients) -> list[Leftover]:
    """Return what is left of a cluster. Raises what AWS raises: what could not be asked is not known to be gone."""
    with aws_errors():
        return [leftover for look in LOOKS for leftover in look(cluster_name, clients)]


def find_kept(cluster_name: str, clients: Clients) -> list[str]:
    """Return the log groups, which are retained on purpose for as many days as the template says."""
    with aws_errors():
        return find_log_groups(clients("logs"), cluster_name)


def _tagged(cluster_name: str) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{TAG}", "Values": [cluster_name]}]


def _pages(client: Any, operation: str, key: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]


def _stacks(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    cloudformation = clients("cloudformation")
    own = describe_stack(cloudformation, cluster_name)
    if own is not None and own.status != "DELETE_COMPLETE":
        yield Leftover("CloudFormation stack", own.name, own.status)
    for stack in _pages(cloudformation, "describe_stacks", "Stacks"):
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
        if tags.get(TAG) == cluster_name and stack["StackName"] != cluster_name:
            yield Leftover("CloudFormation stack", stack["StackName"], stack["StackStatus"])


def _instances(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    for reservation in _pages(clients("ec2"), "describe_instances", "Reservations", Filters=_tagged(cluster_name)):
        for instance in reservation["Instances"]:
            if instance["State"]["Name"] != "terminated":
                yield Leftover("EC2 instance", instance["InstanceId"], instance["State"]["Name"])


def _by_tag(kind: str, operation: str, key: str, id_key: str, state_key: str = "") -> Any:
    """Return the look for one kind of EC2's things, all of which can be filtered by tag."""

    def look(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
        for thing in _pages(clients("ec2"), operation, key, Filters=_tagged(cluster_name)):
            yield Leftover(kind, thing[id_key], str(thing.get(state_key, "")))

    return look


def _addresses(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    for address in clients("ec2").describe_addresses(Filters=_tagged(cluster_name))["Addresses"]:
        yield Leftover("Elastic IP address", address["AllocationId"], address.get("PublicIp", ""))


def _placement_groups(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    for group in clients("ec2").describe_placement_groups(Filters=_tagged(cluster_name))["PlacementGroups"]:
        if group.get("State") != "deleted":
            yield Leftover("placement group", group["GroupName"], group.get("State", ""))


def _file_systems(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    for system in _pages(clients("fsx"), "describe_file_systems", "FileSystems"):
        if _has_tag(system, cluster_name):
            yield Leftover("FSx file system", system["FileSystemId"], system.get("Lifecycle", ""))
    for system in _pages(clients("efs"), "describe_file_systems", "FileSystems"):
        if _has_tag(system, cluster_name):
            yield Leftover("EFS file system", system["FileSystemId"], system.get("LifeCycleState", ""))


def _has_tag(thing: Mapping[str, Any], cluster_name: str) -> bool:
    return any(tag["Key"] == TAG and tag["Value"] == cluster_name for tag in thing.get("Tags", []))


def _hosted_zones(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    zone_name = f"{cluster_name.lower()}.pcluster."
    answer = clients("route53").list_hosted_zones_by_name(DNSName=zone_name)
    for zone in answer["HostedZones"]:
        if zone["Name"] == zone_name:
            yield Leftover("Route 53 zone", zone["Id"].rpartition("/")[2], zone["Name"])


def _tables(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    from botocore.exceptions import ClientError

    dynamodb = clients("dynamodb")
    for name in (f"parallelcluster-{cluster_name}", f"parallelcluster-slurm-{cluster_name}"):
        try:
            table = dynamodb.describe_table(TableName=name)["Table"]
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
        else:
            yield Leftover("DynamoDB table", name, table.get("TableStatus", ""))


def _alarms_and_dashboards(cluster_name: str, clients: Clients) -> Iterator[Leftover]:
    cloudwatch = clients("cloudwatch")
    for prefix in (f"{cluster_name}-HeadNode", f"{cluster_name}-ClustermgtdHeartbeat"):
        kinds = ["CompositeAlarm", "MetricAlarm"]
        for page in cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=prefix, AlarmTypes=kinds):
            for alarm in [*page.get("CompositeAlarms", []), *page.get("MetricAlarms", [])]:
                yield Leftover("CloudWatch alarm", alarm["AlarmName"], alarm.get("StateValue", ""))
    own = f"{cluster_name}-{cloudwatch.meta.region_name}"
    for dashboard in _pages(cloudwatch, "list_dashboards", "DashboardEntries", DashboardNamePrefix=own):
        if dashboard["DashboardName"] == own:
            yield Leftover("CloudWatch dashboard", own)


#: Everything that is looked for.
LOOKS: tuple[Callable[[str, Clients], Iterator[Leftover]], ...] = (
    _stacks,
    _instances,
    _by_tag("EBS volume", "describe_volumes", "Volumes", "VolumeId", "State"),
    _by_tag("network interface", "describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId", "Status"),
    _by_tag("security group", "describe_security_groups", "SecurityGroups", "GroupId", "GroupName"),
    _by_tag(
        "launch template", "describe_launch_templates", "LaunchTemplates", "LaunchTemplateId", "LaunchTemplateName"
    ),
    _addresses,
    _placement_groups,
    _file_systems,
    _hosted_zones,
    _tables,
    _alarms_and_dashboards,
)
