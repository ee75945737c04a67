"""Sweeps on the real Slurm: a job array, a folder and a record a point; only what failed is computed again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import JobFailedError
from hpc.head_node.session import Session, run_session
from hpc.slurm import on_head_node
from hpc.slurm.identity import SubmittedJob
from hpc.slurm.on_head_node import indices_of, parts_of, ranges
from hpc.slurm.progress import SweepProgress
from hpc.slurm.sensors import SlurmAllocationSensor, SlurmJobSensor
from hpc.slurm.submission import PROGRAM

from .conftest import SSH, TaskInstance, Tasks
from .conftest import on_head_node as ask_head_node

POINTS = [{"size": size, "name": f"it's $({size})\n"} for size in (3, 5, 8, 13)]


def waited(tasks: Tasks, kind: Any, job: dict[str, Any]) -> dict[str, Any]:
    sensor = kind(
        task_id="wait",
        cluster_name=tasks.address.cluster_name,
        head_node=tasks.address.as_dict(),
        job=job,
        deferrable=False,
        waiter_delay=1,
        waiter_max_attempts=120,
    )
    nobody: Any = {}
    result: dict[str, Any] = sensor.execute(nobody)
    return result


def jobs_of(tasks: Tasks, token: str) -> list[str]:
    """Every element that Slurm has had for a task: `name index state`."""
    listed = ask_head_node(tasks.address, "squeue --noheader --array --states=all --format='%j %K %T'")
    return sorted(line for line in listed.splitlines() if f".{token}." in line)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_every_point_has_its_parameters_its_folder_and_its_numbers(tasks: Tasks, tmp_path: Path) -> None:
    (tmp_path / "table").write_text("42\n")
    script = """set -e
        test "$PARAM_COMMON" = yes
        echo "answer=$(cat data/table)" >> "$NUMBERS"
        echo "twice=$((2 * PARAM_SIZE))" >> "$NUMBERS"
        printf %s "$PARAM_NAME" > name
        echo "point $POINT"
    """
    operator = tasks.operator(
        script,
        wait_for_completion=False,
        parameters={"common": "yes"},
        inputs=[{"source": str(tmp_path / "table"), "name": "data/table"}],
        sweep=json.dumps({"points": POINTS, "max_running": 2}),
    )
    job = operator.execute(TaskInstance().context)
    assert (job["sent"], job["done"]) == (4, 0)
    assert waited(tasks, SlurmAllocationSensor, job)["state"] == "RUNNING"
    result = waited(tasks, SlurmJobSensor, job)
    assert result == {"points": 4, "succeeded": 4, "failed": {}, "failed_count": 0, "tolerated": 0}

    async def read(session: Session) -> list[bytes]:
        names = ["points.csv", "points/2/numbers", "points/2/name", "points/3/output.log"]
        return [await session.read(f"{job['directory']}/{name}", 1000) for name in names]

    table, numbers, name, output = run_session(tasks.address, SSH, read)
    assert table.startswith(b"point,size,name\n0,3,")
    assert numbers == b"answer=42\ntwice=16\n"
    assert name == b"it's $(8)\n"
    assert output == b"point 3\n"


def test_only_what_failed_is_computed_again(tasks: Tasks) -> None:
    script = "echo ran >> ran\ncase $POINT in 1|2) test -e fixed ;; esac"
    ti = TaskInstance()
    operator = tasks.operator(script, deferrable=False, sweep={"points": POINTS})
    with pytest.raises(
        JobFailedError, match=r"2 of 4 points (.|\n)*1 \(exit code 1\), 2 \(exit code 1\)(.|\n)*output.log"
    ):
        operator.execute(ti.context)
    ask_head_node(tasks.address, f"touch {operator.directory}/points/1/fixed {operator.directory}/points/2/fixed")
    job = operator.execute(ti.context)
    assert (job["attempt"], job["sent"], job["done"]) == (2, 2, 2)
    assert job["result"]["succeeded"] == 4
    ran = ask_head_node(tasks.address, f"cd {operator.directory}/points && wc -l <0/ran && wc -l <1/ran").split()
    assert ran == ["1", "2"]
    assert operator.execute(ti.context) == job, "a retry after success reports it again"


def test_some_points_may_fail(tasks: Tasks, capsys: pytest.CaptureFixture[str]) -> None:
    job = tasks.run("[ $POINT != 3 ]", sweep={"points": POINTS, "tolerate": 0.25})
    assert (job["result"]["failed"], job["result"]["failed_count"]) == ({"3": "exit code 1"}, 1)
    logged = capsys.readouterr().out
    assert "[##############################] 4 of 4 points have ended, 1 failed" in logged
    assert "COMPLETED              3  ended with exit code 0" in logged
    assert "which is tolerated" in logged


def test_a_point_that_slurm_ended_has_failed(tasks: Tasks) -> None:
    job = tasks.submit("[ $POINT != 2 ] || exec sleep 300", sweep={"points": POINTS})
    until(lambda: sum("COMPLETED" in line for line in jobs_of(tasks, job["token"])) == 3)
    until(lambda: any("RUNNING" in line for line in jobs_of(tasks, job["token"])))
    ask_head_node(tasks.address, f"scancel {job['job_id']}_2")
    with pytest.raises(JobFailedError, match=r"1 of 4 points (.|\n)*: 2 \("):
        waited(tasks, SlurmJobSensor, job)


def test_a_point_that_slurm_puts_back_has_not_failed(tasks: Tasks) -> None:
    """Slurm terminates it, which the wrapper records, and starts it again some seconds later."""
    again = '[ "$POINT" != 2 ] || [ "${SLURM_RESTART_COUNT:-0}" != 0 ] || exec sleep 300'
    job = tasks.submit(again, sweep={"points": POINTS})
    until(lambda: sum("COMPLETED" in line for line in jobs_of(tasks, job["token"])) == 3)
    until(lambda: any("RUNNING" in line for line in jobs_of(tasks, job["token"])))
    ended = f"test -e {job['record_dir']}/ends/2=143 && echo ended || true"
    ask_head_node(tasks.address, f"scontrol requeue {job['job_id']}_2")
    until(lambda: ask_head_node(tasks.address, ended) == "ended\n")
    assert waited(tasks, SlurmJobSensor, job)["succeeded"] == 4


def test_killing_the_task_cancels_every_point(tasks: Tasks) -> None:
    operator = tasks.operator("exec sleep 300", wait_for_completion=False, sweep={"points": POINTS})
    job = operator.execute(TaskInstance().context)
    waited(tasks, SlurmAllocationSensor, job)
    operator.on_kill()
    assert all("CANCELLED" in line for line in jobs_of(tasks, job["token"]))


SMALL_ARRAYS = """#!/bin/bash
if [ "$1 $2" = "show config" ]; then echo "MaxArraySize = 3"; else exec /opt/slurm/bin/scontrol "$@"; fi
"""
SECOND_KILLS = """#!/bin/bash
if [ -e /tmp/small/second ]; then /opt/slurm/bin/sbatch "$@" >/dev/null; kill -9 $PPID; exit; fi
touch /tmp/small/second
exec /opt/slurm/bin/sbatch "$@"
"""


@pytest.mark.parametrize("killed", [False, True])
def test_an_array_that_is_too_large_is_sent_in_parts_each_once(tasks: Tasks, killed: bool) -> None:
    points = [{"size": number} for number in range(8)]
    operator = tasks.operator('echo "$PARAM_SIZE" >> seen', wait_for_completion=False, sweep={"points": points})
    ti = TaskInstance()
    request = json.dumps([operator._submission(ti.context).request()])
    fakes = {"scontrol": SMALL_ARRAYS} | ({"sbatch": SECOND_KILLS} if killed else {})

    async def submit(session: Session) -> str:
        await session.run("rm -rf /tmp/small")
        await session.write(PROGRAM.path, PROGRAM.text)
        for name, text in fakes.items():
            await session.write(f"/tmp/small/{name}", text.encode())
            await session.run(f"chmod 755 /tmp/small/{name}")
        command = f"export PATH=/tmp/small:$PATH; {PROGRAM.command('submit')}"
        first = await session.run(command, input=request, check=False)
        if not killed:
            return first.stdout
        assert first.stdout == ""
        return (await session.run(PROGRAM.command("submit"), input=request)).stdout

    answer = json.loads(run_session(tasks.address, SSH, submit))
    assert sorted(answer["parts"].values()) == [0, 3, 6]
    job = operator.execute(ti.context)
    assert (job["attempt"], job["parts"]) == (1, answer["parts"])
    assert waited(tasks, SlurmJobSensor, job)["succeeded"] == 8
    assert len(jobs_of(tasks, job["token"])) == 8
    seen = ask_head_node(tasks.address, f"cd {job['directory']}/points && cat */seen").split()
    assert seen == [str(number) for number in range(8)]


# ------------------------------------------------------------------------------------------------ pure
@pytest.mark.parametrize(
    ("indices", "text"), [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 9], "0,2-3,9"), (list(range(1000)), "0-999")]
)
def test_ranges_are_written_and_read(indices: list[int], text: str) -> None:
    assert ranges(indices) == text
    assert indices_of(f"{text}%7") == indices


def test_a_limit_of_running_points_is_shared_by_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_head_node, "largest_array", lambda: 10)
    request = {"job_name": "s.", "max_running": 4}
    parts = parts_of(request, 1, [0, 1, 2, 13, 14, 29])
    assert [tuple(part) for part in parts] == [("s.1", 0, "0-2%1"), ("s.1.10", 10, "3-4%1"), ("s.1.20", 20, "9%1")]
    assert tuple(parts_of({**request, "max_running": None}, 2, [5])[0]) == ("s.2", 0, "5")


def progress(**facts: Any) -> SweepProgress:
    job = SubmittedJob("c", "t", 1, 7, "n", "/d", "/r", "/l", {"n": 0}, sent=80, done=20, tolerated=2)
    known = {"counts": {}, "reason": "", "submitted": "", "broken": {}, "ended": {}, **facts}
    return SweepProgress.read(job, known)


def test_the_progress_says_how_far_and_why_not_further() -> None:
    ended = {str(point): "0" for point in range(30)} | {"40": "3"}
    now = progress(counts={"RUNNING": 5, "PENDING": 43, "CONFIGURING": 1}, reason="Resources", ended=ended)
    assert now.line() == (
        "[###############...............] 51 of 100 points have ended, 1 failed; 5 run; 1 start;"
        " 43 wait (Resources: waits for nodes: they are busy, or are being started)"
    )
    assert (now.has_started, now.missing, now.failed) == (True, 0, {40: "exit code 3"})


def test_what_nobody_knows_is_missing_not_done() -> None:
    now = progress(ended={"0": "0"}, broken={"1": "NODE_FAIL"})
    assert (now.missing, now.succeeded) == (78, 1)
    assert now.result()["failed"] == {"1": "NODE_FAIL"}
    assert not progress(counts={"PENDING": 80}, reason="Priority").has_started
