"""What our program costs when it submits, beside sbatch alone on the head node."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cluster import HELD, BenchmarkCluster, submission, submit
from hpc.head_node.session import Session
from hpc.head_node.shell import quote

#: Both loops stand still until their last job is in the queue, and tell their own seconds.
LOOP = """
set -e
mkdir -p {folder} && cat >{folder}/job.sh && cd {folder}
begin=$(date +%s.%N)
for number in $(seq {jobs}); do
    sbatch --parsable {options} --job-name=raw.$number --comment=raw:$number --output={folder}/$number.log \\
        job.sh {folder} 0
done >ids
echo "$begin $(date +%s.%N)"
"""
ARRAY = """
set -e
mkdir -p {folder} && cat >{folder}/job.sh && cd {folder}
begin=$(date +%s.%N)
sbatch --parsable {options} --job-name=raw --comment=raw --output={folder}/%a.log --array=0-{last} job.sh {folder} 0 >id
echo "$begin $(date +%s.%N)"
"""


@dataclass(frozen=True)
class Submitted:
    """Jobs a second in each round, ours and the peer's."""

    ours: list[float]
    peers: list[float]

    @property
    def ratio(self) -> float:
        """The median of ours to the median of the peer's."""
        return statistics.median(self.ours) / statistics.median(self.peers)


async def _ours(session: Session, name: str, jobs: int, as_array: bool) -> float:
    """Return the seconds of one call of our program, connection excluded, answers read."""
    if as_array:
        submissions = [submission(name, HELD, points=[{"number": number} for number in range(jobs)])]
    else:
        submissions = [submission(f"{name}-{number}", HELD) for number in range(jobs)]
    begin = time.monotonic()
    await submit(session, submissions)
    return time.monotonic() - begin


async def _raw(session: Session, name: str, jobs: int, as_array: bool) -> float:
    """Return the seconds of sbatch itself, on the head node, SSH excluded."""
    folder = f"/fsx/benchmark/{name}"
    model = submission(name, HELD)
    script = (ARRAY if as_array else LOOP).format(
        folder=folder, jobs=jobs, last=jobs - 1, options=quote([f"--chdir={folder}", *model.options()])
    )
    done = await session.run(script, input=str(model.request()["files"]["job.sh"]), timeout=300)
    begun, ended = map(float, done.stdout.split())
    return ended - begun


def compare(
    cluster: BenchmarkCluster, jobs: int, rounds: int, *, as_array: bool, say: Callable[[str], None]
) -> Submitted:
    """Submit ours and the peer's in turns; after each, the queue is emptied."""

    async def work(session: Session) -> Submitted:
        kind = "array" if as_array else "jobs"
        await _ours(session, f"warm-{kind}", 2, as_array)
        ours, raw = list[float](), list[float]()
        for number in range(rounds):
            for seconds, submit_all, whose in ((raw, _raw, "raw"), (ours, _ours, "ours")):
                await session.run("scancel --user=$(id -un)")
                seconds.append(await submit_all(session, f"{kind}-{whose}-{number}", jobs, as_array))
                say(f"{kind}, {whose}: {seconds[-1]:.3f} s")
        await session.run("scancel --user=$(id -un)")
        return Submitted([jobs / each for each in ours], [jobs / each for each in raw])

    submitted: Submitted = cluster.run(work)
    return submitted
