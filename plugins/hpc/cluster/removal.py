"""Remove what a deleted cluster has left, as far as nothing can be lost by it.

File systems and volumes hold data and are never removed here, stacks go by their own deletion: these are for people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hpc.aws_errors import aws_errors
from hpc.cluster.leftovers import Clients, Leftover


def _terminate(clients: Clients, leftover: Leftover) -> None:
    clients("ec2").terminate_instances(InstanceIds=[leftover.id])


def _interface(clients: Clients, leftover: Leftover) -> None:
    clients("ec2").delete_network_interface(NetworkInterfaceId=leftover.id)


def _security_group_rules(clients: Clients, leftover: Leftover) -> None:
    ec2 = clients("ec2")
    group = ec2.describe_security_groups(GroupIds=[leftover.id])["SecurityGroups"][0]
    if rules := group.get("IpPermissions"):
        ec2.revoke_security_group_ingress(GroupId=leftover.id, IpPermissions=rules)
    if rules := group.get("IpPermissionsEgress"):
        ec2.revoke_security_group_egress(GroupId=leftover.id, IpPermissions=rules)


def _security_group(clients: Clients, leftover: Leftover) -> None:
    clients("ec2").delete_security_group(GroupId=leftover.id)


def _launch_template(clients: Clients, leftover: Leftover) -> None:
    clients("ec2").delete_launch_template(LaunchTemplateId=leftover.id)


def _address(clients: Clients, leftover: Leftover) -> None:
    clients("ec2").release_address(AllocationId=leftover.id)


def _placement_group(clients: Clients, leftover: Leftover) -> None:
    clients("ec2").delete_placement_group(GroupName=leftover.id)


def _hosted_zone(clients: Clients, leftover: Leftover) -> None:
    """Delete a zone, and first its records, all but the two that it is made of."""
    route53 = clients("route53")
    pages = route53.get_paginator("list_resource_record_sets").paginate(HostedZoneId=leftover.id)
    records = [record for page in pages for record in page["ResourceRecordSets"]]
    changes = [
        {"Action": "DELETE", "ResourceRecordSet": record} for record in records if record["Type"] not in ("NS", "SOA")
    ]
    for start in range(0, len(changes), 500):
        batch: dict[str, Any] = {"Changes": changes[start : start + 500]}
        route53.change_resource_record_sets(HostedZoneId=leftover.id, ChangeBatch=batch)
    route53.delete_hosted_zone(Id=leftover.id)


def _table(clients: Clients, leftover: Leftover) -> None:
    clients("dynamodb").delete_table(TableName=leftover.id)


def _alarm(clients: Clients, leftover: Leftover) -> None:
    clients("cloudwatch").delete_alarms(AlarmNames=[leftover.id])


def _dashboard(clients: Clients, leftover: Leftover) -> None:
    clients("cloudwatch").delete_dashboards(DashboardNames=[leftover.id])


#: What is safe to remove, in the order in which one lets go of the other.
REMOVERS: Mapping[str, Callable[[Clients, Leftover], None]] = {
    "EC2 instance": _terminate,
    "Elastic IP address": _address,
    "network interface": _interface,
    "security group": _security_group,
    "placement group": _placement_group,
    "launch template": _launch_template,
    "Route 53 zone": _hosted_zone,
    "DynamoDB table": _table,
    "CloudWatch alarm": _alarm,
    "CloudWatch dashboard": _dashboard,
}
#: What has to be done for all of a kind before one of them can be removed: the groups of a cluster refer to each other.
PREPARATIONS: Mapping[str, Callable[[Clients, Leftover], None]] = {"security group": _security_group_rules}
#: Goes by itself.
_GOING = frozenset({"shutting-down", "DELETING", "deleting"})


def remove(leftovers: Iterable[Leftover], clients: Clients) -> tuple[list[Leftover], list[str]]:
    """Remove what is safe to remove; return what AWS agreed to remove, and why the rest of it would not go.

    One that refuses stops no other: an interface is free only when its instance is gone, so look and call again.
    """
    order = list(REMOVERS)
    removable = [leftover for leftover in leftovers if leftover.kind in REMOVERS and leftover.state not in _GOING]
    removable.sort(key=lambda each: order.index(each.kind))
    for leftover in removable:
        if leftover.kind in PREPARATIONS:
            _refusal(PREPARATIONS[leftover.kind], clients, leftover)  # what refuses here refuses below as well
    refusals = {leftover: _refusal(REMOVERS[leftover.kind], clients, leftover) for leftover in removable}
    removed = [leftover for leftover, refusal in refusals.items() if not refusal]
    return removed, [f"{leftover.kind} {leftover.id}: {refusal}" for leftover, refusal in refusals.items() if refusal]


def _refusal(work: Callable[[Clients, Leftover], None], clients: Clients, leftover: Leftover) -> str:
    """Do something to a leftover; return why AWS refused, in one line, or nothing."""
    try:
        with aws_errors():
            work(clients, leftover)
    except Exception as error:  # whatever it is, the next look finds what is still there
        return " ".join(str(error).split()) or type(error).__name__
    return ""
