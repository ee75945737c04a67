"""The data repositories of FSx for Lustre: folders of a file system that are linked to S3, and tasks that export them.

moto knows neither. A task here copies what the cluster's machines have written below `/fsx` into moto's S3, from a
thread, and counts and refuses as FSx does: https://docs.aws.amazon.com/fsx/latest/APIReference/API_DataRepositoryTask.html
"""

from __future__ import annotations

import json
import os
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

from local_aws.cloudformation import FsxFileSystem, Resource
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

    @property
    def exports_by_itself(self) -> bool:
        """Whether FSx exports whatever changes, as it changes; here nothing does."""
        return bool(((self.properties.get("S3") or {}).get("AutoExportPolicy") or {}).get("Events"))

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
    """Starts the tasks and answers questions about them and about the links. Methods may be called from any thread."""

    def __init__(self, machines: Machines, account: str) -> None:
        self._machines = machines
        self._account = account
        self._tasks: dict[str, ExportTask] = {}
        self._lock = threading.Lock()
        #: What was exported as it is: file system, path, time of change. FSx does not export it again.
        self._exported: set[tuple[str, str, int]] = set()

    def links(self, file_system: Any) -> dict[PurePosixPath, str]:
        """Answer the S3 address of each linked folder."""
        found = {
            PurePosixPath(link.properties["FileSystemPath"]): str(link.properties["DataRepositoryPath"])
            for link in _links_of(file_system.file_system_id)
        }
        if whole := (file_system.lustre_configuration or {}).get("ExportPath"):
            found[PurePosixPath("/")] = str(whole)
        return found

    def start(self, file_system: Any, request: Json) -> ExportTask:
        """Start an export. Raises what FSx answers where it takes none."""
        links, paths = self.links(file_system), request.get("Paths") or [""]
        for path in paths:
            if not any((PurePosixPath("/") / path).is_relative_to(linked) for linked in links):
                raise JsonRESTError("BadRequest", f"The path {path} is not in a data repository association.")
        if any(link.exports_by_itself for link in _links_of(file_system.file_system_id)):
            raise JsonRESTError("BadRequest", "Disable automatic export before you create an export task.")
        task_id = f"task-{uuid.uuid4().hex[:17]}"
        task = ExportTask(task_id, file_system.file_system_id, paths, request.get("Report") or {})
        with self._lock:
            if self.active(task.file_system_id):
                raise JsonRESTError(
                    "DataRepositoryTaskExecuting", "An existing data repository task is currently executing."
                )
            self._tasks[task_id] = task
        tags = {tag["Key"]: tag["Value"] for tag in file_system.to_dict().get("Tags", [])}
        root = self._machines.lustre_directory(tags.get("parallelcluster:cluster-name", ""))
        threading.Thread(target=self._run, args=(task, links, root), daemon=True).start()
        return task

    def active(self, file_system_id: str) -> list[ExportTask]:
        """Answer the tasks of a file system that are not over."""
        return [task for task in self._tasks.values() if task.file_system_id == file_system_id and not task.ended]

    def find(self, request: Json) -> list[ExportTask]:
        """Answer the tasks of these ids, or those that the filters let through."""
        if task_ids := request.get("TaskIds"):
            return [self.task(task_id) for task_id in task_ids]
        filters = {one["Name"]: one["Values"] for one in request.get("Filters") or []}
        asked = {"file-system-id": "file_system_id", "task-lifecycle": "lifecycle"}
        return [
            task
            for task in list(self._tasks.values())
            if all(getattr(task, asked[name]) in values for name, values in filters.items())
        ]

    def task(self, task_id: str) -> ExportTask:
        """Answer a task by its id."""
        if task_id not in self._tasks:
            raise JsonRESTError("DataRepositoryTaskNotFound", f"The data repository task {task_id} does not exist.")
        return self._tasks[task_id]

    def cancel(self, task_id: str) -> ExportTask:
        """End a task that is not over."""
        task = self.task(task_id)
        with self._lock:
            if task.ended:
                raise JsonRESTError("DataRepositoryTaskEnded", f"The data repository task {task_id} has ended.")
            task.lifecycle = "CANCELING"
        return task

    def _run(self, task: ExportTask, links: dict[PurePosixPath, str], root: Path | None) -> None:
        with self._lock:
            if task.lifecycle == "PENDING":
                task.lifecycle = "EXECUTING"
        try:
            self._export_all(task, links, root)
        except OSError as error:
            task.failures.append(str(error))
        with self._lock:
            task.ended = time.time()
            over = "FAILED" if task.failures else "SUCCEEDED"
            task.lifecycle = "CANCELED" if task.lifecycle == "CANCELING" else over

    def _export_all(self, task: ExportTask, links: dict[PurePosixPath, str], root: Path | None) -> None:
        if root is None or not all((root / path).exists() for path in task.paths):
            raise FileNotFoundError("A path of the task does not exist on the file system.")
        files = [file for path in task.paths for file in _files(root / path)]
        task.total = len(files)
        for file in files:
            if task.lifecycle == "CANCELING":
                return
            path = str(file.relative_to(root))
            version = (task.file_system_id, path, file.lstat().st_mtime_ns)
            try:
                if version not in self._exported:
                    self._export(PurePosixPath("/") / path, file, links)
            except Exception as error:
                task.failures.append(f"{path}: {error}")
            else:
                self._exported.add(version)
                task.succeeded += 1

    def _export(self, path: PurePosixPath, file: Path, links: dict[PurePosixPath, str]) -> None:
        folder = max((linked for linked in links if path.is_relative_to(linked)), key=lambda each: len(each.parts))
        place = urlsplit(links[folder])
        key = "/".join([*PurePosixPath(place.path.strip("/")).parts, *path.relative_to(folder).parts])
        # Of a symbolic link, FSx stores where it leads.
        data = os.fsencode(file.readlink()) if file.is_symlink() else file.read_bytes()
        backend: Any = s3_backends[self._account]["aws"]
        backend.put_object(place.netloc, key, data)


def _links_of(file_system_id: str) -> list[DataRepositoryAssociation]:
    existing = list(DataRepositoryAssociation.existing.values())
    return [link for link in existing if link.properties["FileSystemId"] == file_system_id]


def _files(path: Path) -> Iterator[Path]:
    for file in [path, *sorted(path.rglob("*"))]:
        if file.is_symlink() or file.is_file():
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
        found = repositories.find(json.loads(self.body))
        return json.dumps({"DataRepositoryTasks": [task.describe() for task in found]})

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

    _tell_what_file_systems_do(repositories)


def _tell_what_file_systems_do(repositories: Repositories) -> None:
    """A file system that FSx works on cannot be deleted, and one that is linked as a whole says so."""
    delete = FsxFileSystem.delete

    def delete_unless_busy(self: Any, account: str, region: str) -> None:
        if repositories.active(self.resource_id):
            raise RuntimeError(f"Cannot delete {self.resource_id} while a data repository task is executing.")
        delete(self, account, region)

    replace(FsxFileSystem, "delete", delete_unless_busy)

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
