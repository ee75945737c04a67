"""The data repository of an FSx for Lustre file system: the S3 prefix that it is linked to, and the task that exports.

FSx copies what has changed below a folder to the linked prefix by itself, with no head node in between. What it has
copied is then read and verified; whatever it has not, or not as it is on the cluster, goes the ordinary way.

https://docs.aws.amazon.com/fsx/latest/LustreGuide/export-data-repo-task-dra.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from hpc.aws_errors import aws_errors, error_code
from hpc.errors import ConfigurationError, ThrottlingError
from hpc.results.receipt import split_uri

_REMEDY = (
    "link the folder to S3 in the cluster's template (FsxLustreSettings: DataRepositoryAssociations), or leave out"
    " export.through_data_repository"
)
#: The tag that ParallelCluster puts on all that it makes.
CLUSTER_TAG = "parallelcluster:cluster-name"
#: Where FSx writes which files it could not export, below the linked prefix.
REPORTS = ".fsx-reports"


@dataclass(frozen=True)
class Repository:
    """Where FSx puts a folder: `path` is relative to the root of the file system, `prefix` is the folder's in S3."""

    file_system_id: str
    path: str
    bucket: str
    prefix: str
    #: The linked prefix itself.
    root: str
    is_automatic: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Link:
    """A folder of a file system, by its path from the root, and the S3 address that it is linked to."""

    path: PurePosixPath
    uri: str
    #: FSx exports whatever changes as it changes, and takes no export task.
    is_automatic: bool = False


def fsx_client(aws_conn_id: str | None, region_name: str | None) -> Any:
    """Return an FSx client of an Airflow connection."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsGenericHook

    hook: AwsGenericHook[Any] = AwsGenericHook(aws_conn_id=aws_conn_id, region_name=region_name, client_type="fsx")
    return hook.get_conn()


def find_repository(fsx: Any, cluster_name: str, directory: str, mounted_at: str) -> Repository:
    """Return where FSx exports a folder of a cluster to.

    :param directory: the folder, an absolute path on the head node
    :param mounted_at: where the file system of the cluster's stack is mounted
    :raises ConfigurationError: the cluster has no such file system, or nothing links the folder to S3
    """
    folder = PurePosixPath(directory)
    if not folder.is_relative_to(mounted_at):
        raise ConfigurationError(
            f"{directory} is not below {mounted_at}", remedy="name where its file system is mounted"
        )
    path = PurePosixPath("/") / folder.relative_to(mounted_at)
    with aws_errors():
        file_system = _file_system_of(fsx, cluster_name)
        file_system_id = str(file_system["FileSystemId"])
        links = [*_associations(fsx, file_system_id), *_export_path(file_system)]
    linked = [link for link in links if path.is_relative_to(link.path)]
    if not linked:
        known = ", ".join(f"{link.path} to {link.uri}" for link in links) or "nothing"
        raise ConfigurationError(
            f"{path} of file system {file_system_id} is not linked to S3 (linked is {known})", remedy=_REMEDY
        )
    link = max(linked, key=lambda each: len(each.path.parts))
    bucket, root = _split(link.uri)
    prefix = "/".join(filter(None, [root, *path.relative_to(link.path).parts]))
    if not prefix:
        raise ConfigurationError(
            f"{path} of file system {file_system_id} is linked to the whole bucket {bucket}",
            remedy=f"link it to a folder of the bucket, for example s3://{bucket}/results",
        )
    return Repository(file_system_id, str(path)[1:], bucket, prefix, root, link.is_automatic)


def _pages(ask: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    answer = ask(**arguments)
    yield answer
    while token := answer.get("NextToken"):
        answer = ask(**arguments, NextToken=token)
        yield answer


def _file_system_of(fsx: Any, cluster_name: str) -> Mapping[str, Any]:
    found = [
        described
        for page in _pages(fsx.describe_file_systems)
        for described in page["FileSystems"]
        if {"Key": CLUSTER_TAG, "Value": cluster_name} in described.get("Tags", [])
    ]
    if len(found) != 1:
        raise ConfigurationError(
            f"cluster {cluster_name} has {len(found)} file systems of FSx for Lustre instead of one", remedy=_REMEDY
        )
    described: Mapping[str, Any] = found[0]
    return described


def _associations(fsx: Any, file_system_id: str) -> Iterator[Link]:
    chosen = [{"Name": "file-system-id", "Values": [file_system_id]}]
    for page in _pages(fsx.describe_data_repository_associations, Filters=chosen):
        for association in page["Associations"]:
            if association["Lifecycle"] in {"AVAILABLE", "UPDATING"}:
                policy = association.get("S3", {}).get("AutoExportPolicy") or {}
                path, uri = PurePosixPath(association["FileSystemPath"]), association["DataRepositoryPath"]
                yield Link(path, uri, is_automatic=bool(policy.get("Events")))


def _export_path(file_system: Mapping[str, Any]) -> Iterator[Link]:
    """Yield the link of the whole file system, which older deployment types have (`ExportPath`)."""
    configuration = file_system.get("LustreConfiguration", {}).get("DataRepositoryConfiguration") or {}
    if uri := configuration.get("ExportPath"):
        yield Link(PurePosixPath("/"), uri)


def _split(uri: str) -> tuple[str, str]:
    """Return bucket and prefix, which may be empty, of a linked address."""
    bucket, key = split_uri(f"{uri.rstrip('/')}/x")
    return bucket, key.rpartition("/")[0]


def start_export(fsx: Any, repository: Repository) -> tuple[str, bool]:
    """Let FSx export the folder; return the id of its task, and whether it is of this folder.

    FSx works on one task of a file system at a time: where one is under way, of another run or of an earlier try,
    it is that one.
    """
    from botocore.exceptions import ClientError

    report = "/".join(filter(None, [f"s3://{repository.bucket}", repository.root, REPORTS]))
    with aws_errors():
        try:
            answer = fsx.create_data_repository_task(
                Type="EXPORT_TO_REPOSITORY",
                FileSystemId=repository.file_system_id,
                Paths=[repository.path],
                Report={
                    "Enabled": True,
                    "Path": report,
                    "Format": "REPORT_CSV_20191124",
                    "Scope": "FAILED_FILES_ONLY",
                },
            )
        except ClientError as error:
            if error_code(error) != "DataRepositoryTaskExecuting":
                raise
            return _running_task(fsx, repository)
    return str(answer["DataRepositoryTask"]["TaskId"]), True


def _running_task(fsx: Any, repository: Repository) -> tuple[str, bool]:
    chosen = [
        {"Name": "file-system-id", "Values": [repository.file_system_id]},
        {"Name": "task-lifecycle", "Values": ["PENDING", "EXECUTING", "CANCELING"]},
    ]
    for page in _pages(fsx.describe_data_repository_tasks, Filters=chosen):
        for task in page["DataRepositoryTasks"]:
            return str(task["TaskId"]), repository.path in task.get("Paths", [])
    raise ThrottlingError(
        f"a task of {repository.file_system_id} was under way a moment ago", remedy="the export is tried again"
    )


def cancel_export(fsx: Any, task_id: str) -> str:
    """End a task of FSx, which would keep its file system from being deleted. Return why not, if it was impossible."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        fsx.cancel_data_repository_task(TaskId=task_id)
    except (ClientError, BotoCoreError) as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class RepositoryTask:
    """A task of FSx as it describes it; `lifecycle` is PENDING, EXECUTING, SUCCEEDED, FAILED, CANCELING or CANCELED."""

    id: str
    lifecycle: str
    total: int
    succeeded: int
    failed: int
    message: str
    report: str

    @classmethod
    def parse(cls, task: Mapping[str, Any]) -> RepositoryTask:
        """Read one of `DescribeDataRepositoryTasks`. While it is pending, FSx counts nothing."""
        status = task.get("Status") or {}
        return cls(
            id=task["TaskId"],
            lifecycle=task["Lifecycle"],
            total=status.get("TotalCount") or 0,
            succeeded=status.get("SucceededCount") or 0,
            failed=status.get("FailedCount") or 0,
            message=(task.get("FailureDetails") or {}).get("Message", ""),
            report=(task.get("Report") or {}).get("Path", ""),
        )

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.lifecycle in {"SUCCEEDED", "FAILED", "CANCELED"}

    def line(self) -> str:
        """Return the one line for the task log."""
        failed = f", {self.failed:,} failed" if self.failed else ""
        return f"FSx task {self.id} is {self.lifecycle}: {self.succeeded:,} of {self.total:,} files{failed}"

    def problem(self) -> str:
        """Return what FSx did not do and why; empty if it exported everything."""
        if self.lifecycle == "SUCCEEDED" and not self.failed:
            return ""
        said = f": {self.message}" if self.message else ""
        report = f" (report below {self.report})" if self.report else ""
        return f"task {self.id} is {self.lifecycle}, {self.failed:,} of {self.total:,} files failed{said}{report}"
