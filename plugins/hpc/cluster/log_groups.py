"""A cluster's log groups in CloudWatch, `/aws/parallelcluster/<name>-<YYYYMMDDHHMM>`: they outlive the cluster."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

#: ParallelCluster names the group for the UTC minute in which it was asked to create the cluster.
_MINUTE = "%Y%m%d%H%M"


def find_log_groups(logs: Any, cluster_name: str) -> list[str]:
    """Return the cluster's log groups, the newest last: one for each time that a cluster of this name was created."""
    prefix = f"/aws/parallelcluster/{cluster_name}-"
    pages = logs.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    names = [group["logGroupName"] for page in pages for group in page["logGroups"]]
    # The date keeps `demo` apart from a cluster that is called `demo-2`.
    return sorted(name for name in names if re.fullmatch(r"\d{12}", name.removeprefix(prefix)))


def seconds_until_name_is_free(groups: Sequence[str], now: datetime) -> float:
    """Return how long to wait before a cluster of the same name can be created; 0 when it can be at once.

    A second creation within the minute of the first would ask for the log group that the first one left.
    """
    if not groups:
        return 0
    taken = datetime.strptime(groups[-1][-12:], _MINUTE).replace(tzinfo=UTC)
    return max(0.0, (taken + timedelta(minutes=1, seconds=1) - now).total_seconds())
