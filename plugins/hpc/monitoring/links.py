"""Links from a task to what CloudWatch shows of a cluster: its dashboard and its logs."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink


class CloudWatchDashboardLink(BaseAwsLink):
    """The dashboard that ParallelCluster makes, `<cluster>-<region>`."""

    name: ClassVar[str] = "CloudWatch dashboard"
    key: ClassVar[str] = "cloudwatch_dashboard"
    format_str: ClassVar[str] = (
        BASE_AWS_CONSOLE_LINK + "/cloudwatch/home?region={region_name}#dashboards:name={dashboard}"
    )

    def format_link(self, **kwargs: Any) -> str:
        """Return the URL; `endpoint_url` is empty on AWS."""
        if endpoint := kwargs.get("endpoint_url"):
            query = {"Action": "GetDashboard", "Version": "2010-08-01", "DashboardName": kwargs["dashboard"]}
            return f"{endpoint.rstrip('/')}/?{urlencode(query)}"
        link: str = super().format_link(**{**kwargs, "dashboard": quote(kwargs["dashboard"], safe="")})
        return link


class CloudWatchLogsLink(BaseAwsLink):
    """The log group `/aws/parallelcluster/<cluster>-<YYYYMMDDHHMM>`; it stays when the cluster is gone."""

    name: ClassVar[str] = "CloudWatch logs"
    key: ClassVar[str] = "cloudwatch_logs"
    format_str: ClassVar[str] = (
        BASE_AWS_CONSOLE_LINK + "/cloudwatch/home?region={region_name}#logsV2:log-groups/log-group/{log_group}"
    )

    def format_link(self, **kwargs: Any) -> str:
        """Return the URL; `endpoint_url` is empty on AWS."""
        if endpoint := kwargs.get("endpoint_url"):
            query = {"Action": "DescribeLogStreams", "logGroupName": kwargs["log_group"]}
            return f"{endpoint.rstrip('/')}/?{urlencode(query)}"
        # The console wants its names quoted twice, with $ for the second %.
        name = quote(quote(kwargs["log_group"], safe=""), safe="").replace("%", "$")
        link: str = super().format_link(**{**kwargs, "log_group": name})
        return link


def dashboard_name(cluster_name: str, region: str) -> str:
    """Return the name that ParallelCluster gives a cluster's dashboard."""
    return f"{cluster_name}-{region}"


def log_group_name(cluster_name: str, groups: list[dict[str, Any]]) -> str | None:
    """Return the youngest log group of a cluster among those that DescribeLogGroups answered.

    The cluster's name is followed by twelve digits: `demo` does not take the logs of `demo-2` for its own.
    """
    start = f"/aws/parallelcluster/{cluster_name}-"
    stamps = [group["logGroupName"].removeprefix(start) for group in groups if group["logGroupName"].startswith(start)]
    own = [stamp for stamp in stamps if len(stamp) == 12 and stamp.isdigit()]
    return start + max(own) if own else None
