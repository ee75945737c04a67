import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workshop import processes

PARENT_OF_TWO = "sleep 321 & sleep 321 & wait"


@pytest.fixture
def records(tmp_path: Path):
    yield tmp_path
    processes.stop_all(tmp_path, patience=0)


def start(records: Path, script: str, name: str = "sleeper") -> None:
    processes.start(name, ["bash", "-c", script], records=records, environment=dict(os.environ), log=records / "log")


def living(records: Path) -> list[processes.Stat]:
    return list(processes._members(filter(None, map(processes._read, records.glob("*.process")))))


def wait_for(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_parse_stat_when_the_name_looks_like_more_fields() -> None:
    line = "42 (a) R 1 (b) S 7 40 41 0 -1 4194304 62 0 5 0 1 2 3 4 20 0 1 0 165370 2654208 360"

    assert processes.parse_stat(line) == processes.Stat(pid=42, state="S", session=41, started=165370)


def test_parse_stat_reads_what_the_kernel_says_of_this_process() -> None:
    stat = processes.parse_stat(Path("/proc/self/stat").read_text())

    assert (stat.pid, stat.session) == (os.getpid(), os.getsid(0))


def test_stop_ends_descendants_too(records: Path) -> None:
    start(records, PARENT_OF_TWO)
    wait_for(lambda: len(living(records)) == 3)

    assert processes.is_running("sleeper", records)
    assert processes.stop_all(records) == ["sleeper"]
    assert not processes.is_running("sleeper", records)
    assert list(records.glob("*.process*")) == []


def test_stop_ends_the_orphans_of_a_leader_that_was_killed(records: Path) -> None:
    start(records, PARENT_OF_TWO)
    wait_for(lambda: len(living(records)) == 3)
    leader = processes._read(records / "sleeper.process")
    assert leader
    os.kill(leader.pid, signal.SIGKILL)
    wait_for(lambda: not processes.is_running("sleeper", records))

    assert len(living(records)) == 2
    assert processes.stop_all(records) == ["sleeper"]


def test_stop_kills_what_ignores_the_polite_signal(records: Path) -> None:
    start(records, "sleep 321")
    start(records, f"trap '' TERM; touch {records}/ready; while true; do sleep 1; done", name="stubborn")
    wait_for((records / "ready").exists)

    assert processes.stop_all(records, patience=0.2) == ["sleeper", "stubborn"]


def test_a_process_survives_its_starter_and_is_found_by_the_next_one(records: Path) -> None:
    starter = (
        "import os, sys; from pathlib import Path; from workshop import processes\n"
        f"processes.start('sleeper', ['sleep', '321'], records=Path({str(records)!r}), environment=dict(os.environ),"
        f" log=Path({str(records)!r}) / 'log')\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", starter], check=False).returncode == -signal.SIGKILL

    assert processes.is_running("sleeper", records)
    assert processes.stop_all(records) == ["sleeper"]


def test_a_reused_process_id_is_left_alone(records: Path) -> None:
    stranger = subprocess.Popen(["sleep", "321"], start_new_session=True)
    try:
        line = Path(f"/proc/{stranger.pid}/stat").read_text()
        started = processes.parse_stat(line).started
        boot = processes.BOOT_ID.read_text()
        (records / "old.process").write_text(line.replace(f" {started} ", f" {started - 500} ") + boot)

        assert processes.stop_all(records) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_record_of_another_boot_means_nothing(records: Path) -> None:
    stranger = subprocess.Popen(["sleep", "321"], start_new_session=True)
    try:
        (records / "old.process").write_text(Path(f"/proc/{stranger.pid}/stat").read_text() + "another-boot\n")

        assert processes.stop_all(records) == []
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
