from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from hpc.slurm.reasons import RESUME_TIMEOUT, Action, explain, failure_code


@pytest.mark.parametrize(
    ("text", "name", "action"),
    [
        ("Resources", "Resources", Action.WAIT),
        ("(Priority)", "Priority", Action.WAIT),
        ("None", "None", Action.WAIT),
        ("", "None", Action.WAIT),
        ("BeginTime", "BeginTime", Action.WAIT),
        (
            "(ReqNodeNotAvail, UnavailableNodes:compute-dy-c5xlarge-[1-4])",
            "ReqNodeNotAvail",
            Action.CAPACITY,
        ),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "Nodes required for job are DOWN",
            Action.CAPACITY,
        ),
        (
            "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved_for_jobs_in_higher_priority_partitions",
            "Nodes required for job are DOWN",
            Action.CAPACITY,
        ),
        ("launch_failed_requeued_held", "launch_failed_requeued_held", Action.FAIL),
        ("launch failed requeued held", "launch_failed_requeued_held", Action.FAIL),
        ("PartitionInactive", "PartitionInactive", Action.FLEET),
        ("QOSMaxGRESMinutesPerJob", "*PerJob", Action.FAIL),
        ("AssocMaxCpuPerNode", "*PerNode", Action.FAIL),
        ("QOSMaxWallDurationPerJobLimit", "*PerJobLimit", Action.FAIL),
        ("QOSMinGRES", "QOSMin*", Action.FAIL),
        ("QOSMaxJobsPerUserLimit", "QOS*", Action.WAIT),
        ("AssocGrpCPUMinutesLimit", "Assoc*", Action.WAIT),
        ("MaxGRESPerAccount", "Max*PerAccount", Action.WAIT),
        ("BadConstraints", "BadConstraints", Action.FAIL),
        ("DependencyNeverSatisfied", "DependencyNeverSatisfied", Action.FAIL),
        ("PartitionTimeLimit", "PartitionTimeLimit", Action.FAIL),
    ],
)
def test_reasons_have_a_row(text: str, name: str, action: Action) -> None:
    reason = explain(text)
    assert (reason.name, reason.action) == (name, action)


def test_an_unknown_reason_is_waited_for_and_shown() -> None:
    reason = explain("OfALaterSlurm")
    assert (reason.name, reason.action) == ("OfALaterSlurm", Action.WAIT)
    assert "not in the table" in reason.meaning


def reasons_of_the_installed_slurm() -> list[str]:
    """Every reason that this machine's Slurm can give, from its own table; one without a name is its number."""
    library = next(Path("/usr/lib").glob("*/slurm-wlm/libslurmfull.so"), None)
    assert library is not None, "Slurm's library is missing: apt-get install slurm-client"
    reason_string = ctypes.CDLL(str(library)).job_reason_string
    reason_string.restype = ctypes.c_char_p
    names = [reason_string(number).decode() for number in range(400)]
    return [name for name in dict.fromkeys(names) if not name.isdigit()]


@pytest.mark.slurm
def test_every_reason_that_slurm_gives_has_a_row() -> None:
    names = reasons_of_the_installed_slurm()
    assert len(names) > 150
    assert [name for name in names if "not in the table" in explain(name).meaning] == []


# Those that came after 22.05: job_reason_codes.html of 25.05.
@pytest.mark.parametrize(
    "name", ["MaxPowerPerAccount", "QOSMaxNodePerJobLimit", "AssocMaxUnknownPerNode", "QOSMinCpuNotSatisfied"]
)
def test_limits_of_other_releases_fall_into_a_row(name: str) -> None:
    assert "not in the table" not in explain(name).meaning


def test_what_fails_says_what_to_do() -> None:
    assert explain("BadConstraints").remedy


@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Written by ParallelCluster's clustermgtd.
        ("(Code:InsufficientInstanceCapacity)Temporarily disabling node due to insufficient capacity [root@t]",
         "InsufficientInstanceCapacity"),
        ("(Code:VcpuLimitExceeded)Error", "VcpuLimitExceeded"),
        # Written by slurmctld.
        ("ResumeTimeout reached [slurm@2026-11-25T02:00:00]", RESUME_TIMEOUT),
        ("Scheduler health check failed", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_node_says_why_it_could_not_be_launched(text: str, code: str | None) -> None:
    assert failure_code(text) == code
