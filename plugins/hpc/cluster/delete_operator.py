"""Step 13: delete a cluster, and prove that nothing is left of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator

from hpc.aws_errors import aws_errors
from hpc.cluster import leftovers, removal
from hpc.cluster.answers import ClusterNotFoundError
from hpc.cluster.base import ClusterTask
from hpc.cluster.decision import require_same_owner
from hpc.cluster.deletion import next_try
from hpc.cluster.diagnosis import explain_deletion, gather_deletion_evidence
from hpc.cluster.operators import ORANGE, STACK_LINK
from hpc.cluster.stacks import Stack
from hpc.errors import LeftoversError, LeftoversUnknownError
from hpc.names import TAG_AIRFLOW

if TYPE_CHECKING:
    from airflow.sdk import Context


class ParallelClusterDeleteOperator(ClusterTask, BaseOperator):
    """Delete a cluster and prove that nothing is left of it. A teardown: safe to run twice, and on nothing.

    A stack that cannot be deleted is deleted again as its failures suggest (`hpc.cluster.deletion`): later, when
    something is still in use, in the end without what refuses. Then everything that is the cluster's by tag, name or id
    is looked for; what is safe to remove is removed (`hpc.cluster.removal`).

    Returns `{"stack": "gone", "leftovers": what is left and costs nothing, "removed", "kept": log groups, "seconds"}`.
    Raises ClusterDeleteFailedError with the resources that refused; LeftoversError that names, with its price, what
    is still there and costs money after `settle_seconds`; LeftoversUnknownError when AWS did not let us look.

    :param cluster_name: (templated)
    :param tags: delete only a cluster that bears these tags, so that a name taken by somebody else stays theirs
        (templated, also as a whole)
    :param stack_id: the ARN of the cluster's stack, if it is known: nothing is looked for, nor believed to be gone, in
        another account or region, and of which Airflow that stack is does not matter (templated; empty is unknown)
    :param settle_seconds: how long what AWS still shows after the stack is gone may take to disappear
    :param aws_conn_id: Airflow connection with AWS credentials, region and endpoint
    :param region_name: AWS region instead of the connection's (templated)
    :param deferrable: wait in the triggerer instead of on a worker
    :param waiter_delay: longest pause between two questions, in seconds
    :param waiter_max_attempts: the wait ends after waiter_delay x waiter_max_attempts seconds
    """

    template_fields: Sequence[str] = ("cluster_name", "tags", "stack_id", "region_name")
    operator_extra_links = STACK_LINK
    ui_color = ORANGE

    def __init__(
        self,
        *,
        cluster_name: str,
        tags: Mapping[str, str] | str | None = None,
        stack_id: str = "",
        settle_seconds: float = 300,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        deferrable: bool = True,
        waiter_delay: float = 15,
        waiter_max_attempts: int = 360,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.tags: Any = tags or {}
        self.stack_id = stack_id
        self.settle_seconds = settle_seconds
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts

    def execute(self, context: Context) -> dict[str, Any]:
        """Delete, unless it is gone or going already, and wait for the end."""
        return self.begin(context)

    def begin(self, context: Context) -> dict[str, Any]:
        """Do what `execute` does."""
        started = time.time()
        self._require_same_place()
        stack = self._living_stack()
        if stack is not None:
            return self._delete_and_wait(context, stack, started)
        # A creation that was ended a moment ago may still get through: Airflow ends a task some seconds after it was
        # marked, and a teardown starts at once.
        self.log.info("There is no stack %s: looking again in %.0f s.", self.cluster_name, self.waiter_delay)
        return self._after(context, self.waiter_delay, "look_again", started=started)

    def look_again(self, context: Context, started: float, event: Any = None) -> dict[str, Any]:
        """Delete what got through after all, or look for what is left of it."""
        stack = self._living_stack()
        if stack is not None:
            return self._delete_and_wait(context, stack, started)
        self.log.info("There is no stack %s: looking for what may be left of it.", self.cluster_name)
        return self._prove(context, Proof(started, gone=time.time()))

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, started: float, made: leftovers.Made, tries: int
    ) -> dict[str, Any]:
        """Look for what is left now that the stack is gone; or delete it again, as its failures suggest."""
        reached = self.require_success(event, f"the deletion of cluster {self.cluster_name}")
        if reached["status"] == "success":
            self.log.info("The stack is gone after %.0f s. Looking for what may be left.", time.time() - started)
            return self._prove(context, Proof(started, gone=time.time(), made=made))
        evidence = gather_deletion_evidence(
            *(self.cluster_name, str(reached["stack_id"]), str(reached["stack_status"])),
            cloudformation=self.account.client("cloudformation"),
        )
        step = next_try(evidence.failures, tries, self.waiter_delay)
        if step is None:
            raise explain_deletion(evidence, leftovers.find_leftovers(self.cluster_name, self.account.client, made))
        self.log.warning("%s\nTrying again in %.0f s: %s.", explain_deletion(evidence), step.pause, step.why)
        kwargs = {"started": started, "made": made, "tries": tries + 1, "retain": step.retain}
        return self._after(context, step.pause, "delete_again", **kwargs)

    def delete_again(
        self,
        context: Context,
        event: Any = None,
        *,
        started: float,
        made: leftovers.Made,
        tries: int,
        retain: Mapping[str, Sequence[str]],
    ) -> dict[str, Any]:
        """Delete a stack once more, and from each stack of `retain` all but these logical ids."""
        stack = self._living_stack()
        if stack is None:
            return self._prove(context, Proof(started, gone=time.time(), made=made))
        if stack.status != "DELETE_IN_PROGRESS":
            self._end_compute_nodes()
            cloudformation = self.account.client("cloudformation")
            with aws_errors():
                for owner, logical_ids in retain.items():
                    cloudformation.delete_stack(StackName=owner, RetainResources=list(logical_ids))
                if stack.id not in retain:
                    cloudformation.delete_stack(StackName=stack.id)
        return self._wait_until_gone(context, stack.id, started, made, tries)

    def prove_again(self, context: Context, proof: dict[str, Any], event: Any = None) -> dict[str, Any]:
        """Look again after a pause."""
        return self._prove(context, Proof(**proof))

    def _require_same_place(self) -> None:
        """Raise LeftoversUnknownError if the cluster is in another account or region than this task looks in."""
        if not self.stack_id:
            return
        _, _, _, region, account, _ = self.stack_id.split(":", 5)
        with aws_errors():
            mine = self.account.client("sts").get_caller_identity()["Account"]
        if (region, account) != (self.account.region, mine):
            raise LeftoversUnknownError(
                f"cluster {self.cluster_name} was made in {region} of account {account}, but this task would look for "
                f"it in {self.account.region} of account {mine}: it may be there still, and cost money",
                remedy=f"give the connection {self.aws_conn_id} and hpc_site their old account and region until it is "
                "deleted, and clear this task",
            )

    def _living_stack(self) -> Stack | None:
        stack = self.find_stack()
        return None if stack is None or stack.status == "DELETE_COMPLETE" else stack

    def _delete_and_wait(self, context: Context, stack: Stack, started: float) -> dict[str, Any]:
        made_here = stack.id == self.stack_id  # whatever the URL of this Airflow is by now
        require_same_owner(stack, {key: tag for key, tag in self.tags.items() if key != TAG_AIRFLOW or not made_here})
        self.show_link(context, stack.id)
        made = self._list_made(stack.id)
        if stack.status == "DELETE_IN_PROGRESS":
            self.log.info("Cluster %s is being deleted already.", self.cluster_name)
        else:
            self._delete(stack.id)
        return self._wait_until_gone(context, stack.id, started, made, tries=1)

    def _wait_until_gone(
        self, context: Context, stack_id: str, started: float, made: leftovers.Made, tries: int
    ) -> dict[str, Any]:
        # Each try has the whole time: one that waited for a busy resource must not take it from the next.
        kwargs: dict[str, Any] = {"started": started, "made": made, "tries": tries}
        event = self.wait_for_stack(stack_id, "DELETE_COMPLETE", "execute_complete", **kwargs)
        return self.execute_complete(context, event, **kwargs)

    def _after(self, context: Context, seconds: float, method: str, **kwargs: Any) -> dict[str, Any]:
        """Go on with a method of this operator after a pause."""
        if self.deferrable:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=seconds)), method_name=method, kwargs=kwargs)
        time.sleep(seconds)
        result: dict[str, Any] = getattr(self, method)(context, **kwargs)
        return result

    def _list_made(self, stack_id: str) -> dict[str, list[str]]:
        try:
            return leftovers.list_made(stack_id, self.account.client)
        except Exception as error:  # a deletion must not fail for a list; the tags are looked for in any case
            self.log.warning("CloudFormation does not list what the stack made: %s", error)
            return {}

    def _end_compute_nodes(self) -> None:
        """Terminate the instances that are not the stack's own: while one lives, what it uses cannot be deleted."""
        ec2 = self.account.client("ec2")
        filters = [
            {"Name": f"tag:{leftovers.TAG}", "Values": [self.cluster_name]},
            {"Name": "tag:parallelcluster:node-type", "Values": ["Compute"]},
            {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
        ]
        try:
            with aws_errors():
                pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
                nodes = [i["InstanceId"] for page in pages for r in page["Reservations"] for i in r["Instances"]]
                if nodes:
                    self.log.warning("Compute nodes outlived the cluster, so they are terminated: %s", ", ".join(nodes))
                    ec2.terminate_instances(InstanceIds=nodes)
        except Exception as error:  # the stack is deleted again in any case, and the proof comes after it
            self.log.warning("The compute nodes could not be ended: %s", error)

    def _delete(self, stack_id: str) -> None:
        try:
            self.pcluster().delete(self.cluster_name)
        except ClusterNotFoundError:
            self.log.info("pcluster finds no cluster %s any more.", self.cluster_name)
        except Exception as error:
            # Nothing may keep a cluster alive, least of all a broken command or a full disk on this worker.
            self.log.warning("pcluster could not delete it, so its stack is deleted directly: %s", error)
            with aws_errors():
                self.account.client("cloudformation").delete_stack(StackName=stack_id)
        else:
            self.log.info("CloudFormation is deleting cluster %s.", self.cluster_name)

    def _prove(self, context: Context, proof: Proof) -> dict[str, Any]:
        stack = self._living_stack()
        if stack is not None:  # made this late, or another's: what is left must not be taken from below it
            return self._delete_and_wait(context, stack, proof.started)
        findings = leftovers.find_leftovers(self.cluster_name, self.account.client, proof.made)
        if findings.is_proof:
            return self._proven(proof, findings)
        removed, refused = removal.remove(findings.found, self.account.client)
        removed_now = [str(thing) for thing in removed if str(thing) not in proof.removed]
        for thing in removed_now:
            self.log.warning("Left by the deletion, removed now: %s", thing)
        proof = replace(proof, removed=[*proof.removed, *removed_now])
        if time.time() - proof.gone >= self.settle_seconds and not removed_now:
            return self._judge(proof, findings, refused)
        self.log.info("AWS still shows: %s. Looking again.", "; ".join([*map(str, findings.found), *findings.unknown]))
        wait = min(self.waiter_delay, self.settle_seconds)
        return self._after(context, wait, "prove_again", proof=asdict(proof))

    def _judge(self, proof: Proof, findings: leftovers.Findings, refused: Sequence[str]) -> dict[str, Any]:
        """Return what may stay, for it costs nothing. Raises for what costs money, and for what is not known."""
        unknown = "".join(f"\n  Not known: {question}" for question in findings.unknown)
        if findings.billing:
            lines = "".join(f"\n  {thing}" for thing in findings.found)
            notes = "".join(f"\n  Could not be removed: {refusal}" for refusal in refused)
            raise LeftoversError(
                f"Cluster {self.cluster_name} is deleted, but this is still there, for {findings.cost}:"
                f"{lines}{notes}{unknown}",
                remedy="save what is needed of it and remove it in the AWS console; clear this task to look again",
            )
        if findings.unknown:
            raise LeftoversUnknownError(
                f"Cluster {self.cluster_name} is deleted, but it is not known whether anything is left of it:{unknown}",
                remedy="allow what docs/iam-policy.json lists, or renew the credentials; it is asked again by itself",
            )
        for thing in findings.found:
            self.log.warning("Still there, and free of charge: %s", thing)
        return self._proven(proof, findings)

    def _proven(self, proof: Proof, findings: leftovers.Findings) -> dict[str, Any]:
        kept = leftovers.find_kept(self.cluster_name, self.account.client)
        self.log.info("Nothing that costs money is left of cluster %s. Kept on purpose: %s.", self.cluster_name, kept)
        return {
            "stack": "gone",
            "leftovers": [str(thing) for thing in findings.found],
            "removed": list(proof.removed),
            "kept": kept,
            "seconds": round(time.time() - proof.started, 1),
        }


@dataclass(frozen=True)
class Proof:
    """How far the look for leftovers is: times in seconds since 1970, what the stack made, what was removed so far."""

    started: float
    gone: float
    made: leftovers.Made = field(default_factory=dict)
    removed: Sequence[str] = ()
