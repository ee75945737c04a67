"""How far a sweep is: what the head node tells of a job array, as a verdict, a progress bar and a table. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpc.slurm.identity import SubmittedJob
from hpc.slurm.reasons import explain
from hpc.slurm.states import JobState, Phase, parse_state

WIDTH = 30
#: Failed points that are named one by one.
SHOWN = 20
_PHASES = ((Phase.RUNNING, "run"), (Phase.STARTING, "start"), (Phase.ENDING, "are ending"), (Phase.WAITING, "wait"))


@dataclass(frozen=True)
class SweepProgress:
    """The points of one attempt: `counts` of those in Slurm's queue by state, `reason` of most that are pending, and
    when they were `submitted`, as Slurm writes it.

    `ended` has the exit code of every point that has recorded its end, `broken` the state of those that ended without.
    """

    job: SubmittedJob
    counts: Mapping[str, int]
    reason: str
    submitted: str
    ended: Mapping[int, int]
    broken: Mapping[int, str]

    @classmethod
    def read(cls, job: SubmittedJob, facts: Mapping[str, Any]) -> SweepProgress:
        """Read the facts of an array, as `hpc.slurm.watch.JobView` has them."""
        ended = {int(point): int(code) for point, code in facts["ended"].items()}
        broken = {int(point): str(state) for point, state in facts["broken"].items() if point.isdigit()}
        return cls(job, facts["counts"], facts["reason"], facts["submitted"], ended, broken)

    @property
    def failed(self) -> dict[int, str]:
        """What became of each point that failed: an exit code, or Slurm's state."""
        codes = {point: f"exit code {code}" for point, code in self.ended.items() if code != 0}
        return dict(sorted((codes | dict(self.broken)).items()))

    @property
    def succeeded(self) -> int:
        """Points of this attempt that ended with exit code 0."""
        return sum(code == 0 for code in self.ended.values())

    @property
    def over(self) -> int:
        """Points of this attempt that have ended."""
        return len(self.ended) + len(self.broken)

    @property
    def has_started(self) -> bool:
        """At least one point runs or has run."""
        return self.over > 0 or any(parse_state(state).has_started for state in self.counts)

    @property
    def missing(self) -> int:
        """Points that have not ended and are not in Slurm's queue either."""
        return self.job.sent - self.over - sum(self.counts.values())

    def line(self) -> str:
        """Return the one line for the task log."""
        total = self.job.sent + self.job.done
        filled = WIDTH * (self.job.done + self.over) // total
        text = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {self.job.done + self.over:,} of {total:,} points have ended"
        if self.failed:
            text += f", {len(self.failed):,} failed"
        return "; ".join([text, *self._phases()])

    def _phases(self) -> list[str]:
        phases: Counter[Phase] = Counter()
        for state, count in self.counts.items():
            phases[parse_state(state).phase] += count
        told = [f"{phases[phase]:,} {verb}" for phase, verb in _PHASES if phases[phase]]
        if phases[Phase.WAITING]:
            told[-1] += f" ({self.reason}: {explain(self.reason).meaning})"
        return told

    def table(self) -> list[str]:
        """Return the states of all points, and the first failed ones, a line each."""
        states: Counter[str] = Counter(self.counts)
        states[JobState.COMPLETED.slurm_name] += self.succeeded + self.job.done
        states[JobState.FAILED.slurm_name] += sum(code != 0 for code in self.ended.values())
        states.update(self.broken.values())
        lines = [
            f"{state:<16}{count:>8,}  {parse_state(state).meaning}" for state, count in states.most_common() if count
        ]
        lines += [f"point {point:<10}{what:>8}" for point, what in list(self.failed.items())[:SHOWN]]
        if len(self.failed) > SHOWN:
            lines.append(f"and {len(self.failed) - SHOWN:,} more")
        return lines

    def result(self) -> dict[str, Any]:
        """Return plain JSON of an ended sweep; `failed` names the first failed points only."""
        return {
            "points": self.job.sent + self.job.done,
            "succeeded": self.succeeded + self.job.done,
            "failed": {str(point): what for point, what in list(self.failed.items())[:SHOWN]},
            "failed_count": len(self.failed),
            "tolerated": self.job.tolerated,
        }
