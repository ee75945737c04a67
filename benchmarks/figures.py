"""The run: sizes one after the other on one cluster, then the submissions; what was measured becomes rows."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import plan
from benchmarks.cluster import HELD, BenchmarkCluster, start, submit_jobs, submit_running
from benchmarks.report import Figure, Row
from benchmarks.submitting import Submitted, compare
from benchmarks.waiting import Wait, Waited, median
from hpc.slurm.identity import SubmittedJob
from local_aws.testing import LocalRegion

PEERS = {"ssh": plan.SSH_OPERATOR, "squeue": plan.SQUEUE}
#: Our pause has grown to its longest when nothing has changed for ten times as long (`hpc.pacing`).
SETTLED = 10.2
#: Seconds that a way to wait has until each of its triggers had an answer.
PATIENCE = {"ours": 60.0, "ssh": 45.0, "squeue": 30.0}
#: With fewer jobs, their memory is lost in that of the process.
JOBS_THAT_WEIGH = 100


def measure(options: argparse.Namespace, scratch: Path, began: float) -> list[Row]:
    """Measure everything on one cluster."""

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    rows: list[Row] = []
    with LocalRegion(scratch / "region") as region:
        cluster = start(region, "waiting", {"MaxJobCount": str(plan.MOST_JOBS)})
        say("the cluster is up")
        held: list[SubmittedJob] = []
        for size in options.sizes:
            held += submit_jobs(cluster, [f"held-{number}" for number in range(len(held), size - plan.ENDING)], HELD)
            say(f"{len(held)} jobs are held")
            rows += waiting_rows(size, wait_for(cluster, held, size, options, scratch, say))
        cluster.stop()
        if options.jobs:
            cluster = start(region, "submitting", {"MaxJobCount": str(plan.MOST_JOBS)})  # without 10,000 ended jobs
            loop, array = (
                compare(cluster, options.jobs, options.rounds, as_array=each, say=say) for each in (False, True)
            )
            rows += submitting_rows(options.jobs, loop, array)
    say("done")
    return rows


def wait_for(
    cluster: BenchmarkCluster,
    held: Sequence[SubmittedJob],
    size: int,
    options: argparse.Namespace,
    scratch: Path,
    say: Callable[[str], None],
) -> dict[str, Waited]:
    """Measure each way to wait for `size` jobs. While the peers are measured, our process is stopped, and settles."""
    found: dict[str, Waited] = {}
    running = {
        kind: submit_running(cluster, [f"ending-{kind}-{size}-{number}" for number in range(plan.ENDING)])
        for kind in options.kinds
    }
    ours: Wait | None = None
    for kind in options.kinds:
        wait = Wait(
            kind,
            cluster,
            held=held,
            running=running[kind],
            interval=options.interval,
            patience=PATIENCE[kind],
            folder=scratch,
        )
        say(f"{size} jobs, {kind}: {wait.told}")
        if kind == "ours":
            ours = wait
            wait.triggerer.hold()
        else:
            found[kind] = wait.finish()
            say(f"{size} jobs, {kind}: {found[kind]}")
    if ours is not None:
        time.sleep(max(0.0, ours.settled + SETTLED * options.interval - time.monotonic()))
        ours.triggerer.go_on()
        found["ours"] = ours.finish()
        say(f"{size} jobs, ours: {found['ours']}")
    return found


# ------------------------------------------------------------------------------------------------ rows
def waiting_rows(size: int, found: Mapping[str, Waited]) -> list[Row]:
    """Return the rows of one size."""

    def row(what: str, unit: str, figure: Callable[[Waited], Figure], target: str | None = None) -> Row:
        peers = {PEERS[kind]: figure(waited) for kind, waited in found.items() if kind in PEERS}
        ours = figure(found["ours"]) if "ours" in found else None
        return Row(f"{size:,} waiting: {what}", unit, ours, target, peers)

    is_bound = size == plan.BOUND
    commands, core = 60 / plan.INTERVAL, 0.05 * 60
    memory = [
        row("memory of the triggerer", "kB a job", lambda waited: waited.memory, "<= 20" if is_bound else None),
        row("memory of sshd", "kB a job", lambda waited: waited.sshd_memory),
    ]
    return [
        row("jobs with an answer", "jobs", lambda waited: waited.answered, f">= {size}"),
        row("remote commands", "a minute", lambda waited: waited.rates.commands, f"<= {commands:g}"),
        row(
            "CPU of the triggerer",
            "s a minute",
            lambda waited: waited.rates.triggerer,
            f"<= {core:g}" if is_bound else None,
        ),
        row("CPU of sshd and what it runs", "s a minute", lambda waited: waited.rates.sshd),
        row("CPU of slurmctld", "s a minute", lambda waited: waited.rates.slurmctld),
        *(memory if size >= JOBS_THAT_WEIGH else []),
        row("longest delay of an end", "s", lambda waited: waited.longest_delay, f"<= {plan.INTERVAL:g}"),
        row("median delay of an end", "s", lambda waited: median(waited.delays)),
    ]


def submitting_rows(jobs: int, loop: Submitted, array: Submitted) -> list[Row]:
    """Return the rows of both ways to submit; a ratio is ours to the peer's, in jobs a second."""
    ratio = "ratio"
    extra = jobs / statistics.median(array.ours) - jobs / statistics.median(array.peers)
    return [
        Row(f"submitting {jobs:,} jobs, to a shell loop of sbatch", ratio, loop.ratio, ">= 0.8"),
        Row(f"submitting an array of {jobs:,}, to one sbatch --array", ratio, array.ratio, ">= 0.9"),
        Row(
            f"submitting an array of {jobs:,}, to a shell loop of sbatch",
            ratio,
            statistics.median(array.ours) / statistics.median(loop.peers),
        ),
        Row(f"submitting an array of {jobs:,}, what comes on top of sbatch", "s", extra),
    ]
