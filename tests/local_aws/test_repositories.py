"""FSx for Lustre: what moto does not tell of a file system, links to S3, and the tasks that export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import MakeFileSystem
from tests.local_aws.conftest import until

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion


@pytest.fixture
def fsx(region: LocalRegion) -> Any:
    return region.client("fsx")


def start(fsx: Any, file_system_id: str, path: str) -> str:
    answer = fsx.create_data_repository_task(
        Type="EXPORT_TO_REPOSITORY", FileSystemId=file_system_id, Paths=[path], Report={"Enabled": False}
    )
    task_id: str = answer["DataRepositoryTask"]["TaskId"]
    return task_id


def task(fsx: Any, task_id: str) -> dict[str, Any]:
    (found,) = fsx.describe_data_repository_tasks(TaskIds=[task_id])["DataRepositoryTasks"]
    return dict(found)


def test_a_file_system_tells_its_state_and_what_it_is_linked_to(fsx: Any, linked_file_system: MakeFileSystem) -> None:
    file_system_id = linked_file_system("nobodys", ImportPath="s3://lab", ExportPath="s3://lab/out")
    (described,) = fsx.describe_file_systems(FileSystemIds=[file_system_id])["FileSystems"]
    link = described["LustreConfiguration"]["DataRepositoryConfiguration"]
    assert described["Lifecycle"] == "AVAILABLE"
    assert (link["ImportPath"], link["ExportPath"]) == ("s3://lab", "s3://lab/out")
    assert fsx.describe_data_repository_associations()["Associations"] == []


def test_what_is_not_linked_is_not_exported(fsx: Any, linked_file_system: MakeFileSystem) -> None:
    with pytest.raises(ClientError, match=r"BadRequest.* runs/1 is not in a data repository association"):
        start(fsx, linked_file_system("nobodys"), "runs/1")
    with pytest.raises(ClientError, match="FileSystemNotFound"):
        start(fsx, "fs-00000000", "runs/1")


def test_a_task_that_is_over_says_how(fsx: Any, linked_file_system: MakeFileSystem) -> None:
    task_id = start(fsx, linked_file_system("nobodys", ExportPath="s3://lab/out"), "runs/1")
    until(lambda: task(fsx, task_id)["Lifecycle"] == "FAILED")
    assert task(fsx, task_id)["Status"]["TotalCount"] == 0
    with pytest.raises(ClientError, match="DataRepositoryTaskEnded"):
        fsx.cancel_data_repository_task(TaskId=task_id)
    for ask in (fsx.cancel_data_repository_task, lambda TaskId: task(fsx, TaskId)):
        with pytest.raises(ClientError, match="DataRepositoryTaskNotFound"):
            ask(TaskId="task-00000000000000000")
