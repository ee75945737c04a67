"""The export program that runs on the head node, where the results are. It never sees AWS credentials.

It is sent whole over SSH (`hpc.results.launch`) with a JSON request behind it, starts its work detached from that
session, and answers one JSON line. Two kinds of work:

scan     expands the patterns below the directory, hashes every file, writes `manifest.jsonl`;
upload   PUTs files, or parts of files, to URLs that the worker signed for exactly these bytes.

Its record directory holds `lock` (held while the work runs, so nobody has to trust a process id), `pid`,
`progress.json` (replaced atomically), `manifest.jsonl`, `sent.jsonl` (what S3 answered to each PUT) and `exporter.log`.

Its memory does not grow with the number of files: their names, and the URLs, wait in files without a name, which
nobody else can open and which end with the process.

Standard library only and Python 3.6, the oldest on ParallelCluster's images (RHEL 8, Rocky 8): imports nothing of
`hpc` but the modules of this package, which are sent with it.
"""
# The syntax and library of Python 3.6, and names as bytes, for a folder may hold any:
# ruff: noqa: UP006, UP035, UP045, PTH103, PTH105, PTH111, PTH118, PTH123

import contextlib
import errno
import fcntl
import itertools
import json
import os
import signal
import ssl
import sys
import threading
import traceback
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

from hpc.results.exporter.files import BLOCK, Failure, Json, describe_file, select
from hpc.results.exporter.s3 import CHECKSUM, Uploader
from hpc.results.exporter.work import Progress, Spool, Stage, write_whole

#: Threads that begin.
FIRST_THREADS = 4
#: Threads that send small files. Each has many requests under way: threads that wait would cost more than requests do.
SMALL_THREADS = 2
PREDECESSOR_GRACE = 20


def scan(request: Json, record: str, progress: Progress, stopped: threading.Event) -> None:
    """Write manifest.jsonl: a line for the whole, then every file with its size, time of change and SHA-256."""
    directory, name = request["directory"], os.path.join(record, "manifest.jsonl")
    root = os.path.realpath(directory.encode("utf-8"))
    guard, totals = threading.Lock(), {"files": 0, "bytes": 0}
    multipart: List[Tuple[int, str]] = []
    with Spool(record) as small, Spool(record) as large, open(name + ".partial", "w") as manifest:

        def found(path: str, size: int) -> None:
            totals["files"] += 1
            totals["bytes"] += size
            if size > request["part_size"]:
                multipart.append((size, path))
            else:
                (large if size > BLOCK else small).file.write(json.dumps(path).encode("ascii") + b"\n")

        def describe(paths: Iterator[str]) -> None:
            for path in paths:
                entry = json.dumps(describe_file(root, path, request["part_size"], progress.count_bytes))
                with guard:
                    manifest.write(entry + "\n")
                progress.add("files_done", 1)

        left_out = select(directory, request["patterns"], request["must_match"], found)
        progress.write(**totals)
        manifest.write(json.dumps({"directory": directory, "files": totals["files"], "left_out": left_out}) + "\n")
        largest_first = [path for _, path in sorted(multipart, reverse=True)]
        stage, threads = Stage(progress, stopped), request["threads"] // 2
        # A small file is more Python than hashing, and Python runs one thread at a time.
        stage.add(small.documents(), describe, first=1, most=threads)
        stage.add(itertools.chain(largest_first, large.documents()), describe, first=FIRST_THREADS, most=threads)
        stage.work_through()
    os.replace(name + ".partial", name)


def upload(
    request: Json, spools: Tuple[Spool, Spool], record: str, progress: Progress, stopped: threading.Event
) -> None:
    """Send every unit, and note in sent.jsonl what S3 answered."""
    progress.write(files=request["files"], bytes=request["bytes"])
    root = os.path.realpath(request["directory"].encode("utf-8"))
    tls, guard = ssl.create_default_context(), threading.Lock()  # one for all connections: each takes a megabyte
    waiting: Dict[str, int] = {}
    small, others = spools
    requests = request["threads"] // (2 if request["small"] and others.size else 1)
    with open(os.path.join(record, "sent.jsonl"), "a", encoding="ascii") as sent:

        def note(unit: Json, etag: str, is_verified: bool) -> None:
            line = json.dumps([unit["path"], unit["offset"], unit["headers"][CHECKSUM], etag, is_verified]) + "\n"
            with guard:
                sent.write(line)
                left = waiting.pop(unit["path"], unit["units"]) - 1
                if left:
                    waiting[unit["path"]] = left
            if not left:
                progress.add("files_done", 1)

        def send_small(units: Iterator[Json]) -> None:
            with contextlib.closing(Uploader(root, progress.count_bytes, stopped, tls)) as uploader:
                for answer in uploader.send_many(units, requests // SMALL_THREADS):
                    note(*answer)

        def send(units: Iterator[Json]) -> None:
            with contextlib.closing(Uploader(root, progress.count_bytes, stopped, tls)) as uploader:
                for unit in units:
                    note(unit, *uploader.send(unit))

        stage = Stage(progress, stopped)
        stage.add(small.documents(), send_small, first=SMALL_THREADS, most=SMALL_THREADS)
        stage.add(others.documents(), send, first=FIRST_THREADS, most=requests)
        stage.work_through()


def run_detached(request: Json, spools: Tuple[Spool, Spool], record: str, progress: Progress) -> None:
    """Do the work, and leave its end in progress.json."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        if request["action"] == "scan":
            scan(request, record, progress, stopped)
        else:
            upload(request, spools, record, progress, stopped)
    except Failure as failure:
        progress.write(state="failed", error={"kind": failure.kind, "message": str(failure)})
    except OSError as error:
        kind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "unreadable"
        progress.write(state="failed", error={"kind": kind, "message": str(error)})
    else:
        progress.write(state="done")


# ------------------------------------------------------------------------------------------------ the session's side
class _GraceOverError(Exception):
    """The alarm rang before the lock was free."""


def _grace_over(*_: Any) -> None:
    raise _GraceOverError


def got_lock(lock: IO[str], seconds: int) -> bool:
    """Wait for the lock, at most so long."""
    signal.signal(signal.SIGALRM, _grace_over)
    signal.alarm(seconds)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except _GraceOverError:
        return False
    finally:
        signal.alarm(0)
    return True


def take_lock(record: str) -> IO[str]:
    """Return the record's lock, held. An exporter of an earlier try that still runs is stopped first."""
    lock = open(os.path.join(record, "lock"), "a")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with open(os.path.join(record, "pid")) as file:
            predecessor = int(file.read())
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.kill(predecessor, number)
            if got_lock(lock, PREDECESSOR_GRACE):
                return lock
        raise
    return lock


def launch(request: Json, source: IO[bytes]) -> Json:
    """Start the work in a process that outlives the SSH session; it inherits the lock, and a copy of the units."""
    record = os.path.join(os.path.expanduser("~"), request["record"])
    os.makedirs(record, mode=0o700, exist_ok=True)
    lock = take_lock(record)
    progress = Progress(record, {"launch": request["launch"], "action": request["action"]})
    progress.write()
    # The first lines are files so small that each goes out in one piece.
    spools = Spool(record), Spool(record)
    spools[0].fill(itertools.islice(source, request.get("small", 0)))
    spools[1].fill(source)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        write_whole(os.path.join(record, "pid"), str(os.getpid()))
        log = os.open(os.path.join(record, "exporter.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for standard, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(target, standard)
        try:
            run_detached(request, spools, record, progress)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    lock.close()
    return {"record": record, "progress": finished(record, request["patience"])}


def finished(record: str, patience: int) -> Optional[Json]:
    """Return the last word of the work if it ends within so many seconds: a small export needs no second question."""
    with open(os.path.join(record, "lock"), "a") as lock:
        if patience and got_lock(lock, patience):
            with open(os.path.join(record, "progress.json")) as file:
                return dict(json.load(file))
    return None


def main() -> None:
    """Read the request behind the program on standard input, a line, start it on what follows, answer one JSON line."""
    try:
        request = json.loads(sys.stdin.buffer.readline().decode("utf-8"))
        answer = launch(request, sys.stdin.buffer)
    except OSError as error:
        answer = {"error": {"kind": "disk" if error.errno == errno.ENOSPC else "launch", "message": str(error)}}
    print(json.dumps(answer))
