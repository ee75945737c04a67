from __future__ import annotations

import pytest

from hpc.monitoring.links import CloudWatchDashboardLink, CloudWatchLogsLink, dashboard_name, log_group_name

AWS = {"region_name": "eu-west-1", "aws_domain": "aws.amazon.com", "endpoint_url": ""}


def test_the_dashboard_on_aws() -> None:
    url = CloudWatchDashboardLink().format_link(**AWS, dashboard=dashboard_name("demo", "eu-west-1"))
    assert url == ("https://console.aws.amazon.com/cloudwatch/home?region=eu-west-1#dashboards:name=demo-eu-west-1")


def test_the_console_wants_log_groups_quoted_twice() -> None:
    url = CloudWatchLogsLink().format_link(**AWS, log_group="/aws/parallelcluster/demo-202611230200")
    assert url.endswith("#logsV2:log-groups/log-group/$252Faws$252Fparallelcluster$252Fdemo-202611230200")


def test_an_endpoint_of_ones_own_is_kept() -> None:
    place = AWS | {"endpoint_url": "http://127.0.0.1:4566/"}
    assert CloudWatchDashboardLink().format_link(**place, dashboard="d").startswith("http://127.0.0.1:4566/?Action=")
    assert "logGroupName=%2Faws" in CloudWatchLogsLink().format_link(**place, log_group="/aws/x")


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ([], None),
        (["demo-202611230200", "demo-202611220200"], "demo-202611230200"),
        (["demo-2-202611230200"], None),
        (["demo-2-202611230200", "demo-202501010000"], "demo-202501010000"),
    ],
)
def test_the_log_group_of_a_cluster(groups: list[str], found: str | None) -> None:
    answered = [{"logGroupName": f"/aws/parallelcluster/{group}"} for group in groups]
    assert log_group_name("demo", answered) == (found and f"/aws/parallelcluster/{found}")
