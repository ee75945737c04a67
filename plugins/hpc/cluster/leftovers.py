"""Step 13's proof: look for everything that is a cluster's by tag, name or id and is still there.

Each kind of thing is asked for by itself. A question that was refused or got lost leaves its kind *unknown*, which is
not "gone", and does not keep the others from being asked. Log groups stay on purpose, for they tell what happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpc.aws_errors import aws_errors, error_code, from_botocore
from hpc.cluster.log_groups import find_log_groups
from hpc.cluster.stacks import describe_stack
from hpc.cost import prices
from hpc.errors import HpcError

TAG = "parallelcluster:cluster-name"
#: Function from a service's name to its boto3 client.
Clients = Callable[[str], Any]
#: The physical ids of what a stack made, by the type that CloudFormation gives it.
Made = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Leftover:
    """One thing that is still there. `monthly` is its list price in US dollars; None if that is not known."""

    kind: str
    id: str
    state: str = ""
    monthly: float | None = 0.0

    @property
    def bills(self) -> bool:
        """Whether it costs money, or may."""
        return self.monthly is None or self.monthly > 0

    def __str__(self) -> str:
        price = "price unknown" if self.monthly is None else f"${self.monthly:,.2f} a month" if self.monthly else ""
        notes = ", ".join(note for note in (self.state, price) if note)
        return f"{self.kind} {self.id}" + (f" ({notes})" if notes else "")


@dataclass(frozen=True)
class Findings:
    """What a look for leftovers has found, and the questions that had no answer, each with the reason."""

    found: tuple[Leftover, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def is_proof(self) -> bool:
        """Whether nothing is left, and everything was asked."""
        return not self.found and not self.unknown

    @property
    def billing(self) -> list[Leftover]:
        """What costs money."""
        return [leftover for leftover in self.found if leftover.bills]

    @property
    def cost(self) -> str:
        """What it costs, in words."""
        return prices.total([leftover.monthly for leftover in self.billing])


@dataclass(frozen=True)
class Wanted:
    """Whose things are looked for: a cluster's by its name, and what its stack made by its ids."""

    cluster_name: str
    clients: Clients
    made: Made

    def questions(self, resource_type: str, id_filter: str) -> Iterator[list[dict[str, Any]]]:
        """Return EC2's filters: by the cluster's tag, and by the ids, for a thing may have lost its tags."""
        yield [{"Name": f"tag:{TAG}", "Values": [self.cluster_name]}]
        ids = list(self.made.get(resource_type, ()))
        for start in range(0, len(ids), _FILTER_VALUES):
            yield [{"Name": id_filter, "Values": ids[start : start + _FILTER_VALUES]}]

    def has(self, resource_type: str, identifier: str, tags: Sequence[Mapping[str, str]]) -> bool:
        """Say whether something is the cluster's, by tag or id."""
        tagged = any(tag["Key"] == TAG and tag["Value"] == self.cluster_name for tag in tags)
        return tagged or identifier in self.made.get(resource_type, ())


#: EC2 takes 200 values a filter.
_FILTER_VALUES = 200


def find_leftovers(cluster_name: str, clients: Clients, made: Made | None = None) -> Findings:
    """Return what is left of a cluster. `made` is what `list_made` returned while its stack was there."""
    wanted = Wanted(cluster_name, clients, made or {})
    found: dict[tuple[str, str], Leftover] = {}
    unknown: list[str] = []
    for what, look in LOOKS.items():
        try:
            for leftover in look(wanted):
                found.setdefault((leftover.kind, leftover.id), leftover)
        except Exception as error:
            unknown.append(f"{what}: {_why(error)}")
    return Findings(tuple(found.values()), tuple(unknown))


def _why(error: Exception) -> str:
    """Return a refusal in one line, with what is to be done about it. Raises what is no answer of AWS but a fault."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError | BotoCoreError):
        error = from_botocore(error)
    if not isinstance(error, HpcError):
        raise error
    return " ".join(str(error).split())


def find_kept(cluster_name: str, clients: Clients) -> list[str]:
    """Return the log groups, which are retained on purpose for as many days as the template says."""
    with aws_errors():
        return find_log_groups(clients("logs"), cluster_name)


def list_made(stack: str, clients: Clients) -> dict[str, list[str]]:
    """Return the ids of all that a stack and those nested in it have made, by type. Raises what AWS raises."""
    made: dict[str, list[str]] = {}
    waiting, cloudformation = [stack], clients("cloudformation")
    with aws_errors():
        while waiting:
            summaries = _pages(
                cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=waiting.pop()
            )
            for resource in summaries:
                kind, identifier = resource["ResourceType"], resource.get("PhysicalResourceId")
                if kind == "AWS::CloudFormation::Stack" and identifier:
                    waiting.append(identifier)
                elif kind in LOOKED_FOR_BY_ID and identifier:
                    made.setdefault(kind, []).append(identifier)
    return made


def _pages(client: Any, operation: str, key: str, **arguments: Any) -> Iterator[Mapping[str, Any]]:
    for page in client.get_paginator(operation).paginate(**arguments):
        yield from page[key]


# ------------------------------------------------------------------------------------------------ a look for each kind
def _stacks(wanted: Wanted) -> Iterator[Leftover]:
    cloudformation, name = wanted.clients("cloudformation"), wanted.cluster_name
    own = describe_stack(cloudformation, name)
    if own is not None and own.status != "DELETE_COMPLETE":
        yield Leftover("CloudFormation stack", own.name, own.status, None)
    for stack in _pages(cloudformation, "describe_stacks", "Stacks"):
        tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", [])}
        if tags.get(TAG) == name and stack["StackName"] != name:
            yield Leftover("CloudFormation stack", stack["StackName"], stack["StackStatus"], None)


def _instances(wanted: Wanted) -> Iterator[Leftover]:
    ec2 = wanted.clients("ec2")
    for filters in wanted.questions("AWS::EC2::Instance", "instance-id"):
        for reservation in _pages(ec2, "describe_instances", "Reservations", Filters=filters):
            for instance in reservation["Instances"]:
                state = instance["State"]["Name"]
                if state != "terminated":
                    price = prices.instance(instance["InstanceType"]) if state in ("pending", "running") else 0.0
                    yield Leftover("EC2 instance", instance["InstanceId"], state, price)


def _volumes(wanted: Wanted) -> Iterator[Leftover]:
    for filters in wanted.questions("AWS::EC2::Volume", "volume-id"):
        for volume in _pages(wanted.clients("ec2"), "describe_volumes", "Volumes", Filters=filters):
            price = prices.volume(volume.get("VolumeType", ""), volume.get("Size", 0))
            yield Leftover("EBS volume", volume["VolumeId"], volume["State"], price)


def _interfaces(wanted: Wanted) -> Iterator[Leftover]:
    operation, key = "describe_network_interfaces", "NetworkInterfaces"
    for filters in wanted.questions("AWS::EC2::NetworkInterface", "network-interface-id"):
        for interface in _pages(wanted.clients("ec2"), operation, key, Filters=filters):
            yield Leftover("network interface", interface["NetworkInterfaceId"], interface["Status"])


def _security_groups(wanted: Wanted) -> Iterator[Leftover]:
    for filters in wanted.questions("AWS::EC2::SecurityGroup", "group-id"):
        for group in _pages(wanted.clients("ec2"), "describe_security_groups", "SecurityGroups", Filters=filters):
            yield Leftover("security group", group["GroupId"], group["GroupName"])


def _launch_templates(wanted: Wanted) -> Iterator[Leftover]:
    for filters in wanted.questions("", ""):
        for template in _pages(wanted.clients("ec2"), "describe_launch_templates", "LaunchTemplates", Filters=filters):
            yield Leftover("launch template", template["LaunchTemplateId"], template["LaunchTemplateName"])


def _addresses(wanted: Wanted) -> Iterator[Leftover]:
    for filters in wanted.questions("AWS::EC2::EIP", "public-ip"):
        for address in wanted.clients("ec2").describe_addresses(Filters=filters)["Addresses"]:
            state = address.get("PublicIp", "")
            yield Leftover("Elastic IP address", address["AllocationId"], state, prices.PUBLIC_ADDRESS)


def _placement_groups(wanted: Wanted) -> Iterator[Leftover]:
    for filters in wanted.questions("AWS::EC2::PlacementGroup", "group-name"):
        for group in wanted.clients("ec2").describe_placement_groups(Filters=filters)["PlacementGroups"]:
            if group.get("State") != "deleted":
                yield Leftover("placement group", group["GroupName"], group.get("State", ""))


def _lustre(wanted: Wanted) -> Iterator[Leftover]:
    for system in _pages(wanted.clients("fsx"), "describe_file_systems", "FileSystems"):
        if wanted.has("AWS::FSx::FileSystem", system["FileSystemId"], system.get("Tags", [])):
            settings = system.get("LustreConfiguration", {})
            price = prices.lustre(
                settings.get("DeploymentType", "SCRATCH_1"),
                settings.get("PerUnitStorageThroughput", 0),
                system.get("StorageCapacity", 0),
            )
            yield Leftover("FSx file system", system["FileSystemId"], system.get("Lifecycle", ""), price)


def _efs(wanted: Wanted) -> Iterator[Leftover]:
    for system in _pages(wanted.clients("efs"), "describe_file_systems", "FileSystems"):
        if wanted.has("AWS::EFS::FileSystem", system["FileSystemId"], system.get("Tags", [])):
            gib = system.get("SizeInBytes", {}).get("Value", 0) / 2**30
            # An empty one is free today, but it is there to be written to.
            price = max(prices.EFS_PER_GIB * gib, 0.01)
            yield Leftover("EFS file system", system["FileSystemId"], system.get("LifeCycleState", ""), price)


def _hosted_zones(wanted: Wanted) -> Iterator[Leftover]:
    zone_name = f"{wanted.cluster_name.lower()}.pcluster."
    answer = wanted.clients("route53").list_hosted_zones_by_name(DNSName=zone_name)
    for zone in answer["HostedZones"]:
        if zone["Name"] == zone_name:
            yield Leftover("Route 53 zone", zone_id(zone), zone["Name"], prices.HOSTED_ZONE)


def zone_id(zone: Mapping[str, Any]) -> str:
    """Return the id of a zone of Route 53, without its type before it."""
    return str(zone["Id"]).rpartition("/")[2]


def _tables(wanted: Wanted) -> Iterator[Leftover]:
    from botocore.exceptions import ClientError

    dynamodb = wanted.clients("dynamodb")
    for name in (f"parallelcluster-{wanted.cluster_name}", f"parallelcluster-slurm-{wanted.cluster_name}"):
        try:
            table = dynamodb.describe_table(TableName=name)["Table"]
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
        else:
            # Paid by request, and a few kilobytes: nothing.
            yield Leftover("DynamoDB table", name, table.get("TableStatus", ""))


def _alarms(wanted: Wanted) -> Iterator[Leftover]:
    paginator = wanted.clients("cloudwatch").get_paginator("describe_alarms")
    for prefix in (f"{wanted.cluster_name}-HeadNode", f"{wanted.cluster_name}-ClustermgtdHeartbeat"):
        for page in paginator.paginate(AlarmNamePrefix=prefix, AlarmTypes=["CompositeAlarm", "MetricAlarm"]):
            for key, price in (("CompositeAlarms", prices.COMPOSITE_ALARM), ("MetricAlarms", prices.ALARM)):
                for alarm in page.get(key, []):
                    yield Leftover("CloudWatch alarm", alarm["AlarmName"], alarm.get("StateValue", ""), price)


def _dashboards(wanted: Wanted) -> Iterator[Leftover]:
    cloudwatch = wanted.clients("cloudwatch")
    own = f"{wanted.cluster_name}-{cloudwatch.meta.region_name}"
    for dashboard in _pages(cloudwatch, "list_dashboards", "DashboardEntries", DashboardNamePrefix=own):
        if dashboard["DashboardName"] == own:
            yield Leftover("CloudWatch dashboard", own, monthly=prices.DASHBOARD)


#: Everything that is looked for, by what a question without an answer is called.
LOOKS: Mapping[str, Callable[[Wanted], Iterator[Leftover]]] = {
    "CloudFormation stacks": _stacks,
    "EC2 instances": _instances,
    "EBS volumes": _volumes,
    "network interfaces": _interfaces,
    "security groups": _security_groups,
    "launch templates": _launch_templates,
    "Elastic IP addresses": _addresses,
    "placement groups": _placement_groups,
    "FSx file systems": _lustre,
    "EFS file systems": _efs,
    "Route 53 zones": _hosted_zones,
    "DynamoDB tables": _tables,
    "CloudWatch alarms": _alarms,
    "CloudWatch dashboards": _dashboards,
}
#: What is found by its id as well, when its tags are gone. The others are found by name.
LOOKED_FOR_BY_ID = frozenset(
    {
        *("AWS::EC2::Instance", "AWS::EC2::Volume", "AWS::EC2::NetworkInterface", "AWS::EC2::SecurityGroup"),
        *("AWS::EC2::EIP", "AWS::EC2::PlacementGroup", "AWS::FSx::FileSystem", "AWS::EFS::FileSystem"),
    }
)
