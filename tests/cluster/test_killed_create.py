"""A task that creates a cluster is killed, at any moment, and tried again: there is one stack, as it was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hpc.cluster.operators import ParallelClusterCreateOperator
from tests.local_aws.conftest import until
from workshop import ROOT

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.region, pytest.mark.pcluster, pytest.mark.usefixtures("connections", "parallelcluster")]


def processes_of(name: str) -> list[list[str]]:
    """Return the command lines of the `pcluster` that creates a cluster, and of whatever it has started for it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "create-cluster" in command and name in command:
            found.append(command)
    return found


def stacks_of(region: LocalRegion, name: str) -> list[dict[str, Any]]:
    """Return every stack that ever bore the name."""
    pages = region.client("cloudformation").get_paginator("list_stacks").paginate()
    return [stack for page in pages for stack in page["StackSummaries"] if stack["StackName"] == name]


def configurations_of(region: LocalRegion, name: str) -> dict[str, str]:
    """Return the configurations that ParallelCluster keeps of clusters of this name, by their place in its bucket."""
    s3 = region.client("s3")
    kept = {}
    for bucket in s3.list_buckets()["Buckets"]:
        for item in s3.list_objects_v2(Bucket=bucket["Name"]).get("Contents", []):
            if f"/clusters/{name}-" in item["Key"] and item["Key"].endswith("/cluster-config.yaml"):
                place = item["Key"].rpartition("/configs/")[0]
                kept[place] = s3.get_object(Bucket=bucket["Name"], Key=item["Key"])["Body"].read().decode()
    return kept


def has_said_what_it_created(process: subprocess.Popen[str]) -> bool:
    assert process.stdout is not None
    line = process.stdout.readline()  # of its log, unless it is the answer
    return line.startswith("{") and bool(json.loads(line)["stack_id"])


MOMENTS: dict[str, Callable[[LocalRegion, str, subprocess.Popen[str]], object]] = {
    "begun": lambda region, name, process: processes_of(name),
    "uploaded": lambda region, name, process: configurations_of(region, name),
    "asked": lambda region, name, process: stacks_of(region, name),
    "answered": lambda region, name, process: has_said_what_it_created(process),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_creation_is_gone_on_with(
    moment: str,
    region: LocalRegion,
    config: str,
    airflow_connections: dict[str, str],
    drive: Callable[[Any], Any],
    tmp_path: Path,
) -> None:
    name = f"killed-{moment}"
    file = tmp_path / "config.yaml"
    file.write_text(config, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.creating", name, str(file)],
        cwd=ROOT,
        env={**os.environ, **airflow_connections, "PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or MOMENTS[moment](region, name, process), 120)
        assert process.poll() is None, "it has ended before it could be killed"
    finally:
        process.kill()
        process.communicate()
    until(lambda: not processes_of(name), 10)
    before = stacks_of(region, name)
    kept = configurations_of(region, name)

    create = ParallelClusterCreateOperator(
        task_id="create_cluster", cluster_name=name, cluster_config=config, wait_for_completion=False
    )
    created = drive(create)

    assert created["adopted"] is bool(before)
    if moment in {"asked", "answered"}:
        assert created["adopted"]
        assert configurations_of(region, name) == kept, "an adopted cluster is not touched"
    (stack,) = stacks_of(region, name)
    assert stack["StackId"] == created["stack_id"]
    described = region.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    place = {each["ParameterKey"]: each["ParameterValue"] for each in described["Parameters"]}[
        "ArtifactS3RootDirectory"
    ]
    assert yaml.safe_load(configurations_of(region, name)[place]) == yaml.safe_load(config)
    region.client("cloudformation").delete_stack(StackName=name)
