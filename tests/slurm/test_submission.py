"""Exactly once, on the real Slurm: whatever is lost or killed, an attempt has one job."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import (
    ConfigurationError,
    ConnectionLostError,
    HeadNodeCommandError,
    JobFailedError,
    JobRejectedError,
)
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import Session, run_session
from hpc.slurm.sensors import SlurmJobSensor
from hpc.slurm.submission import PROGRAM, Submission, cancel_attempt, parse_answer

from .conftest import SSH, TaskInstance, Tasks, on_head_node

LONG = "sleep 300"


def ended(tasks: Tasks, job: dict[str, Any]) -> dict[str, Any]:
    """Wait for a job's end; return how it ended."""
    sensor = SlurmJobSensor(
        task_id="wait",
        cluster_name=tasks.address.cluster_name,
        head_node=tasks.address.as_dict(),
        job=job,
        deferrable=False,
        waiter_delay=1,
    )
    return sensor.execute(TaskInstance().context)


def jobs_named(address: HeadNodeAddress, token: str) -> list[str]:
    """Every job that Slurm has ever had (within MinJobAge) for a task: `id state`."""
    listed = on_head_node(address, "squeue --noheader --states=all --format='%A %T %j'")
    return [" ".join(line.split()[:2]) for line in listed.splitlines() if f".{token}." in line]


def cancel(address: HeadNodeAddress, name: str) -> None:
    on_head_node(address, f"scancel --name={name}")


def test_a_retry_finds_the_job(tasks: Tasks) -> None:
    ti = TaskInstance()
    operator = tasks.operator(LONG, wait_for_completion=False)
    first = operator.execute(ti.context)
    assert operator.execute(ti.context) == first
    assert len(jobs_named(tasks.address, first["token"])) == 1
    cancel(tasks.address, first["name"])


def test_a_job_carries_its_identity(tasks: Tasks) -> None:
    job = tasks.submit(LONG)
    shown = on_head_node(tasks.address, f"scontrol --oneliner show job {job['job_id']}")
    assert f"JobName={job['name']} " in shown
    assert f"Comment=airflow:{job['token']}:1 " in shown
    cancel(tasks.address, job["name"])


def test_eight_at_once_are_one_job(tasks: Tasks) -> None:
    ti = TaskInstance()
    operator = tasks.operator(LONG, wait_for_completion=False)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: operator.execute(ti.context), range(8)))
    assert all(job == jobs[0] for job in jobs)
    assert len(jobs_named(tasks.address, jobs[0]["token"])) == 1
    cancel(tasks.address, jobs[0]["name"])


def test_a_cleared_task_gets_a_new_attempt_and_the_old_one_dies_first(tasks: Tasks) -> None:
    operator = tasks.operator(LONG, wait_for_completion=False)
    ti = TaskInstance()
    old = operator.execute(ti.context)
    ti.max_tries = 3
    new = operator.execute(ti.context)
    assert new["attempt"] == 2
    assert jobs_named(tasks.address, old["token"])[0] == f"{old['job_id']} CANCELLED"
    ti.max_tries = 1
    with pytest.raises(ConfigurationError, match="out of date"):
        operator.execute(ti.context)
    cancel(tasks.address, new["name"])


def test_a_retry_after_a_failed_job_is_a_new_attempt_only_for_who_waited(tasks: Tasks) -> None:
    ti = TaskInstance()
    waiting = tasks.operator("exit 3", deferrable=False)
    for attempt in (1, 2):
        with pytest.raises(JobFailedError, match=rf"\.{attempt}\)"):
            waiting.execute(ti.context)

    ti = TaskInstance()
    submitting = tasks.operator("exit 3", wait_for_completion=False)
    first = submitting.execute(ti.context)
    deadline = time.monotonic() + 60
    while "FAILED" not in jobs_named(tasks.address, first["token"])[0]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert submitting.execute(ti.context) == first


def test_a_retry_after_success_reports_it_again(tasks: Tasks) -> None:
    ti = TaskInstance()
    operator = tasks.operator("echo once >> ran", deferrable=False)
    assert operator.execute(ti.context) == operator.execute(ti.context)
    assert on_head_node(tasks.address, f"cat {operator.directory}/ran") == "once\n"


# ------------------------------------------------------------------------------------------------ forgotten by Slurm
FORGET = """
rm -f /var/spool/slurmctld/job_state*; pkill -9 -x slurmctld; sleep 0.3
until squeue --noheader >/dev/null 2>&1; do sleep 0.1; done
"""


def start_again(tasks: Tasks, job: dict[str, Any], **variables: object) -> str:
    """Run what Slurm would run, once more; return its exit code."""
    given = " ".join(f"SLURM_{name}={value}" for name, value in {"JOB_NODELIST": "n-1", **variables}.items())
    command = f"cd {job['directory']}; env {given} bash {job['record_dir']}/job.sh {job['record_dir']} 0; echo $?"
    return on_head_node(tasks.address, command).strip()


def test_a_job_that_a_killed_slurmctld_has_forgotten_is_a_new_attempt(another_cluster: Tasks) -> None:
    ti = TaskInstance()
    operator = another_cluster.operator("#SBATCH --begin=now+5\necho once >> ran", wait_for_completion=False)
    first = operator.execute(ti.context)
    on_head_node(another_cluster.address, FORGET)
    second = operator.execute(ti.context)
    assert second["attempt"] == 2
    assert operator.execute(ti.context) == second
    # Should the first one start all the same, its script does not.
    assert start_again(another_cluster, first, JOB_ID=77) == "120"
    ended(another_cluster, second)
    assert on_head_node(another_cluster.address, f"cat {operator.directory}/ran") == "once\n"


def test_a_sweep_that_a_killed_slurmctld_has_forgotten_is_a_new_attempt(another_cluster: Tasks) -> None:
    ti = TaskInstance()
    sweep = {"points": [{"size": 1}, {"size": 2}]}
    operator = another_cluster.operator("#SBATCH --begin=now+5\ntrue", wait_for_completion=False, sweep=sweep)
    operator.execute(ti.context)
    on_head_node(another_cluster.address, FORGET)
    again = operator.execute(ti.context)
    assert (again["attempt"], again["sent"]) == (2, 2)


@pytest.mark.parametrize("sign", ["echo terminated=1 >{}/terminated", "touch --date=@1 {}/alive"])
def test_what_may_still_run_is_not_given_up(another_cluster: Tasks, sign: str) -> None:
    ti = TaskInstance()
    operator = another_cluster.operator("sleep 300", wait_for_completion=False)
    job = operator.execute(ti.context)
    deadline = time.monotonic() + 60
    while "alive" not in on_head_node(another_cluster.address, f"ls {job['record_dir']}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    on_head_node(another_cluster.address, FORGET)
    assert operator.execute(ti.context) == job
    on_head_node(another_cluster.address, sign.format(job["record_dir"]))
    assert operator.execute(ti.context)["attempt"] == 2


def test_a_job_that_slurm_starts_again_after_its_end_does_not_run_again(tasks: Tasks) -> None:
    job = tasks.submit("echo once >> ran; exit 3")
    with pytest.raises(JobFailedError):
        ended(tasks, job)
    for restarts in (0, 1):
        assert start_again(tasks, job, JOB_ID=job["job_id"], RESTART_COUNT=restarts) == "0"
    assert on_head_node(tasks.address, f"cat {job['directory']}/ran") == "once\n"
    with pytest.raises(JobFailedError, match="exit code 3"):
        ended(tasks, job)


# ------------------------------------------------------------------------------------------------ killed on the way
FAKE = """
mkdir -p {folder} && cat >{folder}/sbatch && chmod 755 {folder}/sbatch
"""


def submit_with(tasks: Tasks, submission: Submission, fake_sbatch: str) -> str:
    """Run the program with another sbatch; return its answer, empty if it was killed."""
    folder = "/tmp/fake"  # of the head node
    on_head_node(tasks.address, FAKE.format(folder=folder), input=f"#!/bin/bash\n{fake_sbatch}\n")

    async def run(session: Session) -> str:
        await session.write(PROGRAM.path, PROGRAM.text)
        command = f"export PATH={folder}:$PATH; {PROGRAM.command('submit')}"
        return (await session.run(command, input=json.dumps([submission.request()]), check=False)).stdout

    return run_session(tasks.address, SSH, run)


@pytest.mark.parametrize(
    "fake",
    [
        pytest.param("kill -9 $PPID", id="before sbatch"),
        pytest.param('/opt/slurm/bin/sbatch "$@" >/dev/null; kill -9 $PPID', id="between sbatch and the record"),
        pytest.param('kill -9 $PPID; sleep 1; /opt/slurm/bin/sbatch "$@"', id="while sbatch runs"),
    ],
)
def test_killed_at_the_worst_moment(tasks: Tasks, fake: str) -> None:
    ti = TaskInstance()
    operator = tasks.operator("echo once >> ran", deferrable=False)
    submission = operator._submission(ti.context)
    assert submit_with(tasks, submission, fake) == ""
    job = operator.execute(ti.context)
    assert job["attempt"] == 1
    assert len(jobs_named(tasks.address, job["token"])) == 1
    assert on_head_node(tasks.address, f"cat {operator.directory}/ran") == "once\n"


def test_an_sbatch_that_fails_after_it_was_heard_is_no_second_job(tasks: Tasks) -> None:
    ti = TaskInstance()
    operator = tasks.operator(LONG, wait_for_completion=False)
    fake = '/opt/slurm/bin/sbatch "$@" >/dev/null; echo "sbatch: error: Socket timed out" >&2; exit 1'
    answer = parse_answer(submit_with(tasks, operator._submission(ti.context), fake))
    assert answer is not None
    job = operator.execute(ti.context)
    assert (job["attempt"], job["job_id"]) == (answer.attempt, answer.job_id)
    assert len(jobs_named(tasks.address, job["token"])) == 1
    cancel(tasks.address, job["name"])


def test_slurm_that_cannot_be_asked_is_not_an_empty_queue(tasks: Tasks) -> None:
    operator = tasks.operator(LONG, wait_for_completion=False)
    answer = submit_with(
        tasks,
        operator._submission(TaskInstance().context),
        "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1",
    )
    with pytest.raises(HeadNodeCommandError, match="cannot take a job now"):
        parse_answer(answer)


def test_a_lost_answer_is_found_again(tasks: Tasks) -> None:
    ti = TaskInstance()
    operator = tasks.operator(LONG, wait_for_completion=False)
    submission = operator._submission(ti.context)
    slow = 'sleep 2; exec /opt/slurm/bin/sbatch "$@"'
    on_head_node(tasks.address, FAKE.format(folder="/tmp/slow"), input=f"#!/bin/bash\n{slow}\n")

    async def lose(session: Session) -> None:
        await session.write(PROGRAM.path, PROGRAM.text)
        command = f"export PATH=/tmp/slow:$PATH; {PROGRAM.command('submit')}"
        running = asyncio.create_task(session.run(command, input=json.dumps([submission.request()])))
        async with asyncio.timeout(30):
            await session.run(f"until ls {operator.directory}/.slurm/*/attempt-1; do sleep 0.05; done")
        session.connection.abort()
        with pytest.raises(ConnectionLostError):
            await running

    run_session(tasks.address, SSH, lose)
    job = operator.execute(ti.context)
    assert job["attempt"] == 1
    assert len(jobs_named(tasks.address, job["token"])) == 1
    cancel(tasks.address, job["name"])


def test_a_job_that_is_there_finds_its_inputs_as_they_are(tasks: Tasks, tmp_path: Path) -> None:
    source = tmp_path / "restart"
    source.write_text("from the repository\n")
    ti = TaskInstance()
    script = "echo from the job > restart; sleep 300"
    operator = tasks.operator(script, wait_for_completion=False, inputs=[{"source": str(source), "name": "restart"}])
    job = operator.execute(ti.context)
    content = f"cat {job['directory']}/restart"
    deadline = time.monotonic() + 60
    while "from the job" not in on_head_node(tasks.address, content):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert operator.execute(ti.context) == job
    assert on_head_node(tasks.address, content) == "from the job\n"
    cancel(tasks.address, job["name"])


def test_a_retry_of_a_task_that_was_killed_is_a_new_attempt(tasks: Tasks) -> None:
    ti = TaskInstance()
    operator = tasks.operator(LONG, wait_for_completion=False)
    first = operator.execute(ti.context)
    operator.on_kill()
    again = operator.execute(ti.context)
    assert (first["attempt"], again["attempt"]) == (1, 2)
    assert [line.split()[1] == "CANCELLED" for line in jobs_named(tasks.address, first["token"])] == [True, False]
    cancel(tasks.address, again["name"])


def test_a_signal_while_the_task_talks_to_the_head_node_cancels_its_job(tasks: Tasks) -> None:
    operator = tasks.operator(LONG, wait_for_completion=False)
    job = operator.execute(TaskInstance().context)

    async def talk(session: Session) -> None:
        operator.on_kill()  # as Airflow does from a signal handler, in the midst of a running event loop

    run_session(tasks.address, SSH, talk)
    assert "CANCELLED" in jobs_named(tasks.address, job["token"])[0]


def test_cancelling_what_never_was_is_nothing(tasks: Tasks) -> None:
    places = tasks.operator(LONG)._submission(TaskInstance().context).places

    async def cancel_it(session: Session) -> int | None:
        return await cancel_attempt(session, places)

    assert run_session(tasks.address, SSH, cancel_it) is None


def test_what_slurm_refuses_says_why(tasks: Tasks) -> None:
    with pytest.raises(JobRejectedError, match=r"(?s)invalid partition.*sinfo"):
        tasks.submit("true", resources={"partition": "nowhere"})
    with pytest.raises(JobRejectedError, match="sbatch refused"):
        tasks.submit("true", resources={"nodes": 99})


def test_the_rendered_script_is_shown(tasks: Tasks) -> None:
    operator = tasks.operator("#SBATCH --exclusive\necho hello", parameters='{"a": "it\'s"}', resources={"nodes": 2})
    operator.render_template_fields(TaskInstance().context)
    for part in ("--nodes=2", "export PARAM_A=", "#SBATCH --exclusive\necho hello"):
        assert part in operator.rendered_script


def test_a_wrong_parameter_shows_in_the_rendered_script_and_fails_the_task(tasks: Tasks) -> None:
    operator = tasks.operator("true", parameters={"a": "x\0y"})
    operator.render_template_fields(TaskInstance().context)
    assert "NUL" in operator.rendered_script
    with pytest.raises(ConfigurationError, match="NUL"):
        operator.execute(TaskInstance().context)


def test_a_mapped_task_has_jobs_of_its_own(tasks: Tasks) -> None:
    run_id = TaskInstance().run_id
    operator = tasks.operator("true", wait_for_completion=False)
    jobs = [operator.execute(TaskInstance(run_id=run_id, map_index=index).context) for index in (0, 1)]
    assert len({job["token"] for job in jobs}) == len({job["log"] for job in jobs}) == 2


def test_killing_the_task_cancels_its_own_job_only(tasks: Tasks) -> None:
    other = tasks.submit(LONG)
    operator = tasks.operator(LONG, wait_for_completion=False)
    job = operator.execute(TaskInstance().context)
    operator.on_kill()
    assert "CANCELLED" in jobs_named(tasks.address, job["token"])[0]
    assert "CANCELLED" not in jobs_named(tasks.address, other["token"])[0]
    cancel(tasks.address, other["name"])
