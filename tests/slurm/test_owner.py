"""Of the jobs of one attempt only one runs the script, though a slurmctld that was killed may start a second one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc.slurm.on_head_node import SURELY_DEAD
from hpc.slurm.script import render_job

from .conftest import Tasks, on_head_node
from .test_script import children_of

SCRIPT = """#!/bin/bash
echo "begin $SLURM_JOB_ID" >>ran
until [ -e "$SLURM_JOB_ID.go" ]; do sleep 0.05; done
echo "end $SLURM_JOB_ID" >>ran
exit 3
"""

#: Told are id and element of the jobs of a name, as far as slurmctld answers.
SQUEUE = """#!/bin/sh
for option; do case $option in --name=*) name=${option#*=} ;; esac; done
while read -r id element called; do [ "$called" != "$name" ] || echo "$id $element"; done <queue
[ ! -e down ]
"""


class Attempt:
    """The record of an attempt, and the wrappers that a Slurm starts for it, which knows the jobs of `in_queue`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.record, self.bin = folder, folder / "record", folder / "bin"
        self.jobs: list[subprocess.Popen[bytes]] = []
        self.record.mkdir()
        self.bin.mkdir()
        (self.record / "parameters.sh").touch()
        (self.record / "job.sh").write_text(render_job([]))
        for place, text in ((self.record / "script", SCRIPT), (self.bin / "squeue", SQUEUE)):
            place.write_text(text)
            place.chmod(0o755)
        self.in_queue()

    def in_queue(self, *rows: str) -> None:
        """Let squeue tell of these jobs."""
        (self.folder / "queue").write_text("".join(f"{row}\n" for row in rows))

    def start(self, job_id: int, **environment: str) -> subprocess.Popen[bytes]:
        """Start a job's wrapper."""
        job = subprocess.Popen(
            ["bash", str(self.record / "job.sh"), str(self.record)],
            cwd=self.folder,
            env={
                "PATH": f"{self.bin}:/usr/bin:/bin",
                "SLURM_JOB_ID": str(job_id),
                "SLURM_JOB_NAME": "simulation.1",
                "SLURM_JOB_NODELIST": "n-1",
                **environment,
            },
            stderr=subprocess.PIPE,
            process_group=0,  # Slurm ends all of a job at once
        )
        self.jobs.append(job)
        return job

    def run(self, job_id: int, **environment: str) -> subprocess.Popen[bytes]:
        """Start a job, and wait until its script runs and it has given a sign of life."""
        job = self.start(job_id, **environment)
        self.until(lambda: f"begin {job_id}" in self.ran and (self.record / "alive").exists(), job)
        return job

    def until(self, condition: Callable[[], bool], job: subprocess.Popen[bytes]) -> None:
        """Wait for what comes true while this job lives."""
        while not condition():
            assert job.poll() is None, job.communicate()
            time.sleep(0.02)

    def let_end(self, job_id: int) -> None:
        """Let a job's script come to its end."""
        (self.folder / f"{job_id}.go").touch()

    def grow_old(self) -> None:
        """Let the last sign of life be so old that its owner is surely dead."""
        then = time.time() - SURELY_DEAD - 1
        for sign in (*self.record.glob("alive"), *self.record.glob("owner*")):
            os.utime(sign, (then, then))

    @property
    def ran(self) -> list[str]:
        """What the script has written."""
        file = self.folder / "ran"
        return file.read_text().splitlines() if file.exists() else []

    def recorded(self, name: str) -> dict[str, str]:
        """Return what a file of the record says."""
        return dict(line.split("=", 1) for line in (self.record / name).read_text().splitlines())


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Attempt]:
    made = Attempt(tmp_path)
    yield made
    for job in made.jobs:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        if job.stderr is not None:
            job.stderr.close()


def beat(job: subprocess.Popen[bytes]) -> None:
    """Let a job's heart beat now: it need not sleep. One that has just beaten by itself may have ended the job."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        (heart,) = (child for child in children_of(job.pid) if b"job.sh" in Path(f"/proc/{child}/cmdline").read_bytes())
        for nap in children_of(heart):
            os.kill(nap, signal.SIGTERM)


def said(job: subprocess.Popen[bytes]) -> str:
    """Return the next line of what a wrapper says."""
    assert job.stderr is not None
    return job.stderr.readline().decode()


def test_a_second_job_gives_way_to_one_that_slurm_knows(attempt: Attempt) -> None:
    attempt.run(7)
    attempt.in_queue("7 N/A simulation.1")
    double = attempt.start(8)
    assert said(double) == "Job 7 is this attempt already; job 8 ends here, without running the script.\n"
    assert double.wait() == 120
    assert attempt.ran == ["begin 7"]


@pytest.mark.parametrize("row", ["7 N/A another.1", "7 3 simulation.1", "17 N/A simulation.1"])
def test_it_waits_for_one_that_slurm_has_forgotten_and_its_end_stands(attempt: Attempt, row: str) -> None:
    """Another job, or another point, may have its id by now."""
    first = attempt.run(7)
    attempt.in_queue(row)
    second = attempt.start(8)
    assert said(second) == "Slurm has forgotten job 7, which may still run: job 8 waits.\n"
    attempt.let_end(7)
    assert first.wait() == 3
    assert "has ended before" in said(second)
    assert second.wait() == 0
    assert attempt.ran == ["begin 7", "end 7"]
    assert (attempt.recorded("start")["job_id"], attempt.recorded("end")["exit_code"]) == ("7", "3")


def test_it_takes_over_from_a_dead_one(attempt: Attempt) -> None:
    os.killpg(attempt.run(7).pid, signal.SIGKILL)
    second = attempt.start(8)
    assert "job 8 waits" in said(second)  # for nobody knows yet that it is dead
    attempt.grow_old()
    assert said(second) == "Slurm has forgotten job 7, which is dead: job 8 takes over.\n"
    attempt.let_end(8)
    assert second.wait() == 3
    assert attempt.ran == ["begin 7", "begin 8", "end 8"]
    assert (attempt.recorded("start")["job_id"], attempt.recorded("end")["exit_code"]) == ("8", "3")
    assert attempt.recorded("before")["job_id"] == "7"


def test_only_one_of_many_takes_over(attempt: Attempt) -> None:
    os.killpg(attempt.run(7).pid, signal.SIGKILL)
    attempt.grow_old()
    others = [attempt.start(job_id) for job_id in range(8, 16)]
    attempt.until(lambda: len(attempt.ran) > 1, others[0])
    winner = int(attempt.ran[1].split()[1])
    for job_id, job in zip(range(8, 16), others, strict=True):
        if job_id != winner:
            assert said(job) == f"Slurm has forgotten job {winner}, which may still run: job {job_id} waits.\n"
    attempt.let_end(winner)
    assert sorted(job.wait() for job in others) == [0] * 7 + [3]
    assert attempt.ran == ["begin 7", f"begin {winner}", f"end {winner}"]


def test_one_that_was_stopped_until_another_took_over_ends_without_a_trace(attempt: Attempt) -> None:
    first = attempt.run(7)
    os.killpg(first.pid, signal.SIGSTOP)
    attempt.grow_old()
    second = attempt.run(8)
    os.killpg(first.pid, signal.SIGCONT)
    beat(first)
    assert said(first) == "Job 8 has taken over from job 7, which ends here.\n"
    assert first.wait() == 120
    attempt.let_end(7)
    attempt.let_end(8)
    assert second.wait() == 3
    assert attempt.ran == ["begin 7", "begin 8", "end 8"]
    assert not (attempt.record / "terminated").exists()
    assert attempt.recorded("end")["exit_code"] == "3"


def test_one_that_cannot_read_the_owner_is_not_lost(attempt: Attempt) -> None:
    """A file system that fails for a moment is no reason to end hours of work."""
    job = attempt.run(7)
    (attempt.record / "owner").rename(attempt.folder / "away")
    beats = (attempt.record / "alive").stat().st_mtime_ns
    beat(job)
    attempt.until(lambda: (attempt.record / "alive").stat().st_mtime_ns > beats, job)
    attempt.let_end(7)
    assert job.wait() == 3
    assert attempt.recorded("end")["exit_code"] == "3"
    assert not (attempt.record / "terminated").exists()


def test_one_that_cannot_write_its_record_ends_at_once(attempt: Attempt) -> None:
    """It must not hold its nodes for nothing."""
    (attempt.bin / "mv").write_text("#!/bin/sh\nexit 1\n")  # as on a full disk
    (attempt.bin / "mv").chmod(0o755)
    job = attempt.start(7)
    assert "cannot write to" in job.communicate()[1].decode()
    assert job.returncode == 121
    assert attempt.ran == []


def test_nobody_takes_over_while_slurmctld_does_not_answer(attempt: Attempt) -> None:
    os.killpg(attempt.run(7).pid, signal.SIGKILL)
    attempt.grow_old()
    (attempt.folder / "down").touch()
    second = attempt.start(8)
    assert "job 8 waits" in said(second)
    (attempt.folder / "down").unlink()
    assert said(second) == "Slurm has forgotten job 7, which is dead: job 8 takes over.\n"


def test_one_that_is_started_anew_under_its_own_id_waits_for_its_first_start(attempt: Attempt) -> None:
    os.killpg(attempt.run(7).pid, signal.SIGKILL)
    again = attempt.start(7)
    assert "job 7 waits" in said(again)
    attempt.grow_old()
    attempt.let_end(7)
    assert again.wait() == 3
    assert attempt.ran == ["begin 7", "begin 7", "end 7"]


def test_one_that_is_put_back_waits_for_nobody(attempt: Attempt) -> None:
    os.killpg(attempt.run(7).pid, signal.SIGKILL)
    again = attempt.start(7, SLURM_RESTART_COUNT="1")
    attempt.let_end(7)
    assert again.wait() == 3
    assert again.communicate()[1] == b""


def test_one_that_lost_its_record_while_it_was_put_back_records_no_end(attempt: Attempt) -> None:
    """`scontrol` waits for a slurmctld that is down, and that may forget the job."""
    (attempt.record / "checkpoint").write_text("USR1 1\n")
    (attempt.bin / "scontrol").write_text("#!/bin/sh\ntouch asked; until [ -e refused ]; do sleep 0.05; done; exit 1\n")
    (attempt.bin / "scontrol").chmod(0o755)
    first = attempt.run(7)
    first.send_signal(signal.SIGUSR1)
    attempt.let_end(7)
    attempt.until((attempt.folder / "asked").exists, first)
    attempt.grow_old()
    second = attempt.run(8)
    (attempt.folder / "refused").touch()
    assert first.wait() == 120
    assert not (attempt.record / "end").exists()
    attempt.let_end(8)
    assert second.wait() == 3


def test_one_that_waits_is_given_up_with_its_attempt(attempt: Attempt) -> None:
    attempt.run(7)
    second = attempt.start(8)
    assert "job 8 waits" in said(second)
    (attempt.record / "withdrawn").touch()
    assert said(second) == "This attempt was given up; job 8 ends here, without running the script.\n"
    assert second.wait() == 120


SWEEP = {"sweep": {"points": [{"n": 1}, {"n": 2}]}}


@pytest.mark.parametrize("more", [{}, SWEEP], ids=["job", "sweep"])
def test_the_real_slurm_does_not_know_the_dead_owner(tasks: Tasks, more: dict[str, Any]) -> None:
    """Its id may be another job's by now."""
    job = tasks.submit("#SBATCH --hold\ntrue", **more)
    other = tasks.submit("sleep 300")
    places = [f"{job['record_dir']}/elements/{point}" for point in (0, 1)] if more else [job["record_dir"]]
    owners = [f"{place}/owner" for place in places]
    for owner, job_id in zip(owners, (other["job_id"], 999999), strict=False):
        on_head_node(tasks.address, f"mkdir -p $(dirname {owner}); echo {job_id} >{owner}")
    on_head_node(tasks.address, f"touch -d '{SURELY_DEAD + 1} seconds ago' {' '.join(owners)}")
    on_head_node(tasks.address, f"scontrol release {job['job_id']}")
    until(tasks, f"cat {' '.join(f'{place}/end' for place in places)} | grep exit_code=0 | wc -l", str(len(places)))
    assert on_head_node(tasks.address, f"ls {' '.join(f'{owner}.1' for owner in owners)}").split() == [
        f"{owner}.1" for owner in owners
    ]
    on_head_node(tasks.address, f"scancel {other['job_id']}")


@pytest.mark.parametrize("more", [{}, SWEEP], ids=["job", "sweep"])
def test_the_real_slurm_knows_the_owner_that_runs(tasks: Tasks, more: dict[str, Any]) -> None:
    """No request of ours sends an attempt twice; a hand that does finds it running."""
    job = tasks.submit("exec sleep 300", **more)
    record, log = job["record_dir"], f"{job['directory']}/double.log"
    place = f"{record}/elements/1" if more else record
    until(tasks, f"test -e {place}/alive && echo begun", "begun")
    where = f"--chdir={job['directory']} --output={log} {'--array=1' if more else ''}"
    on_head_node(tasks.address, f"sbatch --job-name={job['name']} {where} {record}/job.sh {record} 0")
    log = f"{job['directory']}/points/1/output.log" if more else log
    until(tasks, f"grep -o 'is this attempt already' {log}", "is this attempt already")
    on_head_node(tasks.address, f"scancel --name={job['name']}")


def until(tasks: Tasks, command: str, answer: str, limit: float = 60) -> None:
    """Ask the head node until it answers so."""
    end = time.monotonic() + limit
    while (told := on_head_node(tasks.address, f"{{ {command}; }} 2>&1 || true").strip()) != answer:
        assert time.monotonic() < end, told
        time.sleep(0.2)
