from __future__ import annotations

import logging

import pytest

from hpc.slurm.states import JobState, Phase, parse_state

# squeue(1) of Slurm 25.05, JOB STATE CODES, and the flags of slurm.h that %T can print.
DOCUMENTED = """
BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING PREEMPTED
RUNNING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED
SUSPENDED TIMEOUT LAUNCH_FAILED RECONFIG_FAIL POWER_UP_NODE UPDATE_DB EXPEDITING
""".split()  # noqa: SIM905 - one word a line would hide that it is a list from a manual


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_documented_state_is_known(name: str) -> None:
    assert parse_state(name).slurm_name == name
    assert parse_state(name) is not JobState.UNKNOWN


def test_only_completed_is_success() -> None:
    assert [state for state in JobState if state.is_success] == [JobState.COMPLETED]


def test_a_state_is_terminal_or_not_and_success_or_failure() -> None:
    for state in JobState:
        assert state.is_terminal == (state.is_success or state.is_failure)
        assert not (state.is_success and state.is_failure)


@pytest.mark.parametrize("text", ["CANCELLED by 1000", "CANCELLED+", " cancelled "])
def test_decorated_states_are_read(text: str) -> None:
    assert parse_state(text) is JobState.CANCELLED


@pytest.mark.parametrize("text", ["FLYING", "", "COMPLETED_TWICE", "0"])
def test_an_unknown_state_is_logged_and_never_the_end(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        state = parse_state(text)
    assert state is JobState.UNKNOWN
    assert not state.is_terminal
    assert state.phase is Phase.UNKNOWN
    assert "not in the table" in caplog.text
