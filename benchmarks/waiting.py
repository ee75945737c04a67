"""What it costs to wait for many jobs, for us and for two peers: processes, memory, remote commands, delay."""

from __future__ import annotations

import json
import os
import queue
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import proc
from benchmarks.cluster import PEERS_SSH, SSH, BenchmarkCluster, end_jobs, ends
from hpc.slurm.identity import SubmittedJob

ROOT = Path(__file__).parent.parent
#: Intervals for which we are measured, and the peers, who do more in each.
INTERVALS, PEERS_INTERVALS = 5, 2
#: kB that this computer has to keep for others.
LEAST_MEMORY = 4 * 2**20


@dataclass(frozen=True)
class Snapshot:
    """CPU seconds so far."""

    at: float
    triggerer: float
    sshd: float
    slurmctld: float


@dataclass(frozen=True)
class Rates:
    """What a minute of waiting costs: remote commands begun, and CPU seconds."""

    commands: float
    triggerer: float
    sshd: float
    slurmctld: float


@dataclass(frozen=True)
class Waited:
    """What waiting for `jobs` jobs costs; memory in kB a job, None if not all have an answer; delays in seconds.

    `answered` triggers have had an answer and live. `unseen` ends were not seen within `patience` seconds.
    """

    jobs: int
    answered: int
    failed: int
    why: str
    rates: Rates
    memory: float | None
    sshd_memory: float | None
    delays: Sequence[float]
    unseen: int
    patience: float

    @property
    def longest_delay(self) -> float | str | None:
        """The longest delay; a bound if an end was never seen."""
        if self.unseen:
            return f"> {self.patience:.0f}"
        return max(self.delays, default=None)


def trigger_row(kind: str, job: SubmittedJob, cluster: BenchmarkCluster, interval: float) -> dict[str, Any]:
    """Return a trigger as its class takes it."""
    head_node = cluster.address.as_dict()
    if kind == "ours":
        arguments = {
            "job": job.as_dict(),
            "head_node": head_node,
            "ssh_conn_id": SSH,
            "deadline": time.time() + 86_400,
            "longest_pause": interval,
        }
    elif kind == "ssh":
        arguments = {
            "ssh_conn_id": PEERS_SSH,
            "remote_host": None,
            "job_id": job.name,
            "job_dir": job.directory,
            "log_file": job.log,
            "exit_code_file": f"{job.directory}/exit_code",
            "remote_os": "posix",
            "poll_interval": interval,
        }
    else:
        arguments = {"head_node": head_node, "ssh_conn_id": SSH, "job_id": job.job_id, "interval": interval}
    return {"kind": kind, "arguments": arguments}


class Triggerer:
    """The process of `benchmarks.triggerer`."""

    def __init__(self, rows: Iterable[dict[str, Any]], folder: Path, name: str) -> None:
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._log = (folder / f"{name}.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.triggerer", str(file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        self.pid = self._process.pid
        self.events: dict[int, float] = {}
        self.commands: list[tuple[int, float]] = []
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._answers.get(timeout=60)
        self.baseline = proc.memory(self.pid, "Rss")

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            told = json.loads(line)
            if "event" in told:
                if told["status"] == "success":
                    self.events[told["event"]] = told["at"]
            elif "command" in told:
                self.commands.append((told["command"], told["at"]))
            else:
                self._answers.put(told)

    def order(self, text: str, patience: float = 120) -> dict[str, Any]:
        """Send an order, and return the answer."""
        assert self._process.stdin
        self._process.stdin.write(text + "\n")
        return self._answers.get(timeout=patience)

    def start_all(self, jobs: int, patience: float) -> dict[str, Any]:
        """Start the rest; wait until every trigger has an answer or has given up, or `patience` or memory is over."""
        told = self.order("start")
        deadline = time.monotonic() + patience
        while told["answered"] + told["failed"] < jobs and time.monotonic() < deadline:
            if proc.free_memory() < LEAST_MEMORY:
                break
            time.sleep(0.5)
            told = self.order("count")
        return told

    def hold(self) -> None:
        """Stop the process as it is."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def snapshot(triggerer: Triggerer, cluster: BenchmarkCluster) -> Snapshot:
    """Read the clocks of all that take part. What sshd's sessions ran and reaped counts for sshd."""
    own = proc.parse_stat(Path(f"/proc/{triggerer.pid}/stat").read_text())
    sshd, slurmctld = cluster.processes()
    return Snapshot(
        time.monotonic(),
        own.cpu,
        sum(process.cpu + process.reaped for process in sshd),
        sum(process.cpu for process in slurmctld),
    )


def rates(before: Snapshot, after: Snapshot, commands: float) -> Rates:
    """Return what a minute costs; `commands` is told a second."""
    minutes = (after.at - before.at) / 60
    return Rates(
        commands * 60,
        (after.triggerer - before.triggerer) / minutes,
        (after.sshd - before.sshd) / minutes,
        (after.slurmctld - before.slurmctld) / minutes,
    )


def rates_by_rounds(triggerer: Triggerer, cluster: BenchmarkCluster, interval: float, patience: float) -> Rates:
    """Measure INTERVALS intervals, from the begin of a command to that of the last within them.

    The commands are those that were begun in these intervals; CPU seconds are of the whole rounds among them.
    """
    known, limit = len(triggerer.commands), time.monotonic() + patience
    while len(triggerer.commands) == known:
        if time.monotonic() > limit:
            raise RuntimeError(f"no command within {patience} s")
        time.sleep(0.02)
    begin = triggerer.commands[-1][1]
    before = after = snapshot(triggerer, cluster)
    known = len(triggerer.commands)
    while time.monotonic() < begin + INTERVALS * interval:
        time.sleep(0.02)
        if len(triggerer.commands) > known:
            after, known = snapshot(triggerer, cluster), len(triggerer.commands)
    if after is before:
        raise RuntimeError(f"no whole round within {INTERVALS} intervals")
    commands = sum(begin < at <= begin + INTERVALS * interval for _, at in triggerer.commands)
    return rates(before, after, commands / (INTERVALS * interval))


def rates_by_time(triggerer: Triggerer, cluster: BenchmarkCluster, seconds: float) -> Rates:
    """Measure for some seconds."""
    before, told = snapshot(triggerer, cluster), triggerer.order("count")
    time.sleep(seconds)
    then = triggerer.order("count")
    after = snapshot(triggerer, cluster)
    return rates(before, after, (then["commands"] - told["commands"]) / (after.at - before.at))


def measure_delays(
    triggerer: Triggerer, cluster: BenchmarkCluster, ending: dict[int, SubmittedJob], interval: float, patience: float
) -> tuple[list[float], int]:
    """Let jobs end over one interval; return how late each end was seen, and how many were not."""
    end_jobs(cluster, list(ending.values()), interval)
    deadline = time.monotonic() + patience
    while not set(ending) <= set(triggerer.events) and time.monotonic() < deadline:
        time.sleep(0.1)
    ended = dict(zip(ending, ends(cluster, list(ending.values())), strict=True))
    seen = [triggerer.events[number] - at for number, at in ended.items() if number in triggerer.events]
    return seen, len(ending) - len(seen)


class Wait:
    """One way to wait for a list of jobs, of which some run and can be told to end."""

    def __init__(
        self,
        kind: str,
        cluster: BenchmarkCluster,
        *,
        held: Sequence[SubmittedJob],
        running: Sequence[SubmittedJob],
        interval: float,
        patience: float,
        folder: Path,
    ) -> None:
        # Those that run stand all over the list, but not first: the first is the baseline.
        self.jobs = list(held)
        for number, job in enumerate(running):
            self.jobs.insert(1 + (number + 1) * (len(self.jobs) - 1) // (len(running) + 1), job)
        self.ending = {number: job for number, job in enumerate(self.jobs) if job in running}
        self.kind, self.cluster, self.interval = kind, cluster, interval
        rows = (trigger_row(kind, job, cluster, interval) for job in self.jobs)
        self._sessions_before = before = self._sshd_sessions()
        self.triggerer = Triggerer(rows, folder, f"{kind}-{len(self.jobs)}")
        self.told = self.triggerer.start_all(len(self.jobs), patience)
        self.settled = time.monotonic()
        self.memory: float | None = None
        self.sshd_memory: float | None = None
        if self.told["answered"] == len(self.jobs):  # otherwise nobody knows whose memory it is
            growth = proc.memory(self.triggerer.pid, "Rss") - self.triggerer.baseline
            self.memory = growth / max(1, len(self.jobs) - 1)
            sessions = self._sshd_sessions() - before
            self.sshd_memory = sum(proc.memory(pid, "Pss") for pid in sessions) / len(self.jobs)

    def _sshd_sessions(self) -> set[int]:
        return {process.pid for process in self.cluster.processes()[0] if process.name == "sshd"}

    def _wait_for_sshd(self) -> None:
        """Wait until sshd has ended the sessions of the process that is gone."""
        deadline = time.monotonic() + 30
        while self._sshd_sessions() - self._sessions_before and time.monotonic() < deadline:
            time.sleep(0.2)

    def finish(self) -> Waited:
        """Measure the steady state, then the delays, and end the process."""
        try:
            if self.kind == "ours":
                rates = rates_by_rounds(self.triggerer, self.cluster, self.interval, 5 * self.interval + 60)
            else:
                rates = rates_by_time(self.triggerer, self.cluster, PEERS_INTERVALS * self.interval)
            patience = 1.5 * self.interval
            delays, unseen = measure_delays(self.triggerer, self.cluster, self.ending, self.interval, patience)
            told = self.triggerer.order("count")
        finally:
            self.triggerer.stop()
            self._wait_for_sshd()
        return Waited(
            jobs=len(self.jobs),
            answered=told["answered"],
            failed=told["failed"],
            why=told["why"][0][0] if told["why"] else "",
            rates=rates,
            memory=self.memory,
            sshd_memory=self.sshd_memory,
            delays=delays,
            unseen=unseen,
            patience=patience,
        )


def median(values: Sequence[float]) -> float | None:
    """Return the median; None of nothing."""
    return statistics.median(values) if values else None
