"""Exports that FSx for Lustre does by itself, to the S3 prefix that a folder of it is linked to."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hpc.cluster.delete_operator import ParallelClusterDeleteOperator
from hpc.cluster.operators import ParallelClusterCreateOperator
from hpc.errors import ConfigurationError, DeadlineExceededError, ExportError
from hpc.head_node.address import find_head_node
from hpc.results import operators
from hpc.results.operators import ResultsToS3Operator
from hpc.results.receipt import require_verified
from hpc.results.repository import find_repository
from tests.cluster.conftest import TaskInstance, config, driver, lines, site
from tests.conftest import MakeFileSystem
from tests.results.conftest import TaskInstance as ExportTask
from tests.slurm.conftest import on_head_node

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

__all__ = ["config", "lines", "site"]

CLUSTER = "linked"


@pytest.fixture
def bucket(region: LocalRegion) -> str:
    """An empty bucket of the region."""
    name = f"lab-{secrets.token_hex(4)}"
    region.client("s3").create_bucket(Bucket=name)
    return name


@pytest.mark.region
def test_a_file_system_that_is_linked_as_a_whole_exports_below_that_prefix(
    region: LocalRegion, linked_file_system: MakeFileSystem
) -> None:
    linked_file_system("old", ImportPath="s3://lab", ExportPath="s3://lab/a/b/")
    found = find_repository(region.client("fsx"), "old", "/fsx/runs/1", "/fsx")
    assert (found.path, found.bucket, found.prefix, found.root) == ("runs/1", "lab", "a/b/runs/1", "a/b")
    at_the_top = find_repository(region.client("fsx"), "old", "/fsx", "/fsx")
    assert (at_the_top.path, at_the_top.prefix) == ("", "a/b")


@pytest.mark.region
def test_what_is_not_linked_is_refused_before_anything_is_hashed(
    region: LocalRegion, linked_file_system: MakeFileSystem
) -> None:
    fsx = region.client("fsx")
    linked_file_system("plain")
    with pytest.raises(
        ConfigurationError, match=r"/runs/1 of file system fs-\w+ is not linked to S3 \(linked is nothing"
    ):
        find_repository(fsx, "plain", "/fsx/runs/1", "/fsx")
    with pytest.raises(ConfigurationError, match="cluster nobodys has 0 file systems"):
        find_repository(fsx, "nobodys", "/fsx/runs/1", "/fsx")
    with pytest.raises(ConfigurationError, match="/home/me is not below /fsx"):
        find_repository(fsx, "plain", "/home/me", "/fsx")


@pytest.mark.region
def test_a_link_to_a_whole_bucket_leaves_no_room_for_a_receipt(
    region: LocalRegion, linked_file_system: MakeFileSystem
) -> None:
    linked_file_system("whole", ExportPath="s3://lab")
    with pytest.raises(ConfigurationError, match=r"linked to the whole bucket lab(.|\n)*s3://lab/results"):
        find_repository(region.client("fsx"), "whole", "/fsx", "/fsx")


@pytest.mark.parametrize(
    "where", [{}, {"bucket": "b"}, {"bucket": "b", "prefix": "p", "data_repository": "/fsx"}, {"prefix": "p"}]
)
def test_exactly_one_place_is_named(where: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="either bucket and prefix or data_repository"):
        ResultsToS3Operator(task_id="export", cluster_name="c", directory="/fsx/run", patterns=["*"], **where)


@pytest.mark.region
@pytest.mark.slurm
@pytest.mark.pcluster
@pytest.mark.usefixtures("parallelcluster", "connections")
def test_a_linked_folder_is_exported_by_fsx_and_verified(
    region: LocalRegion, config: str, bucket: str, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], str]
) -> None:
    s3, drive = region.client("s3"), driver({"ti": TaskInstance()})
    configuration = yaml.safe_load(config)
    link = {"Name": "results", "FileSystemPath": "/runs", "DataRepositoryPath": f"s3://{bucket}/lab"}
    configuration["SharedStorage"][0]["FsxLustreSettings"] = {
        "StorageCapacity": 1200,
        "DeploymentType": "PERSISTENT_2",
        "PerUnitStorageThroughput": 125,
        "DataRepositoryAssociations": [link],
    }

    def export(directory: str, **arguments: Any) -> dict[str, Any]:
        operator = ResultsToS3Operator(
            task_id="export_results",
            cluster_name=CLUSTER,
            directory=directory,
            patterns=["**"],
            data_repository="/fsx",
            waiter_delay=1,
            **arguments,
        )
        returned: dict[str, Any] = driver({"ti": ExportTask()})(operator)
        return returned

    try:
        drive(
            ParallelClusterCreateOperator(
                task_id="create", cluster_name=CLUSTER, cluster_config=yaml.safe_dump(configuration), waiter_delay=1
            )
        )
        head_node = find_head_node(CLUSTER)
        on_head_node(head_node, "mkdir -p /fsx/runs/1/frames /fsx/runs/2 /fsx/else && touch /fsx/else/a /fsx/runs/2/b")
        on_head_node(head_node, "cat >/fsx/runs/1/job.out", input="it ran\n")
        on_head_node(head_node, "head -c 3000000 /dev/urandom >'/fsx/runs/1/frames/0 1.png'")
        on_head_node(head_node, "ln -s job.out /fsx/runs/1/latest")

        returned = export("/fsx/runs/1")
        assert (returned["uri"], returned["files"]) == (f"s3://{bucket}/lab/1/", 3)
        receipt = require_verified(s3, f"s3://{bucket}/lab/1/receipt.json")
        assert [file.path for file in receipt.files] == ["frames/0 1.png", "job.out", "latest"]
        assert s3.get_object(Bucket=bucket, Key="lab/1/job.out")["Body"].read() == b"it ran\n"
        assert "FSx task task-" in lines()
        assert "is SUCCEEDED: 3 of 3 files" in lines()
        assert "Read and verified 2 of 3 files" in lines(), "of a link FSx stores where it leads"
        assert "in 1 requests" in lines(), "the link's file goes the ordinary way"

        # FSx does not export again what has not changed, and S3 has lost it.
        s3.delete_object(Bucket=bucket, Key="lab/1/job.out")
        assert export("/fsx/runs/1")["verified"] is True
        assert s3.get_object(Bucket=bucket, Key="lab/1/job.out")["Body"].read() == b"it ran\n"

        with pytest.raises(
            ConfigurationError, match=r"/else of file system .* is not linked to S3 \(linked is /runs to s3:"
        ):
            export("/fsx/else")
        assert export("/fsx/runs/none", may_be_missing=True)["files"] == 0

        start = operators.start_export

        def meanwhile(*arguments: Any) -> tuple[str, bool]:
            on_head_node(head_node, "date >>/fsx/runs/1/job.out")
            return start(*arguments)

        monkeypatch.setattr(operators, "start_export", meanwhile)
        with pytest.raises(ExportError, match=r"job\.out changed while it was exported"):
            export("/fsx/runs/1")
        monkeypatch.setattr(operators, "start_export", start)
        assert export("/fsx/runs/1")["verified"] is True, "a second try ends well"

        # Somebody else's task is under way: ours comes after it.
        other = find_repository(region.client("fsx"), CLUSTER, "/fsx/runs/2", "/fsx")
        on_head_node(head_node, "cd /fsx/runs/2 && seq 3000 | xargs touch")
        before: list[str] = []

        def behind_another(*arguments: Any) -> tuple[str, bool]:
            if not before:
                before.append(start(region.client("fsx"), other)[0])
            return start(*arguments)

        monkeypatch.setattr(operators, "start_export", behind_another)
        assert export("/fsx/runs/1")["verified"] is True
        assert f"waiting for its task {before[0]}" in lines()

        # Who gives up while he waits behind another one leaves that one alone.
        before.clear()
        on_head_node(head_node, "touch /fsx/runs/2/*")
        with pytest.raises(DeadlineExceededError):
            export("/fsx/runs/1", deferrable=False, waiter_max_attempts=0)
        (theirs,) = region.client("fsx").describe_data_repository_tasks(TaskIds=before)["DataRepositoryTasks"]
        assert theirs["Lifecycle"] in {"EXECUTING", "SUCCEEDED"}
    finally:
        drive(ParallelClusterDeleteOperator(task_id="delete", cluster_name=CLUSTER, waiter_delay=1))


@pytest.mark.region
@pytest.mark.slurm
def test_what_fsx_refuses_goes_the_ordinary_way(
    region: LocalRegion,
    connections: None,
    linked_file_system: MakeFileSystem,
    bucket: str,
    lines: Callable[[], str],
) -> None:
    region.start_cluster("unmounted", nodes=1, cpus=1)  # it has no file system of FSx, so the export task fails
    linked_file_system("unmounted", ExportPath=f"s3://{bucket}/out")
    try:
        on_head_node(find_head_node("unmounted"), "mkdir -p /fsx/run && echo it ran >/fsx/run/job.out")
        operator = ResultsToS3Operator(
            task_id="export_results",
            cluster_name="unmounted",
            directory="/fsx/run",
            patterns=["*"],
            data_repository="/fsx",
            deferrable=False,
            waiter_delay=1,
        )
        returned = operator.execute({"ti": ExportTask()})  # type: ignore[typeddict-item]
        assert (returned["uri"], returned["files"]) == (f"s3://{bucket}/out/run/", 1)
        assert "FSx did not export all of /fsx/run; the rest goes the ordinary way. task task-" in lines()
    finally:
        region.stop_cluster("unmounted")
