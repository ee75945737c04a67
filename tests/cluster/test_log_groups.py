"""Log groups outlive their clusters, so a name is not used twice in one minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from hpc.cluster.log_groups import seconds_until_name_is_free
from hpc.cluster.operators import ParallelClusterCreateOperator

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

NOW = datetime(2026, 11, 23, 2, 17, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("groups", "seconds"),
    [
        ([], 0),
        (["/aws/parallelcluster/demo-202611230216"], 0),
        (["/aws/parallelcluster/demo-202611230100", "/aws/parallelcluster/demo-202611230217"], 21),
    ],
)
def test_only_a_group_of_this_minute_is_waited_for(groups: list[str], seconds: float) -> None:
    assert seconds_until_name_is_free(groups, NOW) == seconds


@pytest.mark.region
@pytest.mark.usefixtures("connections")
def test_creation_waits_for_the_next_minute_without_a_worker(region: LocalRegion, config: str, context: Any) -> None:
    minute = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y%m%d%H%M")
    region.client("logs").create_log_group(logGroupName=f"/aws/parallelcluster/hasty-{minute}")

    with pytest.raises(TaskDeferred) as deferred:
        ParallelClusterCreateOperator(task_id="create", cluster_name="hasty", cluster_config=config).execute(context)

    assert deferred.value.method_name == "create_now"
