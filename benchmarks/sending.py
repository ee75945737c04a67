"""One way to send a folder to S3, timed, with the most memory that its processes ever had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import proc
from benchmarks.jobs import ROOT
from benchmarks.store import ACCESS_KEY, REGION, SECRET_KEY, Store, program

OURS, AWS, RCLONE, S5CMD = "ours", "aws s3 sync", "rclone", "s5cmd"
WAYS = (OURS, AWS, RCLONE, S5CMD)
#: Those that compare what S3 holds with the file after they have sent it.
VERIFYING = (RCLONE,)
#: What all of them get: requests at the same time, and MiB of a part.
PARALLEL, PART = 64, 64
#: Seconds between two looks at the memory.
LOOK = 0.05
#: By this the exporter is known in the list of processes.
EXPORTER = b"the exporter's"


@dataclass(frozen=True)
class Sent:
    """How long it took, and the most memory of the program that reads the files, and of the worker beside it, in MB."""

    seconds: float
    memory: float
    worker: float = 0.0


def peer_command(way: str, folder: Path, bucket: str, prefix: str) -> list[str]:
    """Return what a person would type, with as many requests at once and parts as large as ours."""
    target = f"{bucket}/{prefix}"
    return {
        AWS: [str(program("aws")), "s3", "sync", "--only-show-errors", str(folder), f"s3://{target}"],
        RCLONE: [
            *(str(program("rclone")), "copy", "--config=", f"--transfers={PARALLEL}", f"--checkers={PARALLEL}"),
            *(f"--s3-upload-concurrency={PARALLEL}", f"--s3-chunk-size={PART}Mi", f"--s3-upload-cutoff={PART}Mi"),
            *("--s3-no-check-bucket", str(folder), f"store:{target}"),
        ],
        S5CMD: [
            *(str(program("s5cmd")), "--log=error", f"--numworkers={PARALLEL}", "cp"),
            *(f"--concurrency={PARALLEL}", f"--part-size={PART}", f"{folder}/", f"s3://{target}/"),
        ],
    }[way]


def peer_environment(store: Store, scratch: Path) -> dict[str, str]:
    """Return the environment in which all peers find the store, and their settings."""
    settings = scratch / "aws-config"
    settings.write_text(
        f"[default]\ns3 =\n  max_concurrent_requests = {PARALLEL}\n"
        f"  multipart_chunksize = {PART}MB\n  multipart_threshold = {PART}MB\n"
    )
    rclone = {
        "TYPE": "s3",
        "PROVIDER": "SeaweedFS",
        "ENDPOINT": store.url,
        "REGION": REGION,
        "ACCESS_KEY_ID": ACCESS_KEY,
        "SECRET_ACCESS_KEY": SECRET_KEY,
    }
    return {
        **store.environment(),
        "AWS_CONFIG_FILE": str(settings),
        "S3_ENDPOINT_URL": store.url,
        **{f"RCLONE_CONFIG_STORE_{name}": value for name, value in rclone.items()},
    }


def send_by_peer(way: str, store: Store, folder: Path, bucket: str, prefix: str, scratch: Path) -> Sent:
    """Run a peer's command to its end. Raises RuntimeError with what it said, if that was an error."""
    with (scratch / "peer.log").open("w+") as log:
        begin = time.monotonic()
        with subprocess.Popen(
            peer_command(way, folder, bucket, prefix),
            env=peer_environment(store, scratch),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        ) as process:
            with most_memory(lambda: process.pid) as most:
                process.wait()
            seconds = time.monotonic() - begin
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{way} ended with {process.returncode}: {log.read()[-2000:]}")
    return Sent(seconds, most() / 1000)


def send_ours(arguments: Mapping[str, object], daemon: int) -> Sent:
    """Export by our operator, in a process of its own; `daemon` is the process below which the exporter runs."""
    command = [sys.executable, "-m", "benchmarks.exporting"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "plugins")}
    with (
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker,
        most_memory(lambda: worker.pid) as most_of_worker,
        most_memory(lambda: exporter_below(daemon)) as most,
    ):
        said, errors = worker.communicate(json.dumps(arguments))
    if worker.returncode:
        raise RuntimeError(f"our export ended with {worker.returncode}: {errors[-3000:]}")
    return Sent(float(said.splitlines()[-1]), most() / 1000, most_of_worker() / 1000)


def exporter_below(daemon: int) -> int:
    """Return the exporter that runs on the head node; 0 while there is none."""
    for process in proc.tree(proc.all_processes(), [daemon]):
        if process.name.startswith("python") and EXPORTER in proc.command_line(process.pid):
            return process.pid
    return 0


@contextmanager
def most_memory(find: Callable[[], int]) -> Iterator[Callable[[], int]]:
    """Look at processes until the end of the block; what is yielded returns the most kB that any of them ever had.

    `find` returns the process to look at until it ends.
    """
    over = threading.Event()
    most = [0]

    def look() -> None:
        pid = 0
        while True:
            pid = pid or find()
            now = proc.peak(pid) if pid else 0
            most[0] = max(most[0], now)
            pid = pid if now else 0
            if over.wait(LOOK):
                return

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield lambda: most[0]
    finally:
        over.set()
        looking.join()
