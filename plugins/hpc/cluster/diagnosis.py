"""Why a cluster could not be made or deleted: gather the evidence while it is there, then say it in one error."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpc.aws_errors import aws_errors
from hpc.cluster.leftovers import Findings
from hpc.cluster.log_groups import find_log_groups
from hpc.cluster.reasons import WAY_OUT, find_reason, tells_of_network
from hpc.cluster.stacks import StackEvent, Target, of_operation, root_failures
from hpc.errors import (
    ClusterCreateFailedError,
    ClusterDeleteFailedError,
    HeadNodeBootstrapError,
    HpcError,
    NetworkError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

#: The head node's logs that may tell why its bootstrap failed, the most telling one first.
BOOTSTRAP_LOGS = ("bootstrap_error_msg", "chef-client", "cfn-init", "cloud-init-output", "cloud-init")
LINES_SHOWN = 25
NOTHING = Findings()
_WAIT_CONDITION = "AWS::CloudFormation::WaitCondition"
#: Nobody has told the wait condition anything, neither success nor failure.
_NEVER_REPORTED = ("timed out", "received 0")


@dataclass(frozen=True)
class Evidence:
    """What was found about a failed stack."""

    cluster_name: str
    stack_status: str
    failures: Sequence[StackEvent] = ()
    #: ParallelCluster's own `failures`, as `code: reason`.
    said_by_parallelcluster: Sequence[str] = ()
    log_name: str = ""
    log_lines: Sequence[str] = ()
    #: The head node's log group is there, and nothing has arrived in it.
    silent: bool = False
    #: The log group, and the names of all streams in it.
    log_group: str = ""
    log_streams: Sequence[str] = ()
    stack_id: str = ""
    #: All that happened, `failures` among it.
    events: Sequence[StackEvent] = ()
    #: What could not be looked at, and why.
    unknown: Sequence[str] = field(default_factory=tuple)


def explain_creation(evidence: Evidence) -> HpcError:
    """Return the error that a failed creation is: of capacity, quota, permission, bootstrap, or of the stack."""
    text = _write(evidence, "could not be created")
    first = next(iter(evidence.failures), None)
    if first is not None and first.type == _WAIT_CONDITION:
        return _explain_bootstrap(evidence, text, first.reason)
    for message in [*(event.reason for event in evidence.failures), *evidence.said_by_parallelcluster]:
        reason = find_reason(message)
        if reason is not None:
            return reason.error(text, remedy=reason.remedy)
    return ClusterCreateFailedError(
        text, remedy="correct what the failed resource names, in the cluster template or the account"
    )


def _explain_bootstrap(evidence: Evidence, text: str, said: str) -> HpcError:
    unheard = evidence.silent and any(words in said for words in _NEVER_REPORTED)
    if unheard or tells_of_network(evidence.log_lines):
        return NetworkError(text, remedy=WAY_OUT)
    reason = find_reason(said)
    known = reason is not None and issubclass(reason.error, HeadNodeBootstrapError)
    remedy = reason.remedy if reason and known else "read the lines of the head node's log above"
    return HeadNodeBootstrapError(text, remedy=remedy)


def explain_deletion(evidence: Evidence, left: Findings = NOTHING) -> ClusterDeleteFailedError:
    """Return the error that a failed deletion is, with what is `left` and its price."""
    cost = f", for {left.cost}" if left.billing else " and may cost money"
    lines = "".join(f"\n  Still there: {thing}" for thing in left.found)
    return ClusterDeleteFailedError(
        _write(evidence, f"could not be deleted: what it made is still there{cost}") + lines,
        remedy="clear this task to delete again; if a resource still refuses, remove what holds it (often a network "
        "interface or a bucket) in the console, then delete the stack there",
    )


def _write(evidence: Evidence, what: str) -> str:
    lines = [f"Cluster {evidence.cluster_name} {what} (stack is {evidence.stack_status})."]
    lines += [
        f"  {event.logical_id} ({event.type}): {event.status}: {' '.join(event.reason.split())}"
        for event in evidence.failures
    ]
    lines += [f"  ParallelCluster says: {message}" for message in evidence.said_by_parallelcluster]
    if evidence.log_lines:
        lines.append(f"  The end of the head node's log {evidence.log_name}:")
        lines += [f"    | {line}" for line in evidence.log_lines]
    if evidence.silent:
        lines.append(f"  The head node has sent nothing to its log group {evidence.log_group}.")
    lines += [f"  Not known: {message}" for message in evidence.unknown]
    return "\n".join(lines)


def gather_creation_evidence(
    cluster_name: str,
    stack: str,
    stack_status: str,
    *,
    cloudformation: Any,
    logs: Any,
    describe: Callable[[str], dict[str, Any]],
) -> Evidence:
    """Collect what AWS and ParallelCluster know. Nothing that fails here hides the failure that is asked about.

    `describe` is `Pcluster.describe`; `cloudformation` and `logs` are boto3 clients.
    """
    unknown: list[str] = []

    def attempt(what: str, function: Callable[[], Any], otherwise: Any) -> Any:
        try:
            with aws_errors():
                return function()
        except Exception as error:
            log.debug("while looking for %s", what, exc_info=True)
            unknown.append(f"{what}: {(str(error) or type(error).__name__).splitlines()[0]}")
            return otherwise

    events = attempt("the stack's events", lambda: read_events(cloudformation, stack, "CREATE_COMPLETE"), [])
    said = attempt("ParallelCluster's failures", lambda: _failures(describe(cluster_name)), [])
    group, streams = attempt("the bootstrap log", lambda: find_streams(logs, cluster_name), ("", []))
    name, lines = attempt("the bootstrap log", lambda: read_bootstrap_log(logs, group, streams), ("", []))
    return Evidence(
        cluster_name=cluster_name,
        stack_status=stack_status,
        failures=root_failures(events),
        said_by_parallelcluster=said,
        log_name=name,
        log_lines=lines,
        silent=bool(group) and not streams,
        log_group=group,
        log_streams=streams,
        stack_id=stack,
        events=events,
        unknown=unknown,
    )


def gather_deletion_evidence(cluster_name: str, stack: str, stack_status: str, *, cloudformation: Any) -> Evidence:
    """Collect which resources could not be deleted."""
    with aws_errors():
        events = read_events(cloudformation, stack, "DELETE_COMPLETE")
    return Evidence(cluster_name, stack_status, failures=root_failures(events))


def read_events(cloudformation: Any, stack: str, target: Target) -> list[StackEvent]:
    """Return what happened on the way to a target: the stack's events, then those of the stacks nested in it."""
    waiting, events, done = [stack], [], set()
    while waiting:
        name = waiting.pop()
        done.add(name)
        pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=name)
        found = [StackEvent.parse(event) for page in pages for event in page["StackEvents"]]
        found.reverse()
        events += of_operation(found, target)
        waiting += {event.nested_stack_id for event in found if event.nested_stack_id} - done
    return events


def _failures(described: dict[str, Any]) -> list[str]:
    return [
        f"{failure.get('failureCode', '?')}: {failure.get('failureReason', '')}"
        for failure in described.get("failures") or []
    ]


def find_streams(logs: Any, cluster_name: str) -> tuple[str, list[str]]:
    """Return the cluster's newest log group and the streams in it; ("", []) when there is no group."""
    groups = find_log_groups(logs, cluster_name)
    if not groups:
        return "", []
    pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=groups[-1])
    return groups[-1], [stream["logStreamName"] for page in pages for stream in page["logStreams"]]


def read_bootstrap_log(logs: Any, group: str, streams: Sequence[str]) -> tuple[str, list[str]]:
    """Return the name and the last lines of the head node's most telling log; ("", []) when there is none."""
    for kind in BOOTSTRAP_LOGS:
        for stream in streams:
            if stream.rpartition(".")[2] == kind:
                answer = logs.get_log_events(
                    logGroupName=group, logStreamName=stream, limit=LINES_SHOWN, startFromHead=False
                )
                lines = [line for event in answer["events"] for line in event["message"].splitlines()]
                if lines:
                    return f"{group} {stream}", lines[-LINES_SHOWN:]
    return "", []
