"""Step 11: results to S3, with a verified receipt."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from hpc.durations import format_duration
from hpc.errors import ConfigurationError, DeadlineExceededError, ExportError, HpcError
from hpc.head_node.address import HeadNodeAddress, find_head_node
from hpc.head_node.session import KeptSession, Session, run_on_kill, run_session
from hpc.results.bucket import ResultsBucket, Unit, open_early, results_bucket
from hpc.results.gallery import is_picture, render_gallery
from hpc.results.launch import (
    ExportProgress,
    Launched,
    clean_command,
    copy_log_command,
    error_of,
    format_bytes,
    note_sent,
    read_manifest,
    read_sent,
    record_of,
    start_scan,
    start_upload,
    stop_command,
)
from hpc.results.links import S3PicturesLink, S3ReceiptLink, S3ResultsLink, persist_link
from hpc.results.manifest import Manifest, ResultFile, Sent, checked_patterns, keys_of
from hpc.results.receipt import Receipt, ReceiptFile, ReceiptLeftOut, make_receipt, require_verified
from hpc.results.receipt_page import page_name, render_receipt
from hpc.results.repository import (
    Repository,
    RepositoryTask,
    cancel_export,
    find_repository,
    fsx_client,
    start_export,
)
from hpc.results.repository_trigger import DataRepositoryTaskTrigger
from hpc.results.triggers import ResultsExportTrigger, ended_event
from hpc.slurm.identity import JobPlaces
from hpc.slurm.submission import cancel_attempt
from hpc.waiting import run_trigger

if TYPE_CHECKING:
    from airflow.sdk import Context

#: PUTs that are signed at once: 10,000 URLs are 8 MB on their way to the head node.
UNITS_PER_ROUND = 10_000
#: Objects that the task returns one by one; the receipt has all of them.
OBJECTS_SHOWN = 50
#: And what it returns of what was left out: the receipt has all of it.
LEFT_OUT_SHOWN = 5
SECONDS_BETWEEN_LINES = 10.0
MIB = 1 << 20
#: Where the cluster's own documents lie, beside the results.
HISTORY = ".cluster"
GALLERY_NAMES = ("index.html", "pictures.html")


class ResultsToS3Operator(BaseOperator):
    """Export files of a cluster to S3, from the head node itself, and prove with a receipt that all of them are there.

    The head node gets no AWS credentials: it hashes the files, and sends each to a URL that this task signed for
    exactly these bytes, so that S3 refuses any others. The task is deferred while the head node hashes and sends. What
    S3 holds already with the same size and checksum is not sent again: a retry goes on where the last try ended.

    Returns `{"uri", "bucket", "prefix", "receipt_uri", "page_uri", "files", "bytes", "verified", "objects",
    "left_out", "left_out_first"}`; `page_uri` is the receipt as a page, `objects` are the URIs of the first 50,
    `left_out` counts links and the like, `left_out_first` has path and reason of the first 5. `verified` is true, or
    the task fails.

    Raises ExportError (a pattern without a match, a file that changed or vanished, a full disk), ReceiptMismatchError,
    PermissionDeniedError, ConnectionLostError, DeadlineExceededError.

    :param cluster_name: the cluster
    :param head_node: what `HeadNodeConnectOperator` returned; looked up in EC2 if left out
    :param directory: an absolute folder on the head node
    :param patterns: globs below it; `*` stays within a folder, `**` goes through folders, hidden files match too
    :param bucket: where to
    :param prefix: the keys are `<prefix>/<path below the directory>`
    :param data_repository: where the FSx for Lustre file system of the cluster's stack is mounted, if its own export
        task is to carry the folder, all of it, to the S3 prefix that it is linked to. That says bucket and prefix then.
        S3 has no SHA-256 of what FSx writes, so this task reads every object once to verify it; what FSx has not
        exported, or not as it is, goes the ordinary way
    :param receipt_key: the receipt's name below the prefix; the page is beside it, `.html` instead of `.json`
    :param facts: JSON that goes into the receipt: parameters, job record, configuration, versions
    :param facts_from: ids of tasks of this run whose return values go into the receipt's facts, by task id
    :param may_be_missing: a pattern without a match is left out instead of failing the export
    :param written_by: id of the task that ran the job: when it did not succeed, a pattern without a match is left out
        as well, for what a failed job did leave often explains its failure
    :param jobs_of: id of the task that submitted the job: when `written_by` did not succeed, what still lives of the
        job is cancelled first, for nothing may write while the export reads, and nothing is saved after it
    :param history: called with `cluster_name`, `aws_conn_id`, `region_name`; the documents that it returns by name are
        kept below `.cluster/` and named in the receipt. If it raises an HpcError, they are missing and nothing else
    :param logs: files of the head node whose last 10 MB are copied into the folder first, by path, and as what
    :param gallery: also make a page with all pictures among the files, and link it
    :param part_size: files larger than this many bytes go in parts of this size, at least 5 MiB
    :param waiter_delay: the longest pause between two looks at the export, in seconds
    :param waiter_max_attempts: the export gives up after waiter_delay x waiter_max_attempts seconds
    """

    template_fields: Sequence[str] = (
        *("cluster_name", "head_node", "directory", "patterns", "bucket", "prefix", "data_repository", "receipt_key"),
        "facts",
        *("aws_conn_id", "region_name", "ssh_conn_id"),
    )
    template_fields_renderers = {"facts": "json", "head_node": "json", "patterns": "json"}  # noqa: RUF012
    operator_extra_links = (S3ResultsLink(), S3ReceiptLink(), S3PicturesLink())
    ui_color = "#e3ecf8"

    def __init__(
        self,
        *,
        cluster_name: str,
        directory: str,
        patterns: Sequence[str],
        bucket: str = "",
        prefix: str = "",
        data_repository: str | None = None,
        head_node: dict[str, Any] | str | None = None,
        receipt_key: str = "receipt.json",
        facts: dict[str, Any] | None = None,
        facts_from: Sequence[str] = (),
        may_be_missing: bool = False,
        written_by: str | None = None,
        jobs_of: str | None = None,
        history: Callable[..., Mapping[str, str]] | None = None,
        logs: Mapping[str, str] | None = None,
        gallery: bool = False,
        part_size: int = 64 * MIB,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        ssh_conn_id: str = "hpc_head_node",
        deferrable: bool = True,
        waiter_delay: int = 30,
        waiter_max_attempts: int = 2880,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (bool(bucket), bool(prefix)) != (not data_repository, not data_repository):
            raise ConfigurationError(
                f"{self.task_id}: either bucket and prefix or data_repository say where the results go",
                remedy="give bucket and prefix, or data_repository='/fsx'",
            )
        self.cluster_name = cluster_name
        self.directory = directory
        self.patterns = patterns
        self.bucket = bucket
        self.prefix = prefix
        self.data_repository = data_repository
        self.head_node = head_node
        self.receipt_key = receipt_key
        self.facts = facts
        self.facts_from = facts_from
        self.may_be_missing = may_be_missing
        self.written_by = written_by
        self.jobs_of = jobs_of
        self.history = history
        self.logs = logs or {}
        self.gallery = gallery
        self.part_size = part_size
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.ssh_conn_id = ssh_conn_id
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self._running: tuple[HeadNodeAddress, str] | None = None
        self._manifest: Manifest | None = None
        self._opening: Future[ResultsBucket] | None = None
        self._opened: ResultsBucket | None = None
        self._fsx_task: str | None = None
        self._kept: KeptSession | None = None

    # ------------------------------------------------------------------------------------------ the three stages
    def execute(self, context: Context) -> dict[str, Any]:
        """Start listing and hashing; sending and the receipt follow in `execute_complete`."""
        patterns = checked_patterns([*checked_patterns(self.patterns), *self.logs.values()])
        address = self._address()
        succeeded = self._job_succeeded(context)
        if not succeeded:
            self._end_job(context, address)
        repository = self._find_repository()
        self._aim_at(repository)
        record = record_of(self.cluster_name, self.directory, self.bucket, self.prefix)
        self.log.info("Hashing %s below %s on %s", ", ".join(patterns), self.directory, address.host)
        self._running = address, record
        must_match = succeeded and not self.may_be_missing
        self._opening = open_early(self.aws_conn_id, self.region_name or None, self.bucket)
        self._manifest = None
        with self._connection(address) as head_node:
            launched = head_node.run(lambda session: self._scan(session, record, patterns, must_match))
            stage = {"stage": "scan", "began": time.time(), "repository": repository and repository.as_dict()}
            return self._wait(context, address, launched, stage)

    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any],
        *,
        head_node: dict[str, Any],
        record: str,
        stage: str,
        began: float,
        whole: bool = False,
        repository: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send what S3 does not hold yet, or, when nothing is missing, write and verify the receipt."""
        address = HeadNodeAddress.from_dict(head_node)
        linked = Repository(**repository) if repository else None
        self._aim_at(linked)
        self._running = address, record
        with self._connection(address):
            everything_sent = self._judge(address, record, stage, event) and whole
            if linked and stage == "scan":
                if not linked.is_automatic and self._read_manifest(address, record).files:
                    return self._let_fsx_export(context, address, record, linked=linked, began=began)
                stage = "exported"  # by itself, or there is nothing
            facts: dict[str, Any] = {"stage": stage, "began": began, "linked": linked}
            return self._send(context, address, record, **facts, everything_sent=everything_sent)

    def execute_exported(
        self,
        context: Context,
        event: dict[str, Any],
        *,
        head_node: dict[str, Any],
        record: str,
        began: float,
        repository: dict[str, Any],
        is_ours: bool,
    ) -> dict[str, Any]:
        """Go on with what FSx has exported: verify it, and send what it has not."""
        address, linked = HeadNodeAddress.from_dict(head_node), Repository(**repository)
        self._aim_at(linked)
        self._running = address, record
        if event["status"] == "timeout":
            if is_ours and (problem := cancel_export(self._fsx(), event["task_id"])):
                self.log.warning("FSx did not cancel its task, which ends by itself: %s", problem)
            raise self._took_too_long()
        task = RepositoryTask(**event["task"])
        if not is_ours:
            return self._let_fsx_export(context, address, record, linked=linked, began=began)
        if problem := task.problem():
            self.log.warning(
                "FSx did not export all of %s; the rest goes the ordinary way. %s", self.directory, problem
            )
        with self._connection(address):
            return self._send(context, address, record, stage="exported", began=began, linked=linked)

    def _let_fsx_export(
        self, context: Context, address: HeadNodeAddress, record: str, *, linked: Repository, began: float
    ) -> dict[str, Any]:
        task_id, is_ours = start_export(self._fsx(), linked)
        self.log.info(
            "FSx is to export %s to s3://%s/%s/; waiting for its task %s",
            *(self.directory, self.bucket, self.prefix, task_id),
        )
        trigger = DataRepositoryTaskTrigger(
            task_id=task_id,
            is_ours=is_ours,
            until=self._end(began),
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name or None,
            waiter_delay=self.waiter_delay,
        )
        facts: dict[str, Any] = {"head_node": address.as_dict(), "record": record, "began": began}
        facts |= {"repository": linked.as_dict(), "is_ours": is_ours}
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_exported", kwargs=facts)
        self._fsx_task = task_id if is_ours else None
        return self.execute_exported(context, run_trigger(trigger), **facts)

    def _send(
        self,
        context: Context,
        address: HeadNodeAddress,
        record: str,
        *,
        stage: str,
        began: float,
        linked: Repository | None,
        everything_sent: bool = False,
    ) -> dict[str, Any]:
        self._fsx_task = None
        manifest = self._read_manifest(address, record)
        if linked:
            manifest = manifest.without({self.receipt_key, page_name(self.receipt_key)}, HISTORY)
        bucket = self._open_bucket()
        files = self._keys(manifest)
        sent = {} if stage == "scan" else self._read_sent(address, record)
        if stage == "exported":
            sent = bucket.current(self.prefix, sent)  # notes of an earlier try: the objects may be others now
        missing = bucket.missing(self.prefix, files, sent)
        if stage == "exported":
            missing = self._prove_by_reading(address, record, bucket, missing)
        units = list(islice(bucket.units(missing, sent), UNITS_PER_ROUND))
        if not units:
            receipt = self._write_receipt(context, bucket, manifest, files)
            self._clean(address, record)
            return self._report(context, bucket, receipt)
        if everything_sent:
            raise ExportError(f"S3 does not list {units[0].path} and perhaps others, though they were sent")
        self._log_plan(files, missing, units)
        launched = self._connection(address).run(
            lambda session: start_upload(session, record=record, directory=self.directory, units=units)
        )
        facts = {"stage": "upload", "began": began, "whole": len(units) < UNITS_PER_ROUND}
        return self._wait(context, address, launched, {**facts, "repository": linked and linked.as_dict()})

    def _wait(
        self, context: Context, address: HeadNodeAddress, launched: Launched, stage: dict[str, Any]
    ) -> dict[str, Any]:
        stage = {**stage, "head_node": address.as_dict(), "record": launched.record}
        if launched.ended:
            self.log.info("%s", launched.ended.line())
            return self.execute_complete(context, ended_event(launched.ended), **stage)
        trigger = ResultsExportTrigger(
            head_node=address.as_dict(),
            ssh_conn_id=self.ssh_conn_id,
            record=launched.record,
            launch=launched.launch,
            until=self._end(stage["began"]),
            waiter_delay=self.waiter_delay,
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete", kwargs=stage)
        event = run_trigger(trigger)
        self._forget_bucket()
        return self.execute_complete(context, event, **stage)

    def on_kill(self) -> None:
        """Stop the exporter, or FSx's task."""
        if self._fsx_task is not None:
            task_id = self._fsx_task
            run_on_kill(lambda: cancel_export(self._fsx(), task_id))
        elif self._running is not None:
            address, record = self._running
            run_on_kill(lambda: self._stop(address, record))

    # ------------------------------------------------------------------------------------------ parts of them
    def _job_succeeded(self, context: Context) -> bool:
        if self.written_by is None:
            return True
        task = context["ti"]
        states = task.get_task_states(dag_id=task.dag_id, run_ids=[task.run_id], task_ids=[self.written_by])
        return bool(states[task.run_id].get(self.written_by) == "success")

    def _end_job(self, context: Context, address: HeadNodeAddress) -> None:
        if self.jobs_of is None:
            return
        places = JobPlaces.of_task(context["ti"], directory=self.directory, task_id=self.jobs_of)
        job_id = run_session(address, self.ssh_conn_id, lambda session: cancel_attempt(session, places))
        if job_id is not None:
            self.log.warning("%s did not succeed, and job %s still lived: it is cancelled", self.written_by, job_id)

    async def _scan(self, session: Session, record: str, patterns: list[str], must_match: bool) -> Launched:
        for source, name in self.logs.items():
            await session.run(copy_log_command(source, f"{self.directory}/{name}"), check=False)
        launched = await start_scan(
            session,
            record=record,
            directory=self.directory,
            patterns=patterns,
            must_match=must_match,
            part_size=self.part_size,
        )
        if launched.ended and launched.ended.state == "done":
            self._manifest = await read_manifest(session, launched.record)
        return launched

    def _address(self) -> HeadNodeAddress:
        given = json.loads(self.head_node) if isinstance(self.head_node, str) else self.head_node
        if given:
            return HeadNodeAddress.from_dict(given)
        return find_head_node(self.cluster_name, aws_conn_id=self.aws_conn_id, region_name=self.region_name or None)

    def _fsx(self) -> Any:
        return fsx_client(self.aws_conn_id, self.region_name or None)

    def _connection(self, address: HeadNodeAddress) -> KeptSession:
        """Return the connection that all steps of this process share."""
        if self._kept is None or self._kept.address != address:
            self._kept = KeptSession(address, self.ssh_conn_id)
        return self._kept

    def _find_repository(self) -> Repository | None:
        if self.data_repository is None:
            return None
        return find_repository(self._fsx(), self.cluster_name, self.directory, self.data_repository)

    def _aim_at(self, repository: Repository | None) -> None:
        """Take bucket and prefix from the repository, if there is one."""
        if repository is not None:
            self.bucket, self.prefix = repository.bucket, repository.prefix
        self.prefix = self.prefix.strip("/")

    def _read_manifest(self, address: HeadNodeAddress, record: str) -> Manifest:
        if self._manifest is None:
            self._manifest = self._connection(address).run(lambda session: read_manifest(session, record))
        return self._manifest

    def _read_sent(self, address: HeadNodeAddress, record: str) -> Sent:
        return self._connection(address).run(lambda session: read_sent(session, record))

    def _prove_by_reading(
        self, address: HeadNodeAddress, record: str, bucket: ResultsBucket, files: dict[str, ResultFile]
    ) -> dict[str, ResultFile]:
        """Read what S3 has no SHA-256 of, and return what is not there as it is on the cluster.

        What was read is noted on the head node from time to time: a retry goes on from there.
        """
        notes, done, size, last = list[list[Any]](), 0, 0, time.monotonic()

        def tell() -> None:
            self.log.info("Read and verified %s of %s files, %s", f"{done:,}", f"{len(files):,}", format_bytes(size))
            lines = "".join(json.dumps(line) + "\n" for line in notes)
            self._connection(address).run(lambda session: note_sent(session, record, lines))
            notes.clear()

        for file, etag in bucket.prove_by_reading(self.prefix, files):
            notes.append([file.path, 0, file.s3_checksum, etag, True])
            done, size = done + 1, size + file.size
            if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                tell()
                last = time.monotonic()
        tell()
        return {key: file for key, file in files.items() if key not in bucket.proven}

    def _open_bucket(self) -> ResultsBucket:
        if self._opened is None:
            place = (self.aws_conn_id, self.region_name or None, self.bucket)
            self._opened = self._opening.result() if self._opening else results_bucket(*place)
        return self._opened

    def _forget_bucket(self) -> None:
        """Let the next use open it anew: credentials of a role end after a while."""
        self._opening = self._opened = None

    def _judge(self, address: HeadNodeAddress, record: str, stage: str, event: dict[str, Any]) -> bool:
        """Return whether the stage did all that it was asked to; raise unless what is left is worth another round."""
        if event["status"] == "timeout":
            self._stop(address, record)
            raise self._took_too_long()
        progress = ExportProgress(**event["progress"])
        if event["status"] == "success":
            return True
        if stage == "upload" and progress.kind == "expired" and (progress.files_done or progress.bytes_done):
            self.log.info("The signed URLs have expired; signing the rest again.")
            self._forget_bucket()
            return False
        where = f"{self.directory} on cluster {self.cluster_name}"
        raise error_of(progress.kind, f"the export of {where} failed: {progress.message}")

    def _end(self, began: float) -> float:
        return began + self.waiter_delay * self.waiter_max_attempts

    def _took_too_long(self) -> DeadlineExceededError:
        limit = timedelta(seconds=self.waiter_delay * self.waiter_max_attempts)
        return DeadlineExceededError(
            f"the export of {self.directory} on {self.cluster_name} took longer than {format_duration(limit)}",
            remedy="clear the task, it goes on where it ended; for that much data raise waiter_max_attempts",
        )

    def _stop(self, address: HeadNodeAddress, record: str) -> None:
        run_session(address, self.ssh_conn_id, lambda session: session.run(stop_command(record), check=False))

    def _clean(self, address: HeadNodeAddress, record: str) -> None:
        """Remove the record from the head node. The results are safe: nothing that fails here fails the export."""
        try:
            self._connection(address).run(lambda session: session.run(clean_command(record), check=False))
        except HpcError as error:
            self.log.warning("The export's record stays on the head node: %s", error)

    def _keys(self, manifest: Manifest) -> dict[str, ResultFile]:
        reserved = [f"{self.prefix}/{name}" for name in (self.receipt_key, page_name(self.receipt_key))]
        return keys_of(self.prefix, manifest.files, reserved=reserved)

    def _log_plan(self, files: dict[str, ResultFile], missing: dict[str, ResultFile], units: list[Unit]) -> None:
        self.log.info(
            "Sending %s in %s requests to s3://%s/%s/; %s of %s files are there already",
            *(format_bytes(sum(unit.length for unit in units)), f"{len(units):,}", self.bucket, self.prefix),
            *(f"{len(files) - len(missing):,}", f"{len(files):,}"),
        )

    def _write_receipt(
        self, context: Context, bucket: ResultsBucket, manifest: Manifest, files: dict[str, ResultFile]
    ) -> Receipt:
        entries = [
            ReceiptFile(path=file.path, key=key, size=file.size, sha256=file.sha256, s3_checksum=file.s3_checksum)
            for key, file in files.items()
        ]
        if self.gallery:
            entries += self._write_gallery(context, bucket, entries)
        entries += self._write_history(bucket, entries)
        receipt = make_receipt(
            cluster_name=self.cluster_name,
            directory=manifest.directory,
            bucket=self.bucket,
            prefix=self.prefix,
            receipt_key=self.receipt_key,
            files=entries,
            left_out=[ReceiptLeftOut(path=entry.path, reason=entry.reason) for entry in manifest.left_out],
            facts=self._facts(context),
        )
        bucket.put(f"{self.prefix}/{self.receipt_key}", receipt.to_json(), "application/json")
        for entry in manifest.left_out[:OBJECTS_SHOWN]:
            self.log.warning("Left out: %s is %s", entry.path, entry.reason)
        return require_verified(bucket.client, receipt.uri, bucket.proven)

    def _facts(self, context: Context) -> dict[str, Any]:
        returned = {task: context["ti"].xcom_pull(task_ids=task) for task in self.facts_from}
        return {**(self.facts or {}), **returned}

    def _write_gallery(self, context: Context, bucket: ResultsBucket, entries: list[ReceiptFile]) -> list[ReceiptFile]:
        pictures = [entry for entry in entries if is_picture(entry.path)]
        if not pictures:
            self.log.warning("No picture among the files, so no page of pictures")
            return []
        taken = {entry.path for entry in entries}
        name = next((name for name in GALLERY_NAMES if name not in taken), None)
        if name is None:
            raise ExportError(
                f"the results hold {' and '.join(GALLERY_NAMES)}: no name is left for the page of pictures"
            )
        page = render_gallery(
            f"Pictures of {self.cluster_name}", self.prefix, pictures, lambda key: b"".join(bucket.read(key))
        ).encode()
        key = f"{self.prefix}/{name}"
        bucket.put(key, page, "text/html; charset=utf-8")
        persist_link(S3PicturesLink, context, self, bucket.client, bucket=self.bucket, key=key)
        return [_entry(name, key, page)]

    def _write_history(self, bucket: ResultsBucket, entries: list[ReceiptFile]) -> list[ReceiptFile]:
        if self.history is None:
            return []
        try:
            documents = self.history(
                self.cluster_name, aws_conn_id=self.aws_conn_id, region_name=self.region_name or None
            )
        except HpcError as error:
            # It explains a run and is none of its results: nothing waits for it.
            self.log.warning("The history of the cluster is not kept with the results: %s", error)
            return []
        taken, written = {entry.path for entry in entries}, []
        for name, text in documents.items():
            path, key = f"{HISTORY}/{name}", f"{self.prefix}/{HISTORY}/{name}"
            if path in taken:
                raise ExportError(
                    f"the results hold a file that would overwrite the cluster's {path}", remedy="rename the file"
                )
            bucket.put(key, text.encode(), "text/plain; charset=utf-8")
            written.append(_entry(path, key, text.encode()))
        return written

    def _report(self, context: Context, bucket: ResultsBucket, receipt: Receipt) -> dict[str, Any]:
        persist_link(S3ResultsLink, context, self, bucket.client, bucket=self.bucket, key=self.prefix)
        page_key = f"{self.prefix}/{page_name(self.receipt_key)}"
        bucket.put(page_key, render_receipt(receipt, datetime.now(UTC)).encode(), "text/html; charset=utf-8")
        persist_link(S3ReceiptLink, context, self, bucket.client, bucket=self.bucket, key=page_key)
        self.log.info(
            "Verified in S3: %s files, %s. Receipt: %s\n  fetch:  %s\n  verify: %s",
            *(f"{receipt.total_files:,}", format_bytes(receipt.total_bytes), receipt.uri),
            *(receipt.commands.fetch, receipt.commands.verify),
        )
        return {
            "uri": f"s3://{self.bucket}/{self.prefix}/",
            "bucket": self.bucket,
            "prefix": self.prefix,
            "receipt_uri": receipt.uri,
            "page_uri": f"s3://{self.bucket}/{page_key}",
            "files": receipt.total_files,
            "bytes": receipt.total_bytes,
            "verified": True,
            "objects": [f"s3://{self.bucket}/{file.key}" for file in receipt.files[:OBJECTS_SHOWN]],
            "left_out": len(receipt.left_out),
            "left_out_first": [entry.model_dump() for entry in receipt.left_out[:LEFT_OUT_SHOWN]],
        }


def _entry(path: str, key: str, data: bytes) -> ReceiptFile:
    digest = hashlib.sha256(data)
    checksum = base64.b64encode(digest.digest()).decode()
    return ReceiptFile(path=path, key=key, size=len(data), sha256=digest.hexdigest(), s3_checksum=checksum)
