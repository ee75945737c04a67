"""Which errors are worth another try."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction

from hpc import errors, retries


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.ConfigurationError("x"), RetryAction.FAIL),
        (errors.PermissionDeniedError("x"), RetryAction.FAIL),
        (errors.HostKeyError("x"), RetryAction.FAIL),
        (errors.JobFailedError("x"), RetryAction.FAIL),
        (errors.HeadNodeBootstrapError("x"), RetryAction.FAIL),
        (errors.NetworkError("x"), RetryAction.FAIL),
        (errors.SubnetFullError("x"), RetryAction.RETRY),
        (errors.DeadlineExceededError("x"), RetryAction.FAIL),
        (errors.CapacityError("x"), RetryAction.RETRY),
        (errors.ThrottlingError("x"), RetryAction.RETRY),
        (errors.ConnectionLostError("x"), RetryAction.RETRY),
        (errors.ClusterDeleteFailedError("x"), RetryAction.DEFAULT),
        (RuntimeError("x"), RetryAction.DEFAULT),
    ],
)
def test_an_error_decides_over_the_retry(error: Exception, action: RetryAction) -> None:
    assert retries.BY_ERROR.evaluate(error, 1, 3).action is action


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (errors.ClusterCreateFailedError("x"), RetryAction.FAIL),
        (errors.HeadNodeBootstrapError("x"), RetryAction.FAIL),
        (errors.NetworkError("x"), RetryAction.FAIL),
        (errors.QuotaError("x"), RetryAction.FAIL),
        (errors.PermissionDeniedError("x"), RetryAction.FAIL),
        (errors.SubnetFullError("x"), RetryAction.RETRY),
        (errors.CapacityError("x"), RetryAction.RETRY),
        (errors.ThrottlingError("x"), RetryAction.RETRY),
        (RuntimeError("the worker was killed"), RetryAction.DEFAULT),
    ],
)
def test_a_cluster_is_made_anew_only_for_what_passes_by_itself(error: Exception, action: RetryAction) -> None:
    assert retries.CREATION.by_error.evaluate(error, 1, 3).action is action


def test_a_deletion_outlasts_credentials_that_have_to_be_renewed() -> None:
    decision = retries.DELETION.by_error.evaluate(errors.PermissionDeniedError("expired"), 1, 5)
    assert decision.action is RetryAction.RETRY
    assert tries_last(retries.DELETION) >= timedelta(hours=8)
    left = retries.DELETION.by_error.evaluate(errors.LeftoversError("vol-1"), 1, 5)
    assert left.action is RetryAction.FAIL, "a person has to remove it, and is told at once"
    taken = retries.DELETION.by_error.evaluate(errors.ConfigurationError("somebody else's"), 1, 5)
    assert taken.action is RetryAction.FAIL


def test_capacity_waits_longer_than_a_lost_connection() -> None:
    capacity = retries.BY_ERROR.evaluate(errors.CapacityError("x"), 1, 3).retry_delay
    connection = retries.BY_ERROR.evaluate(errors.ConnectionLostError("x"), 1, 3)
    assert capacity is not None
    assert connection.retry_delay is None, "a fixed delay would replace the backoff, and use all tries up in a minute"
    assert capacity >= 10 * retries.HEAD_NODE.delay


def tries_last(policy: retries.TaskPolicy) -> timedelta:
    """How long a policy goes on when every try fails at once."""
    pauses = (min(policy.delay * 2**number, policy.max_delay) for number in range(policy.retries))
    return sum(pauses, timedelta(0))


def test_a_head_node_may_be_restarted_meanwhile() -> None:
    assert tries_last(retries.HEAD_NODE) >= timedelta(minutes=10)


def test_a_policy_is_a_set_of_operator_arguments() -> None:
    arguments = retries.DELETION.with_retries(7).arguments()
    assert arguments["retries"] == 7
    assert arguments["retry_delay"] == retries.DELETION.delay
    assert arguments["execution_timeout"] > timedelta(0)
    assert retries.DELETION.with_retries(None) is retries.DELETION
