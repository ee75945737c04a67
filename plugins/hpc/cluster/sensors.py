"""Step 4: wait until CloudFormation has made the cluster, and say why when it has not."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator

from hpc.aws_errors import aws_errors
from hpc.cluster import evidence
from hpc.cluster.base import ClusterTask
from hpc.cluster.diagnosis import (
    Evidence,
    explain_creation,
    explain_deletion,
    gather_creation_evidence,
    gather_deletion_evidence,
)
from hpc.cluster.links import CloudFormationStackLink
from hpc.cluster.stacks import Target
from hpc.errors import ClusterError, HpcError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context


LOG = logging.getLogger(__name__)


def diagnose(
    task: ClusterTask, event: Mapping[str, Any], target: Target, *, evidence_uri: str = "", configuration: str = ""
) -> HpcError:
    """Return the error that says why a stack did not come where it should.

    `evidence_uri`, an s3:// folder, gets what explains a failed creation of `configuration`.
    """
    name, status = task.cluster_name, str(event["stack_status"])
    if status == "MISSING":
        return ClusterError(
            f"There is no stack {name} in this region.",
            remedy="clear the task that creates the cluster, or correct cluster_name and region_name",
        )
    cloudformation, stack = task.account.client("cloudformation"), str(event["stack_id"])
    if target == "DELETE_COMPLETE":
        return explain_deletion(gather_deletion_evidence(name, stack, status, cloudformation=cloudformation))
    gathered = gather_creation_evidence(
        *(name, stack, status),
        cloudformation=cloudformation,
        logs=task.account.client("logs"),
        describe=lambda cluster: task.pcluster().describe(cluster),
    )
    error = explain_creation(gathered)
    if evidence_uri:
        _keep(task, gathered, evidence.files_of(gathered, error, configuration), evidence_uri)
    return error


def _keep(task: ClusterTask, gathered: Evidence, files: dict[str, str], evidence_uri: str) -> None:
    """Save the evidence. Nothing that fails here hides the failure that it explains."""
    folder = f"{evidence_uri.rstrip('/')}/{gathered.stack_id.rpartition('/')[2]}"
    try:
        with aws_errors():
            logs = evidence.read_head_node_logs(task.account.client("logs"), gathered.log_group, gathered.log_streams)
    except Exception as error:
        LOG.warning("The logs of the head node could not be read: %s", error)
        logs = {}
    try:
        with aws_errors():
            evidence.save(task.account.client("s3"), folder, {**files, **logs})
    except Exception as error:
        LOG.warning("What explains the failure could not be saved in %s: %s", folder, error)
    else:
        LOG.info("All that explains the failure is in %s/: %s", folder, ", ".join([*files, *logs]))


class ParallelClusterSensor(ClusterTask, BaseSensorOperator):
    """Wait until a cluster's stack is created (or gone), with the stack's events in the task's log.

    Returns `{"cluster_name", "stack_id", "stack_status", "seconds"}`. On failure it gathers the failed resources,
    ParallelCluster's own reasons and the end of the head node's bootstrap log before they are gone, and raises
    CapacityError, QuotaError, PermissionDeniedError, HeadNodeBootstrapError or ClusterCreateFailedError;
    DeadlineExceededError when it took too long.

    :param cluster_name: (templated)
    :param target_status: CREATE_COMPLETE or DELETE_COMPLETE
    :param aws_conn_id: Airflow connection with AWS credentials, region and endpoint
    :param region_name: AWS region instead of the connection's (templated)
    :param deferrable: wait in the triggerer instead of on a worker
    :param waiter_delay: longest pause between two questions, in seconds
    :param waiter_max_attempts: the wait ends after waiter_delay x waiter_max_attempts seconds
    :param until: the wait ends at this moment in any case, `2026-12-31T23:59:59Z`; None for no such moment (templated)
    """

    template_fields: Sequence[str] = ("cluster_name", "region_name", "until")
    operator_extra_links: ClassVar[tuple[BaseOperatorLink, ...]] = (CloudFormationStackLink(),)  # type: ignore[misc]
    ui_color = "#ff9900"

    def __init__(
        self,
        *,
        cluster_name: str,
        target_status: Target = "CREATE_COMPLETE",
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        deferrable: bool = True,
        waiter_delay: float = 15,
        waiter_max_attempts: int = 360,
        until: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.target_status: Target = target_status
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.until = until

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait, in the triggerer when deferrable."""
        started = time.time()
        stack = self.find_stack()
        if stack is not None:
            self.show_link(context, stack.id)
        where = stack.id if stack else self.cluster_name
        event = self.wait_for_stack(where, self.target_status, "execute_complete", began=started, started=started)
        return self.execute_complete(context, event, started)

    def execute_complete(self, context: Context, event: dict[str, Any] | None, started: float) -> dict[str, Any]:
        """Return what was reached, or raise why it was not."""
        reached = self.require_success(event, f"cluster {self.cluster_name} on its way to {self.target_status}")
        if reached["status"] != "success":
            raise diagnose(self, reached, self.target_status)
        seconds = round(time.time() - started, 1)
        self.log.info("Cluster %s is %s after %s s.", self.cluster_name, reached["stack_status"], seconds)
        return {
            "cluster_name": self.cluster_name,
            "stack_id": reached["stack_id"],
            "stack_status": reached["stack_status"],
            "seconds": seconds,
        }
