"""From a trigger's event to the exception that says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpc import errors
from hpc.slurm.identity import SubmittedJob
from hpc.slurm.states import JobState, parse_state

_REMEDIES = {
    JobState.TIMEOUT: "ask for a longer walltime, or let the job do less",
    JobState.OUT_OF_MEMORY: "ask for more memory, or for more nodes",
    JobState.NODE_FAIL: "run it again: an instance was lost",
    JobState.PREEMPTED: "run it again, or use on-demand instances",
    JobState.BOOT_FAIL: "see the head node's slurm_resume log in CloudWatch Logs, then run it again",
    JobState.CANCELLED: "somebody cancelled it; clear the task to run it again",
}


def raise_for_event(event: Mapping[str, Any], *, waited_for: str) -> None:
    """Raise what an event of `hpc.slurm.triggers` stands for; nothing for `success` and `failed`."""
    if event["status"] == "timeout":
        raise errors.DeadlineExceededError(
            f"gave up waiting for {waited_for}. Seen last: {event['seen']}",
            remedy="if it only needs longer, raise the simulation's deadline, or waiter_max_attempts (times "
            "waiter_delay seconds) of a task of your own",
        )
    if event["status"] == "error":
        kind = getattr(errors, event["error"])
        raise kind(event["message"], remedy=event.get("remedy", ""))


def end_of(event: Mapping[str, Any], job: SubmittedJob, log: Any) -> dict[str, Any]:
    """Return how a job or a sweep ended, and log it. Raises JobFailedError or JobStateUnknownError."""
    if not job.is_sweep:
        raise_for_end(event, job)
        result: dict[str, Any] = event["result"]
        log.info("%s succeeded after %s s on %s", job, result["seconds"], result["node_list"])
        return result
    sweep: dict[str, Any] = event["sweep"]
    table = "\n".join(f"  {line}" for line in event["table"])
    log.info("The points of %s:\n%s", job, table)
    if sweep.get("missing"):
        raise errors.JobStateUnknownError(
            f"Slurm does not know {sweep['missing']} points of {job}; {job.record_dir} holds no record of their end",
            remedy="clear the submitting task: it computes the points that have not succeeded",
        )
    if event["status"] != "success":
        points = ", ".join(f"{point} ({what})" for point, what in sweep["failed"].items())
        raise errors.JobFailedError(
            f"{sweep['failed_count']} of {sweep['points']} points of {job} failed; {sweep['tolerated']} may: {points}",
            remedy=f"read {job.directory}/points/{next(iter(sweep['failed']))}/output.log; clear the submitting task to"
            " compute the failed points again",
        )
    if sweep["failed_count"]:
        log.warning("%s points failed, which is tolerated", sweep["failed_count"])
    return sweep


def raise_for_end(event: Mapping[str, Any], job: SubmittedJob) -> None:
    """Raise JobFailedError for a job that did not succeed, JobStateUnknownError if nobody knows how it ended."""
    result = event["result"]
    state = parse_state(result["state"])
    if state is JobState.UNKNOWN:
        raise errors.JobStateUnknownError(
            f"Slurm does not know {job}, and {job.record_dir} holds no record of its end",
            remedy=f"look at {job.log} on the head node; clear the submitting task to run the job again",
        )
    if state.is_success:
        return
    how = f"exit code {result['exit_code']}" if result["exit_code"] is not None else "no exit code"
    if result["signal"]:
        how += f", signal {result['signal']}"
    if result["reason"] not in {"", "None"}:
        how += f", {result['reason']}"
    output = "\n".join(f"  | {line}" for line in event["last_lines"]) or "  (no output)"
    raise errors.JobFailedError(
        f"{job} is {state.slurm_name}: it {state.meaning} ({how}), on {result['node_list'] or 'no node'}\n"
        f"The last lines of {job.log}:\n{output}",
        remedy=_REMEDIES.get(state, f"read the whole output: {job.log} on the head node"),
    )
