"""The waits for Slurm. All ask through one asker a head node: one connection, and one command a round, serve all."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hpc.durations import format_duration
from hpc.errors import HpcError, JobStateUnknownError
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.poller import Answers, Question, ask, time_left
from hpc.head_node.shell import quote
from hpc.slurm.cancel import cancel_job
from hpc.slurm.identity import SubmittedJob
from hpc.slurm.parse import QueuedJob, parse_row, parse_squeue, squeue_command
from hpc.slurm.pending import Move, PendingClock, PendingPolicy
from hpc.slurm.progress import SweepProgress
from hpc.slurm.reasons import explain
from hpc.slurm.record import LOST_AFTER, RECORD_GRACE, JobRecord, judge, parse_record
from hpc.slurm.states import Phase
from hpc.slurm.tail import LogTail
from hpc.slurm.watch import JobView, Watched, watch_job
from hpc.user_action import was_ended

#: Seconds after which a wait in which nothing changes says that it still waits.
HEARTBEAT = 600.0
#: Seconds that a first look may take before whoever waits is deferred.
FIRST_LOOK = 10.0
#: Seconds between two lines about how far a sweep is.
PROGRESS_PAUSE = 10.0
ACTIVE = Question("active", quote(squeue_command()))


def error_event(error: HpcError) -> dict[str, Any]:
    """Return the event of a wait that ends with an error; `hpc.slurm.events` raises it in the task."""
    return {"status": "error", "error": type(error).__name__, "message": error.args[0]}


class _HeldLog:
    """Keeps what is logged until it is told, or never is."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str, tuple[Any, ...]]] = []

    def info(self, text: str, *values: Any) -> None:
        """Keep a line."""
        self._lines.append(("info", text, values))

    def warning(self, text: str, *values: Any) -> None:
        """Keep a warning."""
        self._lines.append(("warning", text, values))

    def tell(self, log: Any) -> None:
        """Log all of it."""
        for level, text, values in self._lines:
            getattr(log, level)(text, *values)


class SlurmTrigger(BaseTrigger):
    """A wait for something on a head node until `deadline`, in seconds since 1970.

    The event is `{"status": "success" | "failed" | "timeout" | "error", …}`: `timeout` with what was seen last, `error`
    with the name of a class of `hpc.errors` and its message. `hpc.slurm.events` turns it into the exception.
    """

    def __init__(
        self, *, head_node: dict[str, Any], ssh_conn_id: str, deadline: float, longest_pause: float = 30.0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.head_node = head_node
        self.ssh_conn_id = ssh_conn_id
        self.deadline = deadline
        self.longest_pause = longest_pause
        self._seen = "nothing: the head node has not answered"
        self._changed = self._said = time.monotonic()

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {
            "head_node": self.head_node,
            "ssh_conn_id": self.ssh_conn_id,
            "deadline": self.deadline,
            "longest_pause": self.longest_pause,
        }

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments, as the triggerer stores them."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        yield TriggerEvent(await self.result())  # type: ignore[no-untyped-call]

    async def first_look(self) -> dict[str, Any] | None:
        """Ask once; return the event if all is well already. What is not, or is not known soon, has to be waited for.

        Nothing is logged of a look after which the wait begins: it says the same.
        """
        once = type(self)(**{**self.arguments(), "deadline": 0.0})
        once._log = held = _HeldLog()  # type: ignore[assignment]
        try:
            async with asyncio.timeout(FIRST_LOOK):
                event = await once.result()
        except Exception as error:  # whatever it is, the wait meets it again or not
            self.log.info("Whether all is well already is not known, waiting for it: %s", str(error) or "no answer yet")
            return None
        if event["status"] != "success":
            return None
        held.tell(self.log)
        return event

    async def result(self) -> dict[str, Any]:
        """Wait, and return the event's payload."""
        try:
            async with asyncio.timeout(time_left(self.deadline)):
                return await self._wait()
        except TimeoutError:
            return {"status": "timeout", "seen": self._seen}
        except HpcError as error:
            return error_event(error)

    @property
    def address(self) -> HeadNodeAddress:
        """The head node that is asked."""
        return HeadNodeAddress.from_dict(self.head_node)

    @abstractmethod
    async def _wait(self) -> dict[str, Any]:
        """Wait for what decides, and return the event. Raises TimeoutError once the deadline has passed."""

    def _require_time(self) -> None:
        """Raise TimeoutError if the deadline has passed: what was overdue from the start has been asked for once."""
        if time.time() >= self.deadline:
            raise TimeoutError

    def _see(self, text: str) -> None:
        """Log what is seen when it changes, and now and then when it does not."""
        now = time.monotonic()
        if text != self._seen:
            self._seen, self._changed, self._said = text, now, now
            self.log.info("%s", text)
        elif now - self._said >= HEARTBEAT:
            self._said = now
            self.log.info("For %s: %s", format_duration(timedelta(seconds=now - self._changed)), text)


class _WatchTrigger(SlurmTrigger):
    """A wait for one job. A person who marks the waiting task failed, or clears it, cancels this job and no other."""

    is_array = False

    def __init__(self, *, job: dict[str, Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.job = job
        self.submitted = SubmittedJob.from_dict(job)
        #: What was seen last cannot last: then it is judged again by how long it did.
        self._is_passing = False

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {"job": self.job, **super().arguments()}

    async def on_kill(self) -> None:
        """Cancel the job if a person ended the task: a restarted triggerer, or a mark as success, cancels nothing."""
        if await was_ended(self.task_instance):
            self.log.info("The task was ended by a person: cancelling %s", self.submitted)
            await cancel_job(self.address, self.ssh_conn_id, self.submitted)

    @property
    def watched(self) -> Watched:
        """What the head node looks at."""
        return Watched(self.submitted.parts, self.submitted.record_dir, is_array=self.is_array)

    async def _wait(self) -> dict[str, Any]:
        with watch_job(self.address, self.ssh_conn_id, self.watched, longest_pause=self.longest_pause) as view:
            while True:
                # What cannot stay as it is for long is looked at again when a round may have confirmed it.
                await view.news(self.longest_pause if self._is_passing else HEARTBEAT)
                if view.error is not None:
                    raise view.error
                if (event := self.decide(view)) is not None:
                    return event
                if view.confirmed or view.unknown:
                    self._require_time()

    def decide(self, view: JobView) -> dict[str, Any] | None:
        """Read what is known of the job. What is not known now decides nothing."""
        if view.unknown:
            self._see(f"The state of {self.submitted} is unknown, asking again: {view.unknown}")
            return None
        return None if view.facts is None else self.decide_facts(view.facts, view)

    @abstractmethod
    def decide_facts(self, facts: dict[str, Any], view: JobView) -> dict[str, Any] | None:
        """Return the event of what is known; None to go on waiting."""

    def _unchanged(self, view: JobView) -> float:
        """Return for how many seconds rounds have told the same."""
        return max(0.0, view.confirmed - self._changed)


class JobTrigger(_WatchTrigger):
    """A wait for a job that is no array."""

    def decide_facts(self, facts: dict[str, Any], view: JobView) -> dict[str, Any] | None:
        """Read the row of the queue and the job's own record."""
        row = facts["row"]
        return self.decide_job(parse_record(facts["record"]), parse_row(row) if row else None, view)

    @abstractmethod
    def decide_job(self, record: JobRecord, queued: QueuedJob | None, view: JobView) -> dict[str, Any] | None:
        """Return the event of what record and queue say; None to go on waiting."""

    def _describe(self, record: JobRecord, queued: QueuedJob | None) -> str:
        if queued is None:
            return f"Slurm does not know {self.submitted}" + (" any more" if record.start else "")
        state = queued.state
        text = f"Job {queued.job_id} is {state.slurm_name}: {state.meaning}"
        if state.phase is Phase.WAITING:
            reason = explain(queued.reason)
            text += f" ({queued.reason or 'None'}: {reason.meaning})"
        if queued.node_list:
            text += f", on {queued.node_list}"
        if record.continued:
            text += f" (continued {record.continued} times after its walltime)"
        elif record.restarts:
            text += f" (restarted {record.restarts} times)"
        return text


class JobEndTrigger(JobTrigger):
    """Wait until the job has ended; its output appears in the task's log meanwhile.

    The event carries `result` (`JobResult`), `last_lines` of the output, and is `failed` for any end but exit code 0.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tail = LogTail()

    @property
    def watched(self) -> Watched:
        """The job with its output."""
        return replace(super().watched, log=self.submitted.log)

    def decide(self, view: JobView) -> dict[str, Any] | None:
        """Show the output, then decide."""
        while view.tails:
            tail = view.tails.pop(0)
            for line in self._tail.read(tail.skipped, tail.text):
                self.log.info("| %s", line)
        return super().decide(view)

    def decide_job(self, record: JobRecord, queued: QueuedJob | None, view: JobView) -> dict[str, Any] | None:
        """Return how the job ended, once that is certain."""
        self._see(self._describe(record, queued))
        self._is_passing = queued is None or queued.state.is_terminal
        result = judge(self.submitted.job_id, record, queued, self._unchanged(view))
        if result is None:
            return None
        for line in self._tail.rest():
            self.log.info("| %s", line)
        status = "success" if result.succeeded else "failed"
        return {"status": status, "result": result.as_dict(), "last_lines": list(self._tail.last_lines)}


class _StartTrigger(_WatchTrigger):
    """A wait for nodes, which says why there are none yet.

    The event may also be `{"status": "act", "move": partition | None}`: the task moves the job, or starts the fleet,
    and waits again.

    :param pending: the arguments of a `PendingPolicy`.
    """

    def __init__(self, *, pending: dict[str, Any] | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.pending = dict(pending or {})
        policy = PendingPolicy(**{**self.pending, "partitions": tuple(self.pending.get("partitions", ()))})
        self._pending = PendingClock(policy)

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {"pending": self.pending, **super().arguments()}

    def _wait_for_nodes(
        self, text: str, reason: str, submitted: str, view: JobView, *, has_run: bool = False
    ) -> dict[str, Any] | None:
        self._see(text)
        told = set(self._pending.refused.values())
        step = self._pending.judge(text, reason, submitted, view.nodes, self._unchanged(view), has_run=has_run)
        self._is_passing = not self._pending.can_last
        if set(self._pending.refused.values()) - told:
            shown = ", ".join(f"{nodes} ({code})" for nodes, code in sorted(self._pending.refused.items()))
            self.log.warning("No instance for %s", shown)
        if isinstance(step, HpcError):
            return error_event(step)
        return {"status": "act", "move": step.partition if isinstance(step, Move) else None} if step else None


class JobStartTrigger(_StartTrigger, JobTrigger):
    """Wait until the job has its nodes and runs, or has ended already; say why it is pending.

    The event carries `state`, `node_list` and `restarts`; or, as an `error`, why the job cannot start.
    """

    def decide_job(self, record: JobRecord, queued: QueuedJob | None, view: JobView) -> dict[str, Any] | None:
        """Return that the job runs, or why it never will."""
        started = queued.state.has_started if queued else record.start is not None
        if queued and queued.state.phase is Phase.WAITING:
            text, has_run = self._describe(record, queued), record.start is not None
            return self._wait_for_nodes(text, queued.reason, queued.submitted, view, has_run=has_run)
        self._see(self._describe(record, queued))
        self._is_passing = queued is None
        if started:
            state = queued.state.slurm_name if queued else "RUNNING"
            nodes = queued.node_list if queued else record.node_list
            return {"status": "success", "state": state, "node_list": nodes, "restarts": record.restarts}
        result = judge(self.submitted.job_id, record, queued, self._unchanged(view))
        if result is None:
            return None
        return {"status": "failed", "result": result.as_dict(), "last_lines": []}


class SweepTrigger(_WatchTrigger):
    """A wait for a job array, an element a point of a sweep."""

    is_array = True

    def decide_facts(self, facts: dict[str, Any], view: JobView) -> dict[str, Any] | None:
        """Read how many points are how far."""
        return self.decide_sweep(SweepProgress.read(self.submitted, facts), view)

    @abstractmethod
    def decide_sweep(self, progress: SweepProgress, view: JobView) -> dict[str, Any] | None:
        """Return the event of the progress; None to go on waiting."""


class SweepEndTrigger(SweepTrigger):
    """Wait until every point of a sweep has ended; a progress bar appears in the task's log meanwhile.

    The event carries `sweep` (`SweepProgress.result()`) and `table`, and is `failed` if more points failed than are
    tolerated, or if nobody knows how some ended.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._shown = 0.0

    def decide_sweep(self, progress: SweepProgress, view: JobView) -> dict[str, Any] | None:
        """Show how far it is, and return how it ended once that is certain."""
        is_over = not progress.counts
        if is_over or time.monotonic() - self._shown >= PROGRESS_PAUSE:
            self._see(progress.line())
            self._shown = time.monotonic()
        self._is_passing = is_over
        if not is_over or (progress.broken and self._unchanged(view) < RECORD_GRACE):
            return None
        if progress.missing and self._unchanged(view) < LOST_AFTER:
            return None
        lost = {"missing": progress.missing} if progress.missing else {}
        is_well = not lost and len(progress.failed) <= self.submitted.tolerated
        event = {"sweep": progress.result() | lost, "table": progress.table()}
        return {"status": "success" if is_well else "failed", **event}


class SweepStartTrigger(_StartTrigger, SweepTrigger):
    """Wait until the first point of a sweep runs, or has run; say why all are pending.

    The event carries `state`, `node_list` and `restarts`; or, as an `error`, why no point can start.
    """

    def decide_sweep(self, progress: SweepProgress, view: JobView) -> dict[str, Any] | None:
        """Return that points run, or why none ever will."""
        if progress.has_started:
            self._see(progress.line())
            return {"status": "success", "state": "RUNNING", "node_list": "", "restarts": 0}
        if progress.counts:
            return self._wait_for_nodes(progress.line(), progress.reason, progress.submitted, view)
        self._see(f"Slurm does not know {self.submitted}")
        self._is_passing = True
        if self._unchanged(view) < LOST_AFTER:
            return None
        return error_event(JobStateUnknownError(f"Slurm does not know {self.submitted}, and no point of it has run"))


class QueueEmptyTrigger(SlurmTrigger):
    """Wait until no job is pending, running or ending; say which still are. The event carries its status only.

    :param names: only jobs count whose name begins with one of these; all jobs if there are none
    """

    def __init__(self, *, names: Sequence[str] = (), **arguments: Any) -> None:
        super().__init__(**arguments)
        self.names = tuple(names)

    def arguments(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {"names": list(self.names), **super().arguments()}

    async def _wait(self) -> dict[str, Any]:
        rounds = ask(self.address, self.ssh_conn_id, [ACTIVE], longest_pause=self.longest_pause)
        async with aclosing(rounds):
            async for answers in rounds:
                if (event := self.decide(answers)) is not None:
                    return event
                self._require_time()
        raise AssertionError("the poller ended by itself")

    def decide(self, answers: Answers) -> dict[str, Any] | None:
        """Return success once squeue has answered, with nothing."""
        if answers["active"].exit_status != 0:
            self._see("slurmctld does not answer; whether the queue is empty is unknown, asking again")
            return None
        jobs = [
            job
            for job in parse_squeue(answers["active"].stdout).values()
            if not self.names or job.name.startswith(self.names)
        ]
        if not jobs:
            return {"status": "success"}
        shown = [f"{job.job_id} {job.name} {job.state.slurm_name}" for job in jobs[:5]]
        more = f" and {len(jobs) - 5} more" if len(jobs) > 5 else ""
        self._see(f"{len(jobs)} jobs in the queue: {', '.join(shown)}{more}")
        return None
