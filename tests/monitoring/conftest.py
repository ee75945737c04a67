"""CloudWatch of moto."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.cloudwatch.models import cloudwatch_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    value = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",  # pragma: allowlist secret
        "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(value))
    return endpoint


def client(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",  # pragma: allowlist secret
    )


@dataclass
class Alarms:
    """A cluster's alarms in CloudWatch, as ParallelCluster names them."""

    cloudwatch: Any
    cluster: str

    def name(self, suffix: str) -> str:
        return f"{self.cluster}-{suffix}"

    def make(self, *suffixes: str) -> list[str]:
        for suffix in suffixes:
            self.cloudwatch.put_metric_alarm(
                AlarmName=self.name(suffix),
                Namespace="AWS/EC2",
                MetricName="CPUUtilization",
                Statistic="Average",
                Period=60,
                EvaluationPeriods=1,
                Threshold=90,
                ComparisonOperator="GreaterThanThreshold",
            )
        return [self.name(suffix) for suffix in suffixes]

    def make_composite(self, suffix: str, of: str) -> str:
        """Make one in moto itself: its PutCompositeAlarm does not exist."""
        backend: Any = cloudwatch_backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
        nothing = dict.fromkeys(("namespace", "metric_name", "comparison_operator", "statistic", "description"))
        numbers = {"evaluation_periods": 1, "period": 60, "threshold": 0}
        rule = f'ALARM("{self.name(of)}")'
        backend.put_metric_alarm(self.name(suffix), **nothing, **numbers, dimensions=[], alarm_actions=[], rule=rule)
        return self.name(suffix)

    def set(self, suffix: str, state: str, reason: str = "the test says so") -> None:
        self.cloudwatch.set_alarm_state(AlarmName=self.name(suffix), StateValue=state, StateReason=reason)


@pytest.fixture
def alarms(aws: str) -> Alarms:
    return Alarms(client("cloudwatch", aws), f"demo-{secrets.token_hex(4)}")


@dataclass
class TaskInstance:
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value
