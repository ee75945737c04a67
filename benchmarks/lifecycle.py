"""`make bench-lifecycle`: what a whole DAG run costs beside AWS, Slurm and the job, and what many simulations cost.

Prints a table with the targets beside the figures, writes `benchmarks/results/lifecycle.json`, and puts the table into
`docs/benchmarks.md`.

**Overhead of a run.** A real Airflow on PostgreSQL and a local region run the shipped `ising_2d` with a very short job.
From the seconds between *queued* and *ended* of the DAG run, as Airflow's REST API tells them, those are taken off in
which at least one of these was at work, each second once however many were:

- CloudFormation: from the stack's `CREATE_IN_PROGRESS` to its `CREATE_COMPLETE`, and from `DELETE_IN_PROGRESS` to
  `DELETE_COMPLETE`, by the stack's own events;
- Slurm and the jobs (the simulation's, and its pictures'): from `_slurm_rpc_submit_batch_job` to `_job_complete … done`
  in slurmctld's log, so nodes that start are in it;
- `pcluster`, AWS's own command, and its schema: from the start to the end of its processes. Once more without this.

All else is ours and Airflow's: starting tasks, deferring and resuming them, pauses between two questions, the
verification over SSH, staging, the export with its receipt, the looks for what is left. It is compared with a run of an
empty DAG of the same shape in the same Airflow: same tasks, arrows, setups and teardowns, each task a process of a
worker that does nothing. A second empty DAG goes through the triggerer where ours does.

**Parsing.** See `benchmarks/parsing.py`.

With `--runs` or `--files` a part is measured; the rows of the others stay as they were.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.jobs import PAGE, ROOT, folder, machine

if TYPE_CHECKING:
    from benchmarks.report import Row

RESULTS = ROOT / "benchmarks" / "results" / "lifecycle.json"
RUNS, FILES = (1, 10, 50), (1, 100, 1000)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write. Ends with 0 whether or not the targets are met: the table says it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lifecycle", description=__doc__)
    parser.add_argument("--runs", type=int, nargs="*", help="runs that are started at once")
    parser.add_argument("--files", type=int, nargs="*", help="simulation files")
    parser.add_argument("--rounds", type=int, default=3, help="times that one run, and reading the files, are measured")
    parser.add_argument("--quick", action="store_true", help="a few files, once, no runs; write nothing")
    options = parser.parse_args(arguments)
    if options.quick:
        options.runs, options.files, options.rounds = [], [1, 4], 1
    is_whole = options.runs is options.files is None
    options.runs = RUNS if is_whole else options.runs or []
    options.files = FILES if is_whole else options.files or []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that region and Airflow go, too
    with folder() as scratch:
        from benchmarks import parsing, runs
        from benchmarks.report import put_between, read_json, table, write_json

        measured: list[Row] = []
        for rows in itertools.chain(
            [parsing.measure(scratch / "parsing", options.files, options.rounds)] if options.files else [],
            runs.measure(scratch / "runs", options.runs, options.rounds) if options.runs else [],
        ):
            measured += rows
            print(table(in_order(measured)), flush=True)
            if not options.quick:
                known = with_those_before(measured, read_json(RESULTS))
                write_json(known, RESULTS)
                how = "" if is_whole else ", in parts,"
                made = f"{table(known)}\n\nMade by `make bench-lifecycle`{how} on {machine()}."
                PAGE.write_text(put_between(PAGE.read_text(encoding="utf-8"), "lifecycle", made), encoding="utf-8")
    return 0


def with_those_before(rows: list[Row], before: list[Row]) -> list[Row]:
    """Return the rows and those of an earlier run that they do not replace."""
    measured = {row.name for row in rows}
    return in_order([*rows, *(row for row in before if row.name not in measured)])


def in_order(rows: list[Row]) -> list[Row]:
    """Return the rows of runs, fewest first, and then those of files."""

    def place(row: Row) -> tuple[bool, int]:
        number, what, *_ = row.name.split(" ")
        return not what.startswith("run"), int(number.replace(",", ""))

    return sorted(rows, key=place)


if __name__ == "__main__":
    sys.exit(main())
