"""Exports that FSx for Lustre does by itself, to the S3 prefix that a folder of it is linked to."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hpc.cluster.operators import ParallelClusterCreateOperator, ParallelClusterDeleteOperator
from hpc.errors import ConfigurationError, ExportError, ReceiptMismatchError
from hpc.head_node.address import find_head_node
from hpc.results import operators
from hpc.results.operators import ResultsToS3Operator
from hpc.results.receipt import require_verified
from hpc.results.repository import RepositoryTask, find_repository
from tests.cluster.conftest import TaskInstance, config, driver, site
from tests.results.conftest import TaskInstance as ExportTask
from tests.slurm.conftest import on_head_node

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

__all__ = ["config", "site"]

CLUSTER = "linked"


@pytest.fixture
def bucket(region: LocalRegion) -> str:
    """An empty bucket of the region."""
    name = f"lab-{secrets.token_hex(4)}"
    region.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def linked_file_system(region: LocalRegion) -> Iterator[Callable[..., Any]]:
    """Return the function that makes a file system of a cluster, with FSx's own call."""
    fsx, made = region.client("fsx"), list[str]()

    def make(cluster: str, **lustre: str) -> None:
        answer = fsx.create_file_system(
            FileSystemType="LUSTRE",
            StorageCapacity=1200,
            SubnetIds=[region.compute_subnet_id],
            LustreConfiguration=lustre,
            Tags=[{"Key": "parallelcluster:cluster-name", "Value": cluster}],
        )
        made.append(answer["FileSystem"]["FileSystemId"])

    yield make
    for file_system_id in made:
        fsx.delete_file_system(FileSystemId=file_system_id)


@pytest.mark.region
def test_a_file_system_that_is_linked_as_a_whole_exports_below_that_prefix(
    region: LocalRegion, linked_file_system: Callable[..., Any]
) -> None:
    linked_file_system("old", ImportPath="s3://lab", ExportPath="s3://lab/a/b/")
    found = find_repository(region.client("fsx"), "old", "/fsx/runs/1", "/fsx")
    assert (found.path, found.bucket, found.prefix, found.root) == ("runs/1", "lab", "a/b/runs/1", "a/b")
    at_the_top = find_repository(region.client("fsx"), "old", "/fsx", "/fsx")
    assert (at_the_top.path, at_the_top.prefix) == ("", "a/b")


@pytest.mark.region
def test_what_is_not_linked_is_refused_before_anything_is_hashed(
    region: LocalRegion, linked_file_system: Callable[..., Any]
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


@pytest.mark.parametrize("where", [{}, {"bucket": "b", "prefix": "p", "data_repository": "/fsx"}])
def test_exactly_one_place_is_named(where: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="either bucket or data_repository"):
        ResultsToS3Operator(task_id="export", cluster_name="c", directory="/fsx/run", patterns=["*"], **where)


@pytest.mark.parametrize(("lifecycle", "failed"), [("FAILED", 0), ("CANCELED", 0), ("SUCCEEDED", 1)])
def test_what_fsx_did_not_export_is_an_error(lifecycle: str, failed: int) -> None:
    task = RepositoryTask("task-1", lifecycle, 3, 2, failed, "no access to the bucket", "s3://lab/.fsx-reports")
    with pytest.raises(ExportError, match=r"FSx did not export /fsx/run: task task-1(.|\n)*no access to the bucket"):
        task.require_success("/fsx/run")


@pytest.mark.region
@pytest.mark.slurm
@pytest.mark.pcluster
@pytest.mark.usefixtures("parallelcluster", "connections")
def test_a_linked_folder_is_exported_by_fsx_and_verified(
    region: LocalRegion, config: str, bucket: str, monkeypatch: pytest.MonkeyPatch
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

        returned = export("/fsx/runs/1")
        assert (returned["uri"], returned["files"]) == (f"s3://{bucket}/lab/1/", 2)
        receipt = require_verified(s3, f"s3://{bucket}/lab/1/receipt.json")
        assert [file.path for file in receipt.files] == ["frames/0 1.png", "job.out"]
        assert s3.get_object(Bucket=bucket, Key="lab/1/job.out")["Body"].read() == b"it ran\n"

        with pytest.raises(
            ConfigurationError, match=r"/else of file system .* is not linked to S3 \(linked is /runs to s3:"
        ):
            export("/fsx/else")

        start = operators.start_export

        def meanwhile(*arguments: Any) -> str:
            on_head_node(head_node, "date >>/fsx/runs/1/job.out")
            return start(*arguments)

        monkeypatch.setattr(operators, "start_export", meanwhile)
        with pytest.raises(ReceiptMismatchError, match=r"1 of 2 files are not in S3(.|\n)*job\.out"):
            export("/fsx/runs/1")
        monkeypatch.setattr(operators, "start_export", start)
        assert export("/fsx/runs/1")["verified"] is True, "a second try ends well"

        for item in s3.list_objects_v2(Bucket=bucket)["Contents"]:
            s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)
        with pytest.raises(ExportError, match=r"FSx did not export /fsx/runs/2: .* FAILED, 1 of 1 files failed"):
            export("/fsx/runs/2")
    finally:
        drive(ParallelClusterDeleteOperator(task_id="delete", cluster_name=CLUSTER, waiter_delay=1))
