"""Step 7: the job, submitted once. With `wait_for_completion` also steps 8 and 9 in one task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from hpc import PROJECT_ROOT
from hpc.errors import ConfigurationError
from hpc.head_node.address import HeadNodeAddress, head_node_of
from hpc.head_node.links import DcvLink
from hpc.head_node.session import Session, run_on_kill, run_session
from hpc.slurm.events import end_of, raise_for_event
from hpc.slurm.identity import JobPlaces, SubmittedJob
from hpc.slurm.script import Checkpoint, SlurmRequest
from hpc.slurm.staging import Input, stage
from hpc.slurm.submission import Submission, cancel_attempt, find_job, submit
from hpc.slurm.waiting import wait_for
from hpc.sweep import points_csv
from hpc.waiting import end_of_wait

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context


#: The table of a sweep's points in the job's folder.
POINTS_CSV = "points.csv"


class SlurmJobOperator(BaseOperator):
    """Submit a job script to a cluster's Slurm, at most once an attempt, and wait for its end.

    A retry whose answer was lost finds the job that is there. After a failed job a retry starts a new attempt, counted,
    if the task waits for the end; a task that a person cleared always does, and first cancels the attempt before.

    Returns `SubmittedJob.as_dict()`; with `wait_for_completion` its `result` (`JobResult`) is added, and a job that
    does not succeed raises JobFailedError with the end of its output.

    :param job_script: a plain bash script for sbatch, run unchanged; a relative path begins at the project's root.
    :param parameters: the job sees each as the environment variable PARAM_<NAME>. A mapping, or JSON text.
    :param directory: the job's folder on the shared file system; inputs, output and records are put there.
    :param resources: see `hpc.slurm.script.SlurmRequest`; they win over the script's own directives.
    :param inputs: `{"source": "s3://… or a file of the project", "name": "path in the folder"}`.
    :param sweep: `{"points": [{parameter: value, …}, …], "max_running": n, "tolerate": share}`, a mapping or JSON text:
        the job becomes a job array, an element a point, whose own parameters are added to `parameters`. A retry, or
        who clears the task, computes only the points that have not succeeded. None or "null" for no sweep.
    :param checkpoint: `{"signal": "USR1", "lead": seconds before the walltime, "continuations": n}`: the script gets
        the signal, and when it ends then it is put back into the queue and goes on in the same folder.
    :param job_name: begins the job's name in Slurm and of its log; DAG id and task id if left out.
    :param waiter_delay: the longest pause between two looks at the job, in seconds.
    :param waiter_max_attempts: times `waiter_delay` it is how long to wait for the end.
    :param until: the wait ends at this moment in any case, `2026-12-31T23:59:59Z`; None for no such moment (templated)
    """

    template_fields: Sequence[str] = (
        *("cluster_name", "head_node", "parameters", "directory", "request", "inputs", "sweep", "job_name"),
        *("aws_conn_id", "region_name", "ssh_conn_id", "until", "rendered_script"),
    )
    template_fields_renderers = {"rendered_script": "bash", "parameters": "json"}  # noqa: RUF012 - as Airflow has it
    operator_extra_links = (DcvLink(),)
    ui_color = "#d8e6f5"

    def __init__(
        self,
        *,
        cluster_name: str,
        job_script: str | Path,
        directory: str,
        head_node: dict[str, Any] | str | None = None,
        parameters: Mapping[str, Any] | str | None = None,
        resources: dict[str, Any] | None = None,
        inputs: Sequence[Mapping[str, Any]] = (),
        sweep: Mapping[str, Any] | str | None = None,
        checkpoint: Mapping[str, Any] | None = None,
        job_name: str = "",
        wait_for_completion: bool = True,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        ssh_conn_id: str = "hpc_head_node",
        deferrable: bool = True,
        waiter_delay: int = 30,
        waiter_max_attempts: int = 20_160,
        until: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.job_script = str(job_script)
        self.directory = directory
        self.head_node = head_node
        self.parameters = parameters
        # BaseOperator has an attribute `resources` with a meaning of its own, which the scheduler reads.
        self.request = resources
        self.inputs = inputs
        self.sweep = sweep
        self.checkpoint = checkpoint
        self.job_name = job_name
        self.wait_for_completion = wait_for_completion
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.ssh_conn_id = ssh_conn_id
        self.deferrable = deferrable
        self.waiter_delay = waiter_delay
        self.waiter_max_attempts = waiter_max_attempts
        self.until = until
        self.rendered_script = ""
        self._running: tuple[HeadNodeAddress, JobPlaces] | None = None

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render, and show what will run as the field `rendered_script`."""
        super().render_template_fields(context, jinja_env)
        try:
            self.rendered_script = self._submission(context).rendered()
        except ConfigurationError as error:
            self.rendered_script = f"# {error}"  # execute raises it

    def execute(self, context: Context) -> dict[str, Any]:
        """Stage, submit, and wait if asked to."""
        submission = self._submission(context)
        address = head_node_of(
            self.cluster_name, self.head_node, aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        self._running = (address, submission.places)
        job = run_session(address, self.ssh_conn_id, lambda session: self._submit(session, submission))
        if not self.wait_for_completion:
            return job.as_dict()
        from hpc.slurm.triggers import JobEndTrigger, SweepEndTrigger

        trigger = (SweepEndTrigger if job.is_sweep else JobEndTrigger)(
            job=job.as_dict(),
            head_node=address.as_dict(),
            ssh_conn_id=self.ssh_conn_id,
            deadline=end_of_wait(self.waiter_delay, self.waiter_max_attempts, self.until),
            longest_pause=self.waiter_delay,
        )
        event = wait_for(self, trigger, deferrable=self.deferrable, kwargs={"job": job.as_dict()})
        return self.execute_complete(context, event, job.as_dict())

    def execute_complete(self, context: Context, event: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
        """Return the job with its result. Raises JobFailedError and others of `hpc.errors`."""
        submitted = SubmittedJob.from_dict(job)
        raise_for_event(event, waited_for=f"the end of {submitted}")
        return job | {"result": end_of(event, submitted, self.log)}

    def on_kill(self) -> None:
        """Cancel this task's own job, if it is submitted or being submitted now."""
        if self._running is not None:
            address, places = self._running
            run_on_kill(lambda: self._withdraw(address, places))

    def _withdraw(self, address: HeadNodeAddress, places: JobPlaces) -> None:
        job_id = run_session(address, self.ssh_conn_id, lambda session: cancel_attempt(session, places))
        self.log.info("The task was ended: cancelled %s", f"job {job_id}" if job_id else "nothing, for no job lives")

    async def _submit(self, session: Session, submission: Submission) -> SubmittedJob:
        accepted = await find_job(session, submission)
        if accepted is None:
            # Only now: a job that is there may be writing what would be replaced.
            await self._stage(session, submission)
            accepted = await submit(session, submission)
        job = submission.places.submitted(
            self.cluster_name,
            accepted.attempt,
            accepted.job_id,
            parts=accepted.parts,
            sent=accepted.sent,
            done=accepted.done,
            tolerated=int(submission.tolerate * len(submission.points)),
        )
        self.log.info(
            "%s %s, attempt %d, output in %s", "Found" if accepted.found else "Submitted", job, job.attempt, job.log
        )
        if accepted.said:
            self.log.warning("sbatch: %s", accepted.said)
        return job

    async def _stage(self, session: Session, submission: Submission) -> None:
        inputs = [Input.from_mapping(value) for value in self.inputs]
        copied = await stage(
            session, self.directory, inputs, aws_conn_id=self.aws_conn_id, region_name=self.region_name
        )
        if inputs:
            self.log.info("Inputs copied: %s; unchanged: %d", ", ".join(copied) or "none", len(inputs) - len(copied))
        if submission.points:
            table = points_csv([dict(point) for point in submission.points])
            await session.write(f"{self.directory}/{POINTS_CSV}", table.encode())

    def _submission(self, context: Context) -> Submission:
        ti: Any = context["ti"]
        return Submission(
            places=JobPlaces.of_task(ti, directory=self.directory, job_name=self.job_name),
            series=ti.max_tries,
            script=self._script(),
            parameters=self._parameters(),
            resources=SlurmRequest.from_mapping(self.request or {}),
            again_after_failure=self.wait_for_completion,
            checkpoint=Checkpoint.from_mapping(self.checkpoint) if self.checkpoint else None,
            inputs=[Input.from_mapping(value).name for value in self.inputs],
            **self._points(),
        )

    def _points(self) -> dict[str, Any]:
        value = json.loads(self.sweep or "null") if isinstance(self.sweep, str) else self.sweep
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not isinstance(value.get("points"), list) or not value["points"]:
            raise ConfigurationError(
                f"sweep = {str(self.sweep)[:200]}: has no points", remedy='pass {"points": [{"parameter": value}, …]}'
            )
        return {
            "points": value["points"],
            "max_running": value.get("max_running"),
            "tolerate": value.get("tolerate") or 0.0,
        }

    def _script(self) -> str:
        path = PROJECT_ROOT / self.job_script
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the job script {path} cannot be read: {error}") from error

    def _parameters(self) -> Mapping[str, Any]:
        value = json.loads(self.parameters or "{}") if isinstance(self.parameters, str) else self.parameters or {}
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"parameters = {value!r}: must be a mapping of names and values")
        return value
