"""`make bench-export`: our export against `aws s3 sync`, rclone and s5cmd, on one machine, to one S3, in one run.

Prints a table with the targets beside the figures, writes `benchmarks/results/export.json`, and puts the table into
`docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from benchmarks import jobs, store
from benchmarks.report import Figure, Row, put_between, table, write_json
from benchmarks.sending import OURS, VERIFYING, WAYS, Sent, send_by_peer, send_ours

RESULTS = jobs.ROOT / "benchmarks" / "results" / "export.json"
KIB, MIB = 1 << 10, 1 << 20
CONNECTION, CLUSTER, PREFIX = "bench_s3", "exporting", "run"


@dataclass(frozen=True)
class Case:
    """Files to send: how many of which size, in bytes."""

    name: str
    files: tuple[tuple[int, int], ...]

    @property
    def count(self) -> int:
        """Number of files."""
        return sum(count for count, _ in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(count * size for count, size in self.files)


def cases(quick: bool) -> list[Case]:
    """Return what is sent; the quick ones only show that everything works."""
    if quick:
        return [
            Case("60 files of 16 kB", ((60, 16 * KIB),)),
            Case("1 file of 150 MB", ((1, 150 * MIB),)),
            Case("a mix", ((20, 64 * KIB), (3, 4 * MIB))),
        ]
    return [
        Case("10,000 files of 16 kB", ((10_000, 16 * KIB),)),
        Case("1 file of 4 GB", ((1, 4096 * MIB),)),
        Case("a mix", ((1000, 64 * KIB), (100, 4 * MIB), (4, 256 * MIB))),
    ]


def few(quick: bool) -> Case:
    """Return the fewer small files whose memory that of the first case is compared with."""
    count = 30 if quick else 1000
    return Case(f"{count:,} files of 16 kB", ((count, 16 * KIB),))


def make_files(case: Case, folder: Path) -> None:
    """Write the files of a case, a hundred a folder; no two hold the same bytes."""
    number, source = 0, random.Random(case.name)
    for count, size in case.files:
        for _ in range(count):
            file = folder / f"{number // 100:03}" / f"{number:05}.dat"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as made:
                for begin in range(0, size, MIB):
                    made.write(source.randbytes(min(MIB, size - begin)))
            number += 1


def measure(options: argparse.Namespace, scratch: Path, began: float) -> list[Row]:
    """Send every case by every way, in turns, and return the rows."""
    from benchmarks import cluster
    from local_aws.testing import LocalRegion

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    rows: list[Row] = []
    with store.running(scratch / "store") as s3, LocalRegion(scratch / "region") as region:
        head_node = cluster.start(region, CLUSTER, {})
        os.environ[f"AIRFLOW_CONN_{CONNECTION.upper()}"] = s3.connection()
        (shared,) = (scratch / "region").glob("**/root/fsx")
        with s3.bucket("checks") as bucket:
            say(f"the S3 server {'verifies' if s3.verifies(bucket) else 'does NOT verify'} SHA-256")

        def send(way: str, case: Case) -> Sent:
            with s3.bucket(f"b-{secrets.token_hex(4)}") as bucket:
                if way == OURS:
                    sent = send_ours(export_arguments(bucket, head_node.address.as_dict(), cluster.SSH), region.pid)
                else:
                    sent = send_by_peer(way, s3, shared / "results", bucket, PREFIX, scratch)
                count, size = s3.holds(bucket, f"{PREFIX}/")
            if count < case.count or size < case.size:
                raise RuntimeError(f"{way} sent {count} files of {case.count}, {size} bytes of {case.size}")
            say(f"{case.name}, {way}: {sent.seconds:.2f} s, {sent.memory:.0f} MB, {sent.worker:.0f} MB")
            return sent

        def send_all(case: Case, rounds: int) -> dict[str, Sent]:
            make_files(case, shared / "results")
            found = [{way: send(way, case) for way in options.ways} for _ in range(rounds)]
            shutil.rmtree(shared / "results")
            return {way: median([sent[way] for sent in found]) for way in options.ways}

        small, *others = cases(options.quick)
        many, less = send_all(small, options.rounds), send_all(few(options.quick), options.rounds)
        rows += speed_rows(small, many)
        for case in others:
            rows += speed_rows(case, send_all(case, options.rounds))
        rows += memory_rows(small, many, few(options.quick), less)
    say("done")
    return rows


def export_arguments(bucket: str, head_node: Mapping[str, object], ssh_conn_id: str) -> dict[str, object]:
    """Return what our operator is made with; everything else is as in every simulation."""
    return {
        "cluster_name": CLUSTER,
        "head_node": head_node,
        "ssh_conn_id": ssh_conn_id,
        "aws_conn_id": CONNECTION,
        "directory": "/fsx/results",
        "patterns": ["**"],
        "bucket": bucket,
        "prefix": PREFIX,
    }


def median(sent: Sequence[Sent]) -> Sent:
    """Return the medians of several rounds."""
    return Sent(*(statistics.median(figures) for figures in zip(*map(astuple, sent), strict=True)))


# ------------------------------------------------------------------------------------------------ rows
def speed_rows(case: Case, found: Mapping[str, Sent]) -> list[Row]:
    """Return the rows of one case: seconds, and how fast ours is beside the fastest."""
    ours = found[OURS].seconds
    peers = {way: sent.seconds for way, sent in found.items() if way != OURS}

    def rate(what: str, unit: str, amount: float) -> Row:
        return Row(f"{case.name}: {what}", unit, amount / ours, None, {way: amount / peers[way] for way in peers})

    def ratio(whom: str, bound: str, seconds: Sequence[float]) -> Row:
        return Row(f"{case.name}: speed, to {whom}", "ratio", min(seconds) / ours if seconds else None, bound)

    return [
        Row(f"{case.name}: to the end", "s", ours, None, peers),
        *([rate("files", "a second", case.count)] if case.count > 1 else []),
        rate("bytes", "MB a second", case.size / 1e6),
        ratio("the fastest that verifies", ">= 1", [peers[way] for way in peers if way in VERIFYING]),
        ratio("the fastest of all", ">= 0.8", list(peers.values())),
    ]


def memory_rows(many_case: Case, many: Mapping[str, Sent], less_case: Case, less: Mapping[str, Sent]) -> list[Row]:
    """Return the rows of what memory does with the number of files."""
    peers = [way for way in many if way != OURS]

    def row(what: str, unit: str, figure: Callable[[str], Figure], target: str | None = None) -> Row:
        return Row(what, unit, figure(OURS), target, {way: figure(way) for way in peers})

    worker = [case[OURS].worker for case in (less, many)]
    return [
        row(f"{less_case.name}: most memory", "MB", lambda way: less[way].memory),
        row(f"{many_case.name}: most memory", "MB", lambda way: many[way].memory),
        row(
            "memory for the many, to that for the few",
            "ratio",
            lambda way: many[way].memory / less[way].memory if less[way].memory else None,
            "<= 1.1",
        ),
        Row(f"{less_case.name}: most memory of the Airflow task", "MB", worker[0]),
        Row(f"{many_case.name}: most memory of the Airflow task", "MB", worker[1]),
        Row(
            "the Airflow task grows by",
            "kB a file",
            (worker[1] - worker[0]) * 1e3 / (many_case.count - less_case.count),
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write. Ends with 0 whether or not the targets are met: the table says it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small files, to see that it works; writes nothing")
    parser.add_argument("--rounds", type=int, default=3, help="times that every way is tried")
    parser.add_argument("--ways", nargs="*", default=WAYS)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that the servers go, too
    with jobs.folder() as scratch:
        rows = measure(options, scratch, began=time.monotonic())
    text = table(rows)
    print(text)
    if not options.quick:
        write_json(rows, RESULTS)
        made = f"{text}\n\nMade by `make bench-export` on {jobs.machine()}."
        page = jobs.PAGE.read_text(encoding="utf-8")
        jobs.PAGE.write_text(put_between(page, "export", made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
