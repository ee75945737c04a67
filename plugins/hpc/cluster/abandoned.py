"""Clusters that nobody looks after any more, found by their tags alone: what the janitor works on.

Looks at every stack that bears our tag, and at what bears it without a stack; judges each by its expiry and its run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from hpc import names
from hpc.aws_errors import aws_errors
from hpc.cluster.leftovers import TAG, Clients, zone_id
from hpc.cluster.pool import Lease
from hpc.errors import HpcError

_NO_STACK = "gone"


class Run(StrEnum):
    """What Airflow says about the run that a cluster was made for."""

    ALIVE = "alive"
    OVER = "over"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sighting:
    """A cluster of ours: its name, the status of its stack (`gone` if there are only things without one), its tags."""

    cluster_name: str
    status: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_stack(self) -> bool:
        """Whether CloudFormation has its stack."""
        return self.status != _NO_STACK

    @property
    def simulation(self) -> str:
        """The DAG that it was made by."""
        return self.tags.get(names.TAG_SIMULATION, "")

    @property
    def run_id(self) -> str:
        """The run that it was made for, as its tag has it."""
        return self.tags.get(names.TAG_RUN_ID, "")

    @property
    def expires(self) -> datetime | None:
        """When nothing of it may be there any more; None if its tags do not say."""
        return names.parse_expiry(self.tags.get(names.TAG_EXPIRES, ""))

    @property
    def pool(self) -> str:
        """The pool whose runs share it; empty for a run's own."""
        return self.tags.get(names.TAG_POOL, "")

    @property
    def has_head_node(self) -> bool:
        """Whether its stack is complete, so that there should be a head node."""
        return self.status == "CREATE_COMPLETE" or self.status.startswith("UPDATE")

    @property
    def ssh_conn_id(self) -> str:
        """The Airflow connection by which its head node is reached."""
        return "".join(names.decode_tag(self.tags.get(names.TAG_SSH, ""))) or names.HEAD_NODE_CONNECTION

    @property
    def is_named_after_its_run(self) -> bool:
        """Whether the tags name the run exactly: a run id may hold characters that a tag cannot."""
        return names.cluster_name(self.simulation, self.run_id) == self.cluster_name


@dataclass(frozen=True)
class Verdict:
    """Whether a cluster is abandoned, and why, or why it is left alone."""

    abandoned: bool
    why: str


def judge(sighting: Sighting, run: Run, now: datetime) -> Verdict:
    """Say whether a cluster is abandoned. Unknown is not over: such a cluster stays until it expires."""
    if names.TAG_KEEP in sighting.tags:
        return Verdict(False, f"is marked {names.TAG_KEEP}")
    expires = sighting.expires
    if expires is not None and expires <= now:
        return Verdict(True, f"expired at {sighting.tags[names.TAG_EXPIRES]}")
    until = f"expires at {expires:%Y-%m-%d %H:%M} UTC" if expires else f"has no {names.TAG_EXPIRES}: delete it by hand"
    match run:
        case Run.OVER:
            return Verdict(True, "its run is over")
        case Run.MISSING:
            return Verdict(True, "its run no longer exists")
        case Run.ALIVE:
            return Verdict(False, f"its run goes on; {until}")
    return Verdict(False, f"this Airflow cannot tell whether its run is over; {until}")


def judge_shared(sighting: Sighting, leases: Mapping[Lease, Run]) -> Verdict:
    """Say whether the cluster of a pool is abandoned: its expiry is that of its first run, but `leases` are of all.

    `leases` are those that have not expired, with what `state_of_lease` says about each.
    """
    if names.TAG_KEEP in sighting.tags:
        return Verdict(False, f"is marked {names.TAG_KEEP}")
    ended = ended_of(leases)
    if holding := [lease for lease in leases if lease not in ended]:
        until = max(lease.expires for lease in holding)
        return Verdict(
            False, f"is held by {', '.join(map(str, holding))}, until {until:%Y-%m-%d %H:%M} UTC at the latest"
        )
    how = {Run.OVER: "is over", Run.MISSING: "no longer exists"}
    lines = [
        f"; there is a lease until {lease.expires:%Y-%m-%d %H:%M} UTC, but its run {how[leases[lease]]}: {lease}"
        for lease in ended
    ]
    return Verdict(True, f"no run of pool {sighting.pool} holds it{''.join(lines)}")


def ended_of(leases: Mapping[Lease, Run]) -> list[Lease]:
    """Return the leases that hold nothing any more: their runs go on no longer. Unknown is not over."""
    return [lease for lease, run in leases.items() if run in (Run.OVER, Run.MISSING)]


def state_of(sighting: Sighting, airflow: str, count_runs: Callable[..., int]) -> Run:
    """Return what Airflow, whose own URL is `airflow` (empty if it has none), says about a cluster's run.

    `count_runs` takes `dag_id`, `run_ids` and `states` as `RuntimeTaskInstance.get_dr_count` does.
    """
    if not airflow or sighting.tags.get(names.TAG_AIRFLOW) != airflow or not sighting.is_named_after_its_run:
        return Run.UNKNOWN
    return _ask(sighting.simulation, sighting.run_id, count_runs)


def state_of_lease(lease: Lease, airflow: str, count_runs: Callable[..., int]) -> Run:
    """Return what Airflow says about the run that has a lease of a shared cluster, as `state_of` does."""
    if not airflow or lease.airflow != airflow:
        return Run.UNKNOWN
    return _ask(lease.dag_id, lease.run_id, count_runs)


def _ask(dag_id: str, run_id: str, count_runs: Callable[..., int]) -> Run:
    run: dict[str, Any] = {"dag_id": dag_id, "run_ids": [run_id]}
    # The count of those that go on comes last: a run that begins again in between is alive.
    if not count_runs(**run):
        return Run.MISSING
    return Run.ALIVE if count_runs(**run, states=["queued", "running"]) else Run.OVER


def find_ours(clients: Clients, unknown: Callable[[str, HpcError], None]) -> list[Sighting]:
    """Return every cluster that bears our tag, and what is left of clusters without a stack.

    Raises what AWS raises if the stacks cannot be listed. `unknown` is told a service that does not tell its things,
    and why: that hides nothing of the others.
    """
    with aws_errors():
        stacks = {sighting.cluster_name: sighting for sighting in _stacks(clients)}
    loose: dict[str, dict[str, str]] = {}
    for service, look in _THINGS.items():
        try:
            with aws_errors():
                found = list(look(clients, stacks))
        except HpcError as error:
            unknown(service, error)
            continue
        for tags in found:
            name = tags.get(TAG, "")
            if name and name not in stacks and names.TAG_SIMULATION in tags:
                loose[name] = {**tags, **loose.get(name, {})}
    return [*stacks.values(), *(Sighting(name, _NO_STACK, tags) for name, tags in loose.items())]


def _stacks(clients: Clients) -> Iterator[Sighting]:
    for page in clients("cloudformation").get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            tags = _tags(stack.get("Tags", []))
            is_root = not stack.get("RootId") and not stack.get("ParentId")
            if is_root and names.TAG_SIMULATION in tags and stack["StackStatus"] != "DELETE_COMPLETE":
                yield Sighting(stack["StackName"], stack["StackStatus"], tags)


def _in_ec2(clients: Clients, stacks: Collection[str]) -> Iterator[Mapping[str, str]]:
    """Yield the tags of each thing in EC2 that bears any of ours."""
    ec2_tags: dict[str, dict[str, str]] = {}
    filters = [{"Name": "key", "Values": [TAG, f"{names.TAG_PREFIX}*"]}]
    for page in clients("ec2").get_paginator("describe_tags").paginate(Filters=filters):
        for tag in page["Tags"]:
            ec2_tags.setdefault(tag["ResourceId"], {})[tag["Key"]] = tag["Value"]
    yield from ec2_tags.values()


def _file_systems(service: str, clients: Clients, stacks: Collection[str]) -> Iterator[Mapping[str, str]]:
    """Yield the tags of each file system of FSx or EFS."""
    for page in clients(service).get_paginator("describe_file_systems").paginate():
        yield from (_tags(system.get("Tags", [])) for system in page["FileSystems"])


def _alarms_and_tables(clients: Clients, stacks: Collection[str]) -> Iterator[Mapping[str, str]]:
    """Yield the tags of each alarm and table that bears ours. Log groups do too, and stay on purpose."""
    pages = (
        clients("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(
            TagFilters=[{"Key": names.TAG_SIMULATION}], ResourceTypeFilters=["cloudwatch:alarm", "dynamodb:table"]
        )
    )
    for page in pages:
        yield from (_tags(thing["Tags"]) for thing in page["ResourceTagMappingList"])


def _zones(clients: Clients, stacks: Collection[str]) -> Iterator[Mapping[str, str]]:
    """Yield the tags of each private zone of a cluster in this region that has no stack.

    Route 53 is one for all regions, and takes five questions a second from an account.
    """
    live = {name.lower() for name in stacks}
    route53, region = clients("route53"), clients("ec2").meta.region_name
    for page in route53.get_paginator("list_hosted_zones").paginate():
        for zone in page["HostedZones"]:
            cluster, _, domain = zone["Name"].partition(".")
            if domain != "pcluster." or cluster in live:
                continue
            try:
                answer = route53.list_tags_for_resource(ResourceType="hostedzone", ResourceId=zone_id(zone))
                tags = _tags(answer["ResourceTagSet"]["Tags"])
                if names.TAG_SIMULATION in tags and region in _regions(route53, zone):
                    yield tags
            except route53.exceptions.NoSuchHostedZone:
                continue  # gone since it was listed


def _regions(route53: Any, zone: Mapping[str, Any]) -> set[str]:
    """Return where the VPCs of a private zone are."""
    return {vpc["VPCRegion"] for vpc in route53.get_hosted_zone(Id=zone_id(zone)).get("VPCs") or []}


#: What looks for things of ours, by service; it may leave out those of clusters that have a stack.
_THINGS: Mapping[str, Callable[[Clients, Collection[str]], Iterator[Mapping[str, str]]]] = {
    "ec2": _in_ec2,
    "fsx": partial(_file_systems, "fsx"),
    "efs": partial(_file_systems, "efs"),
    "cloudwatch and dynamodb": _alarms_and_tables,
    "route53": _zones,
}


def _tags(listed: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in listed}
