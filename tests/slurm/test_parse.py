"""Parsers, fed with what Slurm 22.05.8 printed for the very commands that they are for."""

from __future__ import annotations

import shlex
from pathlib import Path

from hpc.slurm.parse import SEPARATOR, NodeReason, QueuedJob, parse_sinfo, parse_squeue, squeue_command
from hpc.slurm.reasons import explain, failure_code
from hpc.slurm.states import JobState

DATA = Path(__file__).parents[1] / "data"


def test_squeue_is_read() -> None:
    jobs = parse_squeue((DATA / "slurm-22.05.8-squeue.txt").read_text())
    assert jobs["melt.run.0123456789ab.1"] == QueuedJob(
        job_id=1,
        state=JobState.CANCELLED,
        reason="None",
        node_list="compute-dy-c5l-[1-2]",
        name="melt.run.0123456789ab.1",
        submitted="2026-11-23T02:54:58",
    )
    assert jobs["odd name; $x"].state is JobState.FAILED
    assert {name: job.reason for name, job in jobs.items() if job.state is JobState.PENDING} == {
        "later": "BeginTime",
        "bad": "DependencyNeverSatisfied",
        "capacity": "BeginTime",
        "held": "JobHeldUser",
    }
    assert all("not in the table" not in explain(job.reason).meaning for job in jobs.values() if job.node_list == "")


def test_sinfo_gives_the_nodes_that_have_a_reason() -> None:
    [node] = parse_sinfo((DATA / "slurm-22.05.8-sinfo.txt").read_text())
    assert node == NodeReason(
        node_list="compute-dy-c5l-[1-3]",
        state="idle%",
        reason="(Code:InsufficientInstanceCapacity)Failure when resuming nodes",
        since="2026-11-23T02:55:22",
    )
    assert failure_code(node.reason) == "InsufficientInstanceCapacity"


def test_other_lines_are_left_out() -> None:
    row = SEPARATOR.join(["7", "RUNNING", "None", "n-1", "name", "2026-01-01T00:00:00"])
    text = f"slurm_load_jobs error: Unable to contact slurm controller\n\n{SEPARATOR}\n{row}\n"
    assert list(parse_squeue(text)) == ["name"]


def test_an_empty_queue_is_empty() -> None:
    assert parse_squeue("") == {}
    assert parse_sinfo("") == []


def test_the_command_is_single_arguments_for_a_shell() -> None:
    assert shlex.split(shlex.join(squeue_command())) == squeue_command()
