"""`make bench-jobs`: what it costs to wait for many jobs and to submit them, on one real Slurm, in one run.

Prints a table with the targets beside the figures, writes `benchmarks/results/jobs.json`, and puts the table into
`docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import plan

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "plugins"))
RESULTS = ROOT / "benchmarks" / "results" / "jobs.json"
PAGE = ROOT / "docs" / "benchmarks.md"
SCRATCH = ROOT / ".local" / "benchmarks"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Make a folder for what this run makes; Airflow looks for its own when it is imported."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH, prefix="") as name:
        os.environ["AIRFLOW_HOME"] = str(Path(name) / "airflow")
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        yield Path(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write. Ends with 0 whether or not the targets are met: the table says it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10, 100, 1000, 10_000])
    parser.add_argument("--jobs", type=int, default=1000, help="jobs to submit, and elements of the array")
    parser.add_argument("--rounds", type=int, default=3, help="times that both ways to submit are tried")
    parser.add_argument("--interval", type=float, default=plan.INTERVAL)
    parser.add_argument("--kinds", nargs="*", default=["ours", "ssh", "squeue"])
    parser.add_argument("--dry", action="store_true", help="write neither results nor page")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that the region goes, too
    with folder() as scratch:
        from benchmarks.figures import measure  # Airflow is imported with it

        rows = measure(options, scratch, began=time.monotonic())
    from benchmarks.report import put_between, table, write_json

    text = table(rows)
    print(text)
    if not options.dry:
        write_json(rows, RESULTS)
        made = f"{text}\n\nMade by `make bench-jobs` on {machine()}."
        PAGE.write_text(put_between(PAGE.read_text(encoding="utf-8"), "jobs", made), encoding="utf-8")
    return 0


def machine() -> str:
    """Return what the figures were measured on."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    gibibytes = f", {int(memory[1]) / 2**20:.0f} GiB" if memory else ""
    return f"{os.cpu_count()}x {model[1] if model else platform.machine()}{gibibytes}, Linux {platform.release()}"


if __name__ == "__main__":
    sys.exit(main())
