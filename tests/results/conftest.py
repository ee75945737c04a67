"""S3 of moto, and a real sshd as head node and as site on-premises: all that an export needs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from hpc.results.operators import ResultsToS3Operator
from tests.head_node.conftest import Sshd, connection, sshd
from tests.results.strict_s3 import StrictS3, strict_s3

__all__ = ["connection", "sshd"]


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def strict(endpoint: str) -> Iterator[StrictS3]:
    with strict_s3(endpoint) as server:
        yield server


@pytest.fixture
def aws(strict: StrictS3, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint, with credentials for it in Airflow's connection and in the environment."""
    set_aws_connection(monkeypatch, strict.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return strict.url


def set_aws_connection(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    value = {
        "conn_type": "aws",
        "login": "testing",
        "password": "testing",  # pragma: allowlist secret
        "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(value))


@pytest.fixture
def s3(aws: str) -> Any:
    return boto3.client("s3", endpoint_url=aws)


@pytest.fixture
def bucket(s3: Any, strict: StrictS3) -> str:
    name = f"results-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    strict.puts.clear()
    return name


@dataclass
class TaskInstance:
    """What a task says to its task instance."""

    returned: dict[str, Any] = field(default_factory=dict)
    pushed: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    dag_id: str = "simulation"
    run_id: str = "manual__1"
    map_index: int = -1
    max_tries: int = 0

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def get_task_states(self, dag_id: str, run_ids: list[str], task_ids: list[str]) -> dict[str, Any]:
        return {run_ids[0]: {task: state for task, state in self.states.items() if task in task_ids}}

    def xcom_pull(self, task_ids: str) -> Any:
        return self.returned.get(task_ids)


@dataclass
class Export:
    """A folder on the head node, and the task that exports it."""

    directory: Path
    records: Path
    bucket: str
    sshd: Sshd
    ssh_conn_id: str
    ti: TaskInstance = field(default_factory=TaskInstance)

    def write(self, path: str, content: bytes | str) -> Path:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def operator(self, patterns: list[str], **arguments: Any) -> ResultsToS3Operator:
        defaults: dict[str, Any] = {
            "directory": str(self.directory),
            "deferrable": False,
            "waiter_delay": 1,
            "waiter_max_attempts": 120,
        }
        return ResultsToS3Operator(
            task_id="export_results",
            cluster_name=self.sshd.address.cluster_name,
            head_node=self.sshd.address.as_dict(),
            patterns=patterns,
            bucket=self.bucket,
            prefix="sim/run",
            ssh_conn_id=self.ssh_conn_id,
            **{**defaults, **arguments},
        )

    def run(self, patterns: list[str], **arguments: Any) -> dict[str, Any]:
        return self.operator(patterns, **arguments).execute({"ti": self.ti})  # type: ignore[typeddict-item]


@pytest.fixture
def export(tmp_path: Path, bucket: str, sshd: Sshd, connection: str, monkeypatch: pytest.MonkeyPatch) -> Export:
    directory, records = tmp_path / "run", tmp_path / "records"
    directory.mkdir()
    # Not in the home directory of whoever runs the tests.
    monkeypatch.setattr("hpc.results.operators.record_of", lambda *_: str(records))
    return Export(directory, records, bucket, sshd, connection)
