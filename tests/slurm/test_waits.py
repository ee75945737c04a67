"""The waits, on the real Slurm: every end that a job can have, and every wait that has none."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import TaskDeferred

from hpc.errors import (
    CapacityError,
    ClusterError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    JobFailedError,
    JobRejectedError,
    QuotaError,
)
from hpc.head_node import poller
from hpc.head_node.address import find_head_node
from hpc.head_node.session import HeadNodeHook
from hpc.slurm import pending, triggers
from hpc.slurm.identity import SubmittedJob
from hpc.slurm.sensors import SlurmAllocationSensor, SlurmEndJobsSensor, SlurmJobSensor, SlurmQueueEmptySensor
from hpc.slurm.triggers import JobEndTrigger, JobStartTrigger, QueueEmptyTrigger, SlurmTrigger
from hpc.slurm.watch import Watched, watch_job

from .conftest import SSH, TaskInstance, Tasks, on_head_node

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

NOBODY: Any = {}


def trigger_for(tasks: Tasks, kind: type[SlurmTrigger], limit: float = 100, **arguments: Any) -> Any:
    return kind(
        head_node=tasks.address.as_dict(),
        ssh_conn_id=SSH,
        deadline=time.time() + limit,
        longest_pause=1,
        **arguments,
    )


def sensor(tasks: Tasks, kind: Any, **arguments: Any) -> Any:
    """A sensor that waits in this process."""
    return kind(
        task_id="wait",
        cluster_name=tasks.address.cluster_name,
        head_node=tasks.address.as_dict(),
        deferrable=False,
        waiter_delay=1,
        **{"waiter_max_attempts": 100, **arguments},
    )


def ended(tasks: Tasks, job: dict[str, Any]) -> dict[str, Any]:
    return sensor(tasks, SlurmJobSensor, job=job).execute(NOBODY)


def started(tasks: Tasks, job: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    return sensor(tasks, SlurmAllocationSensor, job=job, **arguments).execute(NOBODY)


# ------------------------------------------------------------------------------------------------ slow ends
@dataclass(frozen=True)
class Slow:
    """Jobs whose end takes a minute or more: begun before the other tests of this file, looked at after them."""

    tasks: Tasks
    over_walltime: dict[str, Any]
    node_lost: dict[str, Any]
    node_lost_for_good: dict[str, Any]
    checkpointed: dict[str, Any]
    never_finished: dict[str, Any]


#: Signalled before its walltime, it saves and ends; what it saved lets it finish the next time.
SAVES = "if [ -e saved ]; then echo finished; exit 0; fi; trap 'touch saved; exit 0' USR1; sleep 300 & wait"
CHECKPOINT = {"signal": "USR1", "lead": 50, "continuations": 1}


@pytest.fixture(scope="module", autouse=True)
def slow(
    region: LocalRegion, airflow_connections: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slow]:
    name = "slow-ends"
    region.start_cluster(name, nodes=4)
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in airflow_connections.items():
            patch.setenv(variable, value)
        tasks = Tasks(find_head_node(name), tmp_path_factory.mktemp("slow"))
        again = '#SBATCH --exclusive\n[ "${SLURM_RESTART_COUNT:-0}" = 1 ] || sleep 300'
        slow = Slow(
            tasks,
            over_walltime=tasks.submit("echo working; sleep 300", resources={"walltime": "00:01:00"}),
            node_lost=tasks.submit(again),
            node_lost_for_good=tasks.submit("#SBATCH --exclusive --no-requeue\nsleep 300"),
            checkpointed=tasks.submit(SAVES, resources={"walltime": "00:01:00"}, checkpoint=CHECKPOINT),
            never_finished=tasks.submit(
                "trap 'exit 0' USR1; sleep 300 & wait", resources={"walltime": "00:01:00"}, checkpoint=CHECKPOINT
            ),
        )
        for job in (slow.node_lost, slow.node_lost_for_good):
            region.fault("node", cluster=name, node=started(tasks, job)["node_list"])
    yield slow
    region.stop_cluster(name)


# ------------------------------------------------------------------------------------------------ ends
def test_success_says_where_when_and_how(tasks: Tasks) -> None:
    before = int(time.time())
    job = tasks.run("hostname; sleep 1", resources={"nodes": 2})
    result = job["result"]
    assert (result["state"], result["exit_code"], result["signal"], result["restarts"]) == ("COMPLETED", 0, 0, 0)
    assert result["node_list"].startswith("compute-dy-")
    assert before <= result["start"] < result["end"] == result["start"] + result["seconds"]
    assert on_head_node(tasks.address, f"cat {job['log']}").startswith("compute-dy-")


def test_an_exit_code_fails_with_the_last_lines(tasks: Tasks) -> None:
    with pytest.raises(JobFailedError, match=r"(?s)FAILED.*exit code 3.*\| bad input\n.*\.log on the head node"):
        tasks.run("echo bad input; exit 3")


def test_a_signal_is_named(tasks: Tasks) -> None:
    with pytest.raises(JobFailedError, match="signal 11"):
        tasks.run("kill -SEGV $$")


@pytest.mark.parametrize("script", ["exec sleep 300", "trap 'exit 0' TERM; sleep 300 & wait"])
def test_a_running_job_is_cancelled(tasks: Tasks, script: str) -> None:
    job = tasks.submit(script)
    started(tasks, job)
    on_head_node(tasks.address, f"scancel {job['job_id']}")
    with pytest.raises(JobFailedError, match="CANCELLED"):
        ended(tasks, job)


def test_a_pending_job_is_cancelled(tasks: Tasks) -> None:
    job = tasks.submit("#SBATCH --begin=now+1hour\ntrue")
    on_head_node(tasks.address, f"scancel {job['job_id']}")
    with pytest.raises(JobFailedError, match=r"CANCELLED.*on no node"):
        ended(tasks, job)
    assert started(tasks, job)["state"] == "CANCELLED"


def test_the_record_decides_after_slurm_has_forgotten(tasks: Tasks) -> None:
    failed, succeeded = tasks.submit("exit 5"), tasks.submit("true")
    for job in (failed, succeeded):
        started(tasks, job)
    forget_ended_jobs(tasks, [failed, succeeded])
    assert ended(tasks, succeeded)["exit_code"] == 0
    assert started(tasks, succeeded)["state"] == "RUNNING"
    with pytest.raises(JobFailedError, match="exit code 5"):
        ended(tasks, failed)


def forget_ended_jobs(tasks: Tasks, jobs: list[dict[str, Any]]) -> None:
    """Let slurmctld forget, as it does by itself after MinJobAge (300 s)."""
    path = on_head_node(tasks.address, "scontrol show config | awk '$1 == \"SLURM_CONF\" {print $3}'").strip()
    edit = f"sed -i s/MinJobAge=.*/MinJobAge=%d/ {path}"
    on_head_node(tasks.address, edit % 2 + " && scontrol reconfigure")
    deadline = time.monotonic() + 60
    for job in jobs:
        while on_head_node(tasks.address, f"squeue --noheader --states=all --name={job['name']}"):
            assert time.monotonic() < deadline
    on_head_node(tasks.address, edit % 300 + " && scontrol reconfigure")


def test_a_job_that_nobody_knows_is_unknown_not_done(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpc.errors import JobStateUnknownError
    from hpc.slurm import record

    monkeypatch.setattr(record, "LOST_AFTER", 2.0)
    job = tasks.submit("true")
    ended(tasks, job)
    job |= {"name": "vanished", "parts": {"vanished": 0}, "record_dir": "/fsx/nowhere", "job_id": 99_999}
    with pytest.raises(JobStateUnknownError, match="/fsx/nowhere"):
        ended(tasks, job)


def test_a_job_that_cannot_end_before_its_deadline(another_cluster: Tasks) -> None:
    busy = another_cluster.submit("#SBATCH --exclusive\nexec sleep 300")
    started(another_cluster, busy)
    late = another_cluster.submit(
        "#SBATCH --exclusive --deadline=now+65seconds\ntrue", resources={"walltime": "00:01:00"}
    )
    with pytest.raises(JobFailedError, match=r"DEADLINE.*on no node"):
        ended(another_cluster, late)


PREEMPTION = r"""
conf=$(scontrol show config | awk '$1 == "SLURM_CONF" {print $3}')
sed -i '1i PreemptType=preempt/partition_prio\nPreemptMode=CANCEL' $conf
sed -i 's/^PartitionName=compute.*/& PriorityTier=1/' $conf
urgent=$(grep ^PartitionName= $conf | sed 's/=compute/=urgent/; s/Tier=1/Tier=10/; s/Default=YES/Default=NO/')
sed -i "$ a $urgent" $conf
pkill -x slurmctld
until scontrol show config 2>/dev/null | grep -q partition_prio; do sleep 0.2; done
"""


def test_a_job_that_has_to_make_place(another_cluster: Tasks) -> None:
    on_head_node(another_cluster.address, PREEMPTION)
    job = another_cluster.submit("#SBATCH --exclusive\nexec sleep 300")
    started(another_cluster, job)
    urgent = another_cluster.submit("#SBATCH --exclusive\ntrue", resources={"partition": "urgent"})
    with pytest.raises(JobFailedError, match=r"(?s)PREEMPTED.*on-demand"):
        ended(another_cluster, job)
    assert ended(another_cluster, urgent)["exit_code"] == 0


# ------------------------------------------------------------------------------------------------ pending
def test_why_it_is_pending_is_said_once(tasks: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    job = tasks.submit("#SBATCH --hold\ntrue")
    with pytest.raises(DeadlineExceededError, match="JobHeldUser: is held by a user"):
        started(tasks, job, waiter_max_attempts=10)
    assert capsys.readouterr().out.count("JobHeldUser") == 1
    on_head_node(tasks.address, f"scontrol release {job['job_id']}")
    assert started(tasks, job)["state"] in {"RUNNING", "COMPLETED"}


def test_at_the_runs_deadline_every_wait_ends_whatever_it_may_take_itself(tasks: Tasks) -> None:
    job = tasks.submit("sleep 300")
    late = {"until": "2026-01-01T00:00:00Z", "waiter_max_attempts": 1000}
    with pytest.raises(DeadlineExceededError, match=r"(?s)gave up waiting for the end of .*simulation's deadline"):
        sensor(tasks, SlurmJobSensor, job=job, **late).execute(NOBODY)
    with pytest.raises(DeadlineExceededError):
        sensor(tasks, SlurmQueueEmptySensor, **late).execute(NOBODY)
    sensor(tasks, SlurmEndJobsSensor).execute(NOBODY)
    with pytest.raises(JobFailedError, match="CANCELLED"):
        ended(tasks, job)


def test_what_can_never_start_is_rejected(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending, "FAIL_GRACE", 1.0)
    failing = tasks.submit("exit 1")
    job = tasks.submit(f"#SBATCH --dependency=afterok:{failing['job_id']}\ntrue")
    with pytest.raises(JobRejectedError, match=r"DependencyNeverSatisfied.*will never start"):
        started(tasks, job)
    on_head_node(tasks.address, f"scancel {job['job_id']}")


def test_no_capacity_is_told_from_a_busy_cluster(
    another_cluster: Tasks, region: LocalRegion, capsys: pytest.CaptureFixture[str]
) -> None:
    region.fault("capacity", target="*", code="InsufficientInstanceCapacity")
    try:
        job = another_cluster.submit("true")
        with pytest.raises(CapacityError, match=r"no capacity for 1s: .*InsufficientInstanceCapacity"):
            started(another_cluster, job, capacity_grace=timedelta(seconds=1))
    finally:
        region.fault("clear")
    on_head_node(another_cluster.address, f"scancel {job['job_id']}")
    assert "No instance for" in capsys.readouterr().out
    # A node keeps the reason of that failure; a job that comes later does not take it for its own.
    later = another_cluster.submit("true")
    started(another_cluster, later)
    assert "No instance for" not in capsys.readouterr().out


def test_a_quota_is_told_from_no_capacity(another_cluster: Tasks, region: LocalRegion) -> None:
    region.fault("capacity", target="*", code="VcpuLimitExceeded")
    try:
        job = another_cluster.submit("true")
        with pytest.raises(QuotaError, match="Service Quotas"):
            started(another_cluster, job)
    finally:
        region.fault("clear")


def test_a_stopped_fleet_is_told_from_a_busy_cluster(another_cluster: Tasks) -> None:
    job = another_cluster.submit("#SBATCH --begin=now+8\ntrue")  # time enough to stop the fleet before
    on_head_node(another_cluster.address, "scontrol update partitionname=compute state=inactive")
    with pytest.raises(CapacityError, match=r"(?s)PartitionInactive.*update-compute-fleet"):
        started(another_cluster, job, capacity_grace=timedelta(seconds=1))
    with pytest.raises(ClusterError, match=r"(?s)inactive or drain.*update-compute-fleet"):
        another_cluster.submit("true")


def test_a_job_without_capacity_moves_to_the_next_partition(another_cluster: Tasks) -> None:
    job = another_cluster.submit("#SBATCH --begin=now+8\ntrue")
    second = "scontrol create partitionname=ondemand nodes=$(sinfo --noheader --format=%N) state=up"
    on_head_node(another_cluster.address, f"{second} && scontrol update partitionname=compute state=down")
    grace = timedelta(seconds=1)
    with pytest.raises(CapacityError, match="PartitionDown"):
        started(another_cluster, job, capacity_grace=grace)
    moved = {"on_no_capacity": "next_partition", "partitions": ["ondemand"]}
    assert started(another_cluster, job, capacity_grace=grace, **moved)["state"] in {"RUNNING", "COMPLETED"}
    assert ended(another_cluster, job)["exit_code"] == 0


def test_a_stopped_fleet_is_started_once(another_cluster: Tasks) -> None:
    job = another_cluster.submit("#SBATCH --begin=now+8\ntrue")
    on_head_node(another_cluster.address, "scontrol update partitionname=compute state=inactive")
    asked: list[str] = []

    def start(cluster_name: str, **connection: Any) -> None:
        asked.append(cluster_name)
        on_head_node(another_cluster.address, "scontrol update partitionname=compute state=up")

    policy = {"capacity_grace": timedelta(seconds=1), "on_stopped_fleet": "start", "start_fleet": start}
    assert started(another_cluster, job, **policy)["state"] in {"RUNNING", "COMPLETED"}
    assert asked == [another_cluster.address.cluster_name]


# ------------------------------------------------------------------------------------------------ waiting itself
def test_output_appears_while_the_job_runs(tasks: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    tasks.run("echo begin; sleep 3; printf 'no line end'")
    logged = capsys.readouterr().out
    assert 0 < logged.index("| begin") < logged.index("| no line end")


async def test_fifty_waiting_jobs_are_one_connection_and_one_command_a_round(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections, rounds = [], []
    connect, build = HeadNodeHook.get_conn, poller.build_round

    async def counting(hook: HeadNodeHook) -> Any:
        connections.append(hook)
        return await connect(hook)

    monkeypatch.setattr(HeadNodeHook, "get_conn", counting)
    monkeypatch.setattr(
        poller, "build_round", lambda questions, marker: rounds.append(questions) or build(questions, marker)
    )
    job = await asyncio.to_thread(tasks.submit, "sleep 4")
    connections.clear()
    waits = [trigger_for(tasks, JobEndTrigger, job=job).result() for _ in range(50)]
    began = time.monotonic()
    events = await asyncio.gather(*waits)
    seconds = time.monotonic() - began
    assert [event["status"] for event in events] == ["success"] * 50
    assert len(connections) == 1
    assert len(rounds) <= seconds / 0.95 + 2
    assert {len(questions) for questions in rounds} == {1}


def test_two_triggerers_share_a_cluster_and_each_is_told_all(tasks: Tasks) -> None:
    jobs = [tasks.submit(f"echo output; sleep 1; exit {code}") for code in (0, 3)]

    def triggerer() -> list[dict[str, Any]]:
        async def wait() -> list[dict[str, Any]]:
            return await asyncio.gather(*(trigger_for(tasks, JobEndTrigger, job=job).result() for job in jobs))

        return asyncio.run(wait())

    with ThreadPoolExecutor(2) as pool:
        for told in [future.result() for future in [pool.submit(triggerer), pool.submit(triggerer)]]:
            assert [event["result"]["exit_code"] for event in told] == [0, 3]
            assert [event["last_lines"] for event in told] == [["output"], ["output"]]


def watchdog() -> Any:
    """As much of Airflow's TriggerRunner as its watchdog is made of; `said` are its warnings."""
    said: list[str] = []

    async def say(message: str, *arguments: Any) -> None:
        said.append(message % arguments)

    limit = conf.getfloat("triggerer", "blocked_main_thread_warning_threshold", fallback=0.2)
    log = SimpleNamespace(ainfo=say)
    return SimpleNamespace(stop=False, blocked_main_thread_warning_threshold=limit, log=log, said=said)


async def test_a_thousand_waits_do_not_hold_up_the_triggerer(tasks: Tasks) -> None:
    """Airflow's own watchdog over the event loop, with its own limit, says nothing while all are told and all end.

    A second one over an idle loop tells when it was the machine that stood still.
    """
    job = await asyncio.to_thread(tasks.submit, "until [ -e end ]; do sleep 0.2; done")
    watched, idle = watchdog(), watchdog()
    beside = threading.Thread(target=lambda: asyncio.run(TriggerRunner.block_watchdog(idle)))
    with watch_job(tasks.address, SSH, Watched({"first": 0}, "/fsx/none"), longest_pause=1) as first:
        await first.news(60)  # what is imported once, and the connection, are there
        beside.start()
        watching = asyncio.create_task(TriggerRunner.block_watchdog(watched))
        waits = [asyncio.create_task(trigger_for(tasks, JobEndTrigger, job=job).result()) for _ in range(1000)]
        await asyncio.sleep(5)
        await asyncio.to_thread(on_head_node, tasks.address, f"touch {job['directory']}/end")
        events = await asyncio.gather(*waits)
        watched.stop = idle.stop = True
        await watching
        await asyncio.to_thread(beside.join)
    assert {event["status"] for event in events} == {"success"}
    assert len(watched.said) <= len(idle.said), watched.said


async def test_a_killed_session_is_made_again(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    answered = asyncio.Event()
    parse = poller.parse_round

    def parsed(*arguments: Any) -> Any:
        answered.set()
        return parse(*arguments)

    monkeypatch.setattr(poller, "parse_round", parsed)
    job = await asyncio.to_thread(tasks.submit, "until [ -e end ]; do sleep 0.2; done")
    waiting = asyncio.create_task(trigger_for(tasks, JobEndTrigger, job=job).result())
    for _ in range(2):
        answered.clear()
        await asyncio.wait_for(answered.wait(), 30)
        with pytest.raises(ConnectionLostError):  # of this command, whose session dies with all others
            await asyncio.to_thread(on_head_node, tasks.address, "pkill -9 -u $(id -un) -f 'sshd: .*@notty'; sleep 5")
    await asyncio.to_thread(on_head_node, tasks.address, f"touch {job['directory']}/end")
    assert (await waiting)["status"] == "success"


def test_a_deferred_wait_survives_serialization(tasks: Tasks) -> None:
    job = tasks.submit("until [ -e end ]; do sleep 0.2; done")
    waiting = sensor(tasks, SlurmJobSensor, job=job)
    waiting.deferrable = True
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(NOBODY)
    on_head_node(tasks.address, f"touch {job['directory']}/end")
    path, arguments = deferred.value.trigger.serialize()
    assert path == "hpc.slurm.triggers.JobEndTrigger"
    trigger = JobEndTrigger(**arguments)
    assert trigger.serialize() == (path, arguments)
    event = asyncio.run(trigger.result())
    assert waiting.execute_complete(NOBODY, event)["exit_code"] == 0


def test_what_is_there_already_is_not_deferred(tasks: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    job = tasks.submit("echo hello")
    ended(tasks, job)
    capsys.readouterr()
    waiting = sensor(tasks, SlurmJobSensor, job=job)
    waiting.deferrable = True
    assert waiting.execute(NOBODY)["state"] == "COMPLETED"
    assert capsys.readouterr().out.count("| hello") == 1


def test_a_job_that_failed_or_runs_is_waited_for_in_silence(tasks: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    """What a first look sees is told by the wait after it."""
    failed, running = tasks.submit("echo hello; exit 3"), tasks.submit("echo hello; exec sleep 300")
    with pytest.raises(JobFailedError):
        ended(tasks, failed)
    started(tasks, running)
    capsys.readouterr()
    for job in (failed, running):
        waiting = sensor(tasks, SlurmJobSensor, job=job)
        waiting.deferrable = True
        with pytest.raises(TaskDeferred):
            waiting.execute(NOBODY)
    assert "hello" not in capsys.readouterr().out
    on_head_node(tasks.address, f"scancel {running['job_id']}")


@pytest.mark.parametrize("problem", [TimeoutError(), ConnectionLostError("gone"), RuntimeError("no such thing")])
def test_a_first_look_that_fails_is_no_verdict(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    async def fail(*_: Any) -> None:
        raise problem

    job = tasks.run("true")
    waiting = sensor(tasks, SlurmJobSensor, job=job)
    waiting.deferrable = True
    monkeypatch.setattr(JobEndTrigger, "_wait", fail)
    with pytest.raises(TaskDeferred):
        waiting.execute(NOBODY)


def test_a_first_look_that_takes_too_long_is_given_up(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job = tasks.run("true")
    waiting = sensor(tasks, SlurmJobSensor, job=job)
    waiting.deferrable = True
    monkeypatch.setattr(triggers, "FIRST_LOOK", 0.0)
    with pytest.raises(TaskDeferred):
        waiting.execute(NOBODY)
    assert "not known, waiting for it: no answer yet" in capsys.readouterr().out


def test_only_a_wait_in_the_worker_cancels_when_the_worker_is_ended(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may be ended while a task has its first look; that is no reason to cancel hours of work."""
    cancelled: list[Any] = []
    monkeypatch.setattr("hpc.slurm.sensors.run_on_kill", cancelled.append)
    waiting = sensor(tasks, SlurmJobSensor, job={})
    waiting.deferrable = True
    waiting.on_kill()
    assert not cancelled
    waiting.deferrable = False
    waiting.on_kill()
    assert cancelled


def test_a_deferred_submission_returns_the_job_with_its_result(tasks: Tasks) -> None:
    operator = tasks.operator("echo hello")
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(TaskInstance().context)
    event = asyncio.run(deferred.value.trigger.result())
    job = operator.execute_complete(NOBODY, event, **deferred.value.kwargs)
    assert job["result"]["state"] == "COMPLETED"
    assert event["last_lines"] == ["hello"]


async def test_a_persons_kill_cancels_this_job_only(tasks: Tasks) -> None:
    mine, other = [await asyncio.to_thread(tasks.submit, "sleep 300") for _ in range(2)]
    trigger = trigger_for(tasks, JobStartTrigger, job=mine)
    waiting = asyncio.create_task(trigger.result())
    await asyncio.sleep(0)
    waiting.cancel()
    living = "squeue --noheader --states=pending,configuring,running --format=%j"
    assert mine["name"] in await asyncio.to_thread(on_head_node, tasks.address, living)
    await trigger.on_kill()
    after = await asyncio.to_thread(on_head_node, tasks.address, living)
    assert mine["name"] not in after
    assert other["name"] in after
    await asyncio.to_thread(on_head_node, tasks.address, f"scancel {other['job_id']}")


@pytest.mark.parametrize(("state", "ended"), [("deferred", False), ("success", False), ("failed", True), (None, True)])
async def test_only_a_persons_action_cancels(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch, state: str | None, ended: bool
) -> None:
    """A triggerer that was late finds its triggers with another one, and Airflow calls on_kill all the same."""
    cancelled = []

    async def cancel(*arguments: Any) -> None:
        cancelled.append(arguments)

    monkeypatch.setattr(triggers, "cancel_job", cancel)
    states = {"run": {"run_job": state}}
    monkeypatch.setattr(
        "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states", lambda **_: states
    )
    job = SubmittedJob("c", "t", 1, 1, "n", "/d", "/r", "/l", {"n": 0}).as_dict()
    trigger = trigger_for(tasks, JobEndTrigger, job=job)
    trigger.task_instance = SimpleNamespace(dag_id="d", run_id="run", task_id="run_job", map_index=-1)
    await trigger.on_kill()
    assert bool(cancelled) is ended


def test_a_wait_that_is_overdue_asks_once(tasks: Tasks) -> None:
    """Its job may have ended while no triggerer ran."""
    job = tasks.run("true")
    trigger = trigger_for(tasks, JobEndTrigger, limit=-1000, job=job)
    assert asyncio.run(trigger.result())["status"] == "success"


def test_a_wait_without_a_job_says_so(tasks: Tasks) -> None:
    with pytest.raises(ConfigurationError, match="is no job"):
        ended(tasks, "null")  # type: ignore[arg-type]


def test_a_job_travels_as_json_text(tasks: Tasks) -> None:
    import json

    job = tasks.submit("true")
    waiting = sensor(tasks, SlurmJobSensor, job=json.dumps(job))
    waiting.head_node = json.dumps(waiting.head_node)
    assert waiting.submitted == SubmittedJob.from_dict(job)
    assert waiting.execute(NOBODY)["exit_code"] == 0


@contextmanager
def waiting_for_the_queue(tasks: Tasks, monkeypatch: pytest.MonkeyPatch, ti: TaskInstance, **own: Any) -> Iterator[str]:
    """Wait in another thread for an empty queue; give what it sees first, and expect it to end well."""
    seen: queue.Queue[str] = queue.Queue()
    see = QueueEmptyTrigger._see
    monkeypatch.setattr(QueueEmptyTrigger, "_see", lambda trigger, text: (seen.put(text), see(trigger, text))[1])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sensor(tasks, SlurmQueueEmptySensor, **own).execute, ti.context)
        yield seen.get(timeout=60)
        waiting.result()


def test_the_queue_is_empty_when_it_says_so(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    on_head_node(tasks.address, "scancel --user=$(id -un)")
    sensor(tasks, SlurmQueueEmptySensor).execute(TaskInstance().context)
    job = tasks.submit("until [ -e end ]; do sleep 0.2; done")
    with waiting_for_the_queue(tasks, monkeypatch, TaskInstance()) as seen:
        assert seen.startswith(f"1 jobs in the queue: {job['job_id']} {job['name']} ")
        on_head_node(tasks.address, f"touch {job['directory']}/end")
    assert on_head_node(tasks.address, "squeue --noheader") == ""


def test_on_a_shared_cluster_only_the_runs_own_jobs_are_waited_for(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, task = "until [ -e end ]; do sleep 0.2; done", TaskInstance()
    theirs, mine = tasks.submit(script), tasks.submit(script, task)
    own = {"jobs_of": ["submit_job", "postprocess"], "directory": mine["directory"]}
    with waiting_for_the_queue(tasks, monkeypatch, task, **own) as seen:
        assert seen.startswith(f"1 jobs in the queue: {mine['job_id']} {mine['name']} ")
        on_head_node(tasks.address, f"touch {mine['directory']}/end")
    assert str(theirs["job_id"]) in on_head_node(tasks.address, "squeue --noheader --format=%i").split()
    on_head_node(tasks.address, f"touch {theirs['directory']}/end")


# ------------------------------------------------------------------------------------------------ slow ends, looked at
@pytest.mark.usefixtures("connections")
def test_the_walltime_ends_a_job(slow: Slow) -> None:
    with pytest.raises(JobFailedError, match=r"(?s)TIMEOUT.*\| working.*longer walltime"):
        ended(slow.tasks, slow.over_walltime)


@pytest.mark.usefixtures("connections")
def test_a_job_that_saved_before_its_walltime_goes_on_in_its_folder(
    slow: Slow, capsys: pytest.CaptureFixture[str]
) -> None:
    result = ended(slow.tasks, slow.checkpointed)
    assert (result["state"], result["exit_code"], result["continued"]) == ("COMPLETED", 0, 1)
    assert "| finished" in capsys.readouterr().out


@pytest.mark.usefixtures("connections")
def test_a_job_is_continued_so_often_and_no_more(slow: Slow) -> None:
    with pytest.raises(JobFailedError, match=r"TIMEOUT.*walltime"):
        ended(slow.tasks, slow.never_finished)
    record = slow.never_finished["record_dir"]
    assert on_head_node(slow.tasks.address, f"cat {record}/continued") == "1\n"


@pytest.mark.usefixtures("connections")
def test_a_lost_node_fails_a_job_that_must_not_start_again(slow: Slow) -> None:
    with pytest.raises(JobFailedError, match="NODE_FAIL"):
        ended(slow.tasks, slow.node_lost_for_good)


@pytest.mark.usefixtures("connections")
def test_a_lost_node_is_no_failure_of_a_job_that_may_start_again(slow: Slow) -> None:
    result = ended(slow.tasks, slow.node_lost)
    assert (result["state"], result["restarts"]) == ("COMPLETED", 1)
