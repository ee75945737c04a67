"""Named retry policies: how often a task is tried, after which pause, and for how long one try may run.

A policy is chosen by what a task talks to. Which *errors* are worth another try is decided in one place, by
`BY_ERROR`, from the exception tree of `hpc.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from hpc import errors


def _rule(
    exception: type[errors.HpcError], action: RetryAction, reason: str, delay: timedelta | None = None
) -> RetryRule:
    return RetryRule(exception=exception, action=action, reason=reason, retry_delay=delay)


#: Until AWS may have instances, or a subnet addresses, that it did not have.
CAPACITY_PAUSE = timedelta(minutes=5)
#: A rule without a delay leaves the task's own backoff in force: a fixed delay would use up all tries within a minute.
BY_ERROR = ExceptionRetryPolicy(
    rules=[
        _rule(errors.ConfigurationError, RetryAction.FAIL, "a wrong configuration stays wrong"),
        _rule(errors.PermissionDeniedError, RetryAction.FAIL, "a missing permission does not appear by itself"),
        _rule(errors.QuotaError, RetryAction.FAIL, "a quota has to be raised by a person"),
        _rule(errors.HostKeyError, RetryAction.FAIL, "a host key that does not match may be an attack"),
        _rule(errors.HeadNodeBootstrapError, RetryAction.FAIL, "the same image and scripts fail the same way"),
        _rule(errors.SubnetFullError, RetryAction.RETRY, "addresses come back with other clusters", CAPACITY_PAUSE),
        _rule(errors.NetworkError, RetryAction.FAIL, "a network has to be changed by a person"),
        _rule(errors.JobRejectedError, RetryAction.FAIL, "Slurm refuses the same request again"),
        _rule(errors.JobFailedError, RetryAction.FAIL, "the job itself failed"),
        _rule(errors.AlarmError, RetryAction.FAIL, "the alarm went off"),
        _rule(errors.RunFailedError, RetryAction.FAIL, "the verdict stays"),
        _rule(errors.DeadlineExceededError, RetryAction.FAIL, "the wait was as long as it may be"),
        _rule(errors.CapacityError, RetryAction.RETRY, "capacity comes back in minutes", CAPACITY_PAUSE),
        _rule(errors.ThrottlingError, RetryAction.RETRY, "AWS asked to slow down"),
        _rule(errors.ConnectionLostError, RetryAction.RETRY, "connections come back"),
    ],
    default=RetryAction.DEFAULT,
)
#: For a wait that only watches: whatever the stack failed with, watching it again changes nothing.
BY_ERROR_OF_A_STACK = ExceptionRetryPolicy(
    rules=[
        _rule(errors.ClusterError, RetryAction.FAIL, "a failed stack stays failed"),
        _rule(errors.CapacityError, RetryAction.FAIL, "a failed stack stays failed"),
        *BY_ERROR.rules,
    ],
    default=RetryAction.DEFAULT,
)
#: For a wait that makes a failed cluster anew: of what a stack can fail with, only what passes by itself is worth it.
BY_ERROR_OF_A_CREATION = ExceptionRetryPolicy(
    rules=[
        _rule(errors.SubnetFullError, RetryAction.RETRY, "addresses come back with other clusters", CAPACITY_PAUSE),
        _rule(errors.ClusterError, RetryAction.FAIL, "the same configuration fails the same way"),
        *BY_ERROR.rules,
    ],
    default=RetryAction.DEFAULT,
)
#: For a deletion: while a person renews credentials or corrects a policy, the cluster costs money.
BY_ERROR_OF_A_DELETION = ExceptionRetryPolicy(
    rules=[
        _rule(errors.LeftoversError, RetryAction.FAIL, "what is left has to be removed by a person, who is told now"),
        _rule(errors.LeftoversUnknownError, RetryAction.RETRY, "what could not be asked has to be asked again"),
        _rule(errors.PermissionDeniedError, RetryAction.RETRY, "credentials are renewed, and the cluster has to go"),
        _rule(errors.DeadlineExceededError, RetryAction.RETRY, "the cluster still has to go"),
        *BY_ERROR.rules,
    ],
    default=RetryAction.DEFAULT,
)


@dataclass(frozen=True)
class TaskPolicy:
    """What one task gets: `retries` further tries, `delay` before the first, doubling up to `max_delay`.

    `timeout` bounds one try. A deferred wait is bounded by the task's own `waiter_max_attempts` x `waiter_delay`
    instead: Airflow counts only the seconds in which the task holds a worker.
    """

    retries: int
    delay: timedelta
    timeout: timedelta
    max_delay: timedelta = timedelta(minutes=10)
    by_error: ExceptionRetryPolicy = BY_ERROR

    def arguments(self) -> dict[str, Any]:
        """Return the policy as keyword arguments of an operator."""
        return {
            "retries": self.retries,
            "retry_delay": self.delay,
            "retry_exponential_backoff": 2.0,
            "max_retry_delay": self.max_delay,
            "execution_timeout": self.timeout,
            "retry_policy": self.by_error,
        }

    def with_retries(self, retries: int | None) -> TaskPolicy:
        """Return the policy with another number of retries; None leaves it as it is."""
        return self if retries is None else replace(self, retries=retries)


#: Work on the Airflow worker itself: install, render, validate.
ON_WORKER = TaskPolicy(retries=2, delay=timedelta(seconds=10), timeout=timedelta(minutes=15))
#: A call that starts something in AWS.
AWS_CALL = TaskPolicy(retries=3, delay=timedelta(seconds=15), timeout=timedelta(minutes=10))
#: Waiting for AWS, deferred.
AWS_WAIT = TaskPolicy(retries=3, delay=timedelta(seconds=15), timeout=timedelta(minutes=10))
#: Waiting for a stack to be made, deferred.
STACK_WAIT = replace(AWS_WAIT, by_error=BY_ERROR_OF_A_STACK)
#: Seeing the making of a stack through, deferred.
CREATION = replace(AWS_WAIT, by_error=BY_ERROR_OF_A_CREATION)
#: Deleting, and holding a deletion back: the two things that must not be given up early, whatever a simulation says.
#: These tries last from a network that fails for a minute to credentials that expire in the evening: ten hours.
DELETION = TaskPolicy(
    retries=24,
    delay=timedelta(seconds=30),
    max_delay=timedelta(minutes=30),
    timeout=timedelta(minutes=20),
    by_error=BY_ERROR_OF_A_DELETION,
)
#: A command on the head node, which may be restarted meanwhile: ten minutes of patience.
HEAD_NODE = TaskPolicy(retries=6, delay=timedelta(seconds=10), timeout=timedelta(minutes=10))
#: Bringing inputs to the head node, and submitting.
STAGING = replace(HEAD_NODE, timeout=timedelta(hours=6))
#: Waiting for Slurm, deferred.
SLURM_WAIT = TaskPolicy(retries=4, delay=timedelta(seconds=10), timeout=timedelta(minutes=10))
#: Carrying results.
TRANSFER = TaskPolicy(retries=4, delay=timedelta(seconds=20), timeout=timedelta(hours=6))
