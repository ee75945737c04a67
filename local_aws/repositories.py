"""The data repositories of FSx for Lustre: folders of a file system that are linked to S3, and tasks that export them.

moto knows neither. A task here copies what the cluster's machines have written below `/fsx` into moto's S3, from a
thread, and counts as FSx does: https://docs.aws.amazon.com/fsx/latest/APIReference/API_DataRepositoryTask.html
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

from moto.core.common_models import CloudFormationModel
from moto.core.exceptions import JsonRESTError
from moto.fsx.exceptions import FileSystemNotFound
from moto.fsx.models import FileSystem
from moto.fsx.responses import FSxResponse
from moto.s3.models import s3_backends
from typing_extensions import override

from local_aws.cloudformation import Resource
from local_aws.patching import add, replace

Json = dict[str, Any]


class Machines(Protocol):
    """Who knows where the files of a cluster's file system are."""

    def lustre_directory(self, cluster_name: str) -> Path | None:
        """Answer the directory that is the file system of a cluster; None without one."""
        ...


class DataRepositoryAssociation(Resource, CloudFormationModel):
    """The link of a folder of a file system to a prefix of S3."""

    type_name = "AWS::FSx::DataRepositoryAssociation"
    existing: dict[str, DataRepositoryAssociation] = {}  # noqa: RUF012 - one for all regions of this process: there is one

    @override
    def create(self) -> None:
        self.resource_id = f"dra-{uuid.uuid4().hex[:17]}"
        self.existing[self.resource_id] = self

    @override
    def get_cfn_attribute(self, attribute_name: str) -> Any:
        return {"AssociationId": self.resource_id, "ResourceARN": self._arn}[attribute_name]

    @property
    def _arn(self) -> str:
        place = f"{self.properties['FileSystemId']}/{self.resource_id}"
        return f"arn:aws:fsx:{self.region}:{self.account}:association/{place}"

    @override
    def delete(self, account: str, region: str) -> None:
        self.existing.pop(self.resource_id, None)

    def describe(self) -> Json:
        """Answer as `DescribeDataRepositoryAssociations` does."""
        names = ("FileSystemId", "FileSystemPath", "DataRepositoryPath", "BatchImportMetaDataOnCreate", "S3")
        return {
            "AssociationId": self.resource_id,
            "ResourceARN": self._arn,
            "Lifecycle": "AVAILABLE",
            **{name: self.properties[name] for name in names if name in self.properties},
        }


@dataclass
class ExportTask:
    """A data repository task: its paths, relative to the file system's root, and how far it is."""

    id: str
    file_system_id: str
    paths: list[str]
    report: Json
    created: float = field(default_factory=time.time)
    ended: float | None = None
    lifecycle: str = "PENDING"
    total: int = 0
    succeeded: int = 0
    failures: list[str] = field(default_factory=list)

    def describe(self) -> Json:
        """Answer as `DescribeDataRepositoryTasks` does; while it is pending, nothing is counted."""
        status = {"TotalCount": self.total, "SucceededCount": self.succeeded, "FailedCount": len(self.failures)}
        answer = {
            "TaskId": self.id,
            "Lifecycle": self.lifecycle,
            "Type": "EXPORT_TO_REPOSITORY",
            "CreationTime": self.created,
            "FileSystemId": self.file_system_id,
            "Paths": self.paths,
            "Report": self.report,
        }
        if self.lifecycle != "PENDING":
            answer["Status"] = status
        if self.ended:
            answer["EndTime"] = self.ended
        if self.failures:
            answer["FailureDetails"] = {"Message": self.failures[0]}
        return answer


class Repositories:
    """Starts the tasks and answers questions about them and about the links."""

    def __init__(self, machines: Machines, account: str) -> None:
        self._machines = machines
        self._account = account
        self._tasks: dict[str, ExportTask] = {}

    def links(self, file_system: Any) -> dict[PurePosixPath, str]:
        """Answer the S3 address of each linked folder."""
        found = {
            PurePosixPath(link.properties["FileSystemPath"]): str(link.properties["DataRepositoryPath"])
            for link in list(DataRepositoryAssociation.existing.values())
            if link.properties["FileSystemId"] == file_system.file_system_id
        }
        if whole := (file_system.lustre_configuration or {}).get("ExportPath"):
            found[PurePosixPath("/")] = str(whole)
        return found

    def start(self, file_system: Any, request: Json) -> ExportTask:
        """Start an export. Raises what FSx answers to a path that is not linked."""
        links, paths = self.links(file_system), request.get("Paths") or [""]
        for path in paths:
            if not any((PurePosixPath("/") / path).is_relative_to(linked) for linked in links):
                raise JsonRESTError("BadRequest", f"The path {path} is not in a data repository association.")
        task_id = f"task-{uuid.uuid4().hex[:17]}"
        task = ExportTask(task_id, file_system.file_system_id, paths, request.get("Report") or {})
        self._tasks[task_id] = task
        tags = {tag["Key"]: tag["Value"] for tag in file_system.to_dict().get("Tags", [])}
        root = self._machines.lustre_directory(tags.get("parallelcluster:cluster-name", ""))
        threading.Thread(target=self._run, args=(task, links, root), daemon=True).start()
        return task

    def task(self, task_id: str) -> ExportTask:
        """Answer a task by its id."""
        if task_id not in self._tasks:
            raise JsonRESTError("DataRepositoryTaskNotFound", f"The data repository task {task_id} does not exist.")
        return self._tasks[task_id]

    def cancel(self, task_id: str) -> ExportTask:
        """End a task that is not over."""
        task = self.task(task_id)
        if task.ended:
            raise JsonRESTError("DataRepositoryTaskEnded", f"The data repository task {task_id} has ended.")
        task.lifecycle = "CANCELING"
        return task

    def _run(self, task: ExportTask, links: dict[PurePosixPath, str], root: Path | None) -> None:
        if task.lifecycle == "PENDING":
            task.lifecycle = "EXECUTING"
        files = [file for path in task.paths for file in _files(root / path)] if root else []
        task.total = len(files)
        for file in files:
            if task.lifecycle == "CANCELING":
                break
            try:
                self._export(PurePosixPath("/") / file.relative_to(str(root)), file, links)
                task.succeeded += 1
            except Exception as error:
                task.failures.append(f"{file.relative_to(str(root))}: {error}")
        task.ended = time.time()
        if task.lifecycle == "CANCELING":
            task.lifecycle = "CANCELED"
        else:
            task.lifecycle = "FAILED" if task.failures or root is None else "SUCCEEDED"

    def _export(self, path: PurePosixPath, file: Path, links: dict[PurePosixPath, str]) -> None:
        folder = max((linked for linked in links if path.is_relative_to(linked)), key=lambda each: len(each.parts))
        place = urlsplit(links[folder])
        prefix = place.path.strip("/")
        key = f"{prefix}/{path.relative_to(folder)}" if prefix else str(path.relative_to(folder))
        backend: Any = s3_backends[self._account]["aws"]
        backend.put_object(place.netloc, key, file.read_bytes())


def _files(path: Path) -> Iterator[Path]:
    if path.is_file() and not path.is_symlink():
        yield path
    for file in sorted(path.rglob("*")):
        if file.is_file() and not file.is_symlink():
            yield file


def install(machines: Machines, account: str) -> None:
    """Give moto's FSx the operations that it lacks."""
    repositories = Repositories(machines, account)

    def file_system(response: Any, file_system_id: str) -> Any:
        found = response.fsx_backend.file_systems.get(file_system_id)
        if found is None:
            raise FileSystemNotFound(file_system_id)
        return found

    def describe_data_repository_associations(self: Any) -> str:
        filters = json.loads(self.body).get("Filters") or []
        wanted = {value for one in filters if one["Name"] == "file-system-id" for value in one["Values"]}
        found = [link.describe() for link in list(DataRepositoryAssociation.existing.values())]
        return json.dumps({"Associations": [one for one in found if not wanted or one["FileSystemId"] in wanted]})

    def create_data_repository_task(self: Any) -> str:
        request = json.loads(self.body)
        task = repositories.start(file_system(self, request["FileSystemId"]), request)
        return json.dumps({"DataRepositoryTask": task.describe()})

    def describe_data_repository_tasks(self: Any) -> str:
        tasks = [repositories.task(task_id) for task_id in json.loads(self.body).get("TaskIds") or []]
        return json.dumps({"DataRepositoryTasks": [task.describe() for task in tasks]})

    def cancel_data_repository_task(self: Any) -> str:
        task = repositories.cancel(json.loads(self.body)["TaskId"])
        return json.dumps({"Lifecycle": task.lifecycle, "TaskId": task.id})

    for operation in (
        describe_data_repository_associations,
        create_data_repository_task,
        describe_data_repository_tasks,
        cancel_data_repository_task,
    ):
        add(FSxResponse, operation.__name__, operation)

    original = FileSystem.to_dict

    def to_dict(self: Any) -> Any:
        """Tell the link of a whole file system where AWS does."""
        described = original(self)
        lustre = dict(described.get("LustreConfiguration") or {})
        link = {name: lustre.pop(name) for name in ("ImportPath", "ExportPath") if name in lustre}
        if link:
            lustre["DataRepositoryConfiguration"] = {"Lifecycle": "AVAILABLE", **link}
            described = {**described, "LustreConfiguration": lustre}
        return described

    replace(FileSystem, "to_dict", to_dict)
