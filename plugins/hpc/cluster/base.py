"""What every operator and sensor of this room has: a cluster's name, an AWS connection, and one `pcluster` at most."""

from __future__ import annotations

import logging
import math
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from hpc.cluster.account import Account
from hpc.cluster.cli import Pcluster
from hpc.cluster.install import require_installed
from hpc.cluster.links import CloudFormationStackLink
from hpc.cluster.stacks import Progress, Stack, Target, describe_stack, progress
from hpc.cluster.triggers import ClusterStackTrigger
from hpc.errors import ClusterError, DeadlineExceededError
from hpc.waiting import end_of_wait, run_trigger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow.sdk import Context

LOG = logging.getLogger(__name__)


class ClusterTask:
    """Mixed into the operators and sensors: the arguments and talk with AWS that they share."""

    cluster_name: str
    aws_conn_id: str | None
    region_name: str | None
    waiter_delay: float
    waiter_max_attempts: int
    until: str | None = None
    deferrable: bool
    defer: Callable[..., NoReturn]

    _pcluster: Pcluster | None = None

    @cached_property
    def account(self) -> Account:
        """The AWS account and region that the task works in."""
        return Account(self.aws_conn_id, self.region_name)

    def pcluster(self) -> Pcluster:
        """Return `pcluster` with the connection's credentials. Raises ConfigurationError when it is not installed."""
        self._pcluster = Pcluster(require_installed(), self.account.variables())
        return self._pcluster

    def on_kill(self) -> None:
        """End a running `pcluster`; what it started in AWS is adopted by the next try, or deleted by the teardown."""
        if self._pcluster is not None:
            self._pcluster.kill()

    def find_stack(self) -> Stack | None:
        """Return the cluster's stack as it is now; None when there is none."""
        return describe_stack(self.account.client("cloudformation"), self.cluster_name)

    def stack_trigger(self, stack: str, target: Target, started: float | None = None) -> ClusterStackTrigger:
        """Return the wait for a stack."""
        began = time.time() if started is None else started
        seconds = end_of_wait(self.waiter_delay, self.waiter_max_attempts, self.until, began) - began
        return ClusterStackTrigger(
            stack=stack,
            target=target,
            started=began,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name or None,
            waiter_delay=self.waiter_delay,
            waiter_max_attempts=max(0, math.ceil(seconds / self.waiter_delay)),
        )

    def wait_for_stack(
        self, stack: str, target: Target, method: str, *, began: float | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Defer to a method, which gets `event` and `kwargs`; or return the event: who is not deferrable waits here.

        A stack that is there already is not waited for: the way through the triggerer takes Airflow 3 seconds.
        """
        trigger = self.stack_trigger(stack, target, began)
        if self.deferrable and not self._is_there(stack, target):
            self.defer(trigger=trigger, method_name=method, kwargs=kwargs)
        return run_trigger(trigger)

    def _is_there(self, stack: str, target: Target) -> bool:
        """Whether a stack has reached its target. What is not known is not there: the trigger asks again."""
        try:
            found = describe_stack(self.account.client("cloudformation"), stack)
        except Exception as error:  # whatever it is, the trigger meets it again or not
            LOG.info("Whether %s is %s is not known, asking again: %s", stack, target, error)
            return False
        return found is not None and progress(found.status, target) is Progress.REACHED

    def show_link(self, context: Context, stack_id: str) -> None:
        """Make the task's link lead to a stack."""
        CloudFormationStackLink.persist(
            context=context,
            operator=self,
            region_name=self.account.region,
            aws_partition=self.account.partition,
            stack_id=stack_id,
            endpoint_url=self.account.endpoint_url,
        )

    def require_success(self, event: Mapping[str, Any] | None, what: str) -> Mapping[str, Any]:
        """Return the trigger's event unless the wait timed out. Raises DeadlineExceededError; `what` was waited for."""
        if event is None:
            raise ClusterError(f"the wait for {what} ended without an event")
        if event["status"] == "timeout":
            raise DeadlineExceededError(
                f"{what} took longer than it may; the stack is {event['stack_status']}",
                remedy="look at the stack's events; if it only needs longer, raise the simulation's deadline, or "
                "waiter_max_attempts of a task of your own",
            )
        return event
