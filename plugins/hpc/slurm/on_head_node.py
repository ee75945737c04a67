# ruff: noqa: UP006, UP021, UP022, UP035, UP045
"""Submit jobs to Slurm, each at most once, whatever is killed and when; and cancel them. Runs on the head node.

`python3 on_head_node.py prepare | submit | cancel` reads a JSON list of requests on standard input and answers each
with a line of JSON. It needs Python 3.6 and the standard library.

A request names a task's folder (`root`); its attempts are the folders attempt-1, attempt-2 and so on. Under a lock:
  1. the last attempt is looked up: its records on the shared file system, and in Slurm the job that bears its name;
  2. if it is the answer to this request, it is adopted: nothing is sent;
  3. otherwise it is made sure that it is dead, the next attempt is recorded, and only then sent.
`prepare` does 1 and 2, and makes sure of the death, but sends nothing.

`series` tells a retry from a task that a person cleared: retries of one series want the same job, a higher series wants
a new one. `again_after_failure` says whether a retry of the same series wants a new job when the last one has failed.
An attempt that was cancelled on behalf of its own task is withdrawn: any retry wants a new one.

sbatch inherits the lock: when this program is killed while sbatch runs, the next one waits for its end before it looks.
"""

import fcntl
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

#: Requests that are worked on at the same time: slurmctld is the bottleneck beyond.
THREADS = 4
#: Seconds for a cancelled job to die; Slurm waits KillWait (30 by default) between SIGTERM and SIGKILL.
LONGEST_DEATH = 120
OVER = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL"),
    *("DEADLINE", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"),
}
#: What sbatch says when slurmctld did not answer: the request is not wrong, and may even have been taken.
UNAVAILABLE = (
    *("Unable to contact slurm controller", "Socket timed out", "Connection refused", "temporarily unable"),
    *("Zero Bytes were transmitted", "Transport endpoint is not connected", "Authentication", "Munge"),
)


class SubmitError(Exception):
    """An answer that is no job. Its kind is `rejected`, `unavailable` or `stale`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Attempt(NamedTuple):
    """What is known about an attempt; `job_id` is None if it was recorded but never sent."""

    number: int
    series: int
    job_id: Optional[int]
    alive: bool
    failed: bool
    withdrawn: bool


def main(verb: str, requests: List[Dict[str, Any]]) -> None:
    """Answer each request with a line of JSON, in their order."""
    work: Callable[[Dict[str, Any], int], Dict[str, Any]] = {"prepare": prepare, "submit": submit, "cancel": cancel}[
        verb
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        for answer in pool.map(lambda request: answer_to(work, request), requests):
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


def answer_to(work: Callable[[Dict[str, Any], int], Dict[str, Any]], request: Dict[str, Any]) -> Dict[str, Any]:
    """Do a request's work under the lock of its task."""
    root = Path(request["root"])
    root.mkdir(parents=True, exist_ok=True)
    lock = os.open(str(root / "lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return work(request, lock)
    except SubmitError as error:
        return {"kind": error.kind, "error": str(error)}
    finally:
        os.close(lock)


# ------------------------------------------------------------------------------------------------ the three verbs
def prepare(request: Dict[str, Any], lock: int) -> Dict[str, Any]:
    """Return the job that is there already, or none once no attempt before can disturb a new one."""
    last = look_up(request)
    return found(request, last) or {"attempt": clear_the_way(request, last)}


def submit(request: Dict[str, Any], lock: int) -> Dict[str, Any]:
    """Return the job that answers a request: found, or sent now."""
    last = look_up(request)
    return found(request, last) or send(request, clear_the_way(request, last), lock)


def cancel(request: Dict[str, Any], lock: int) -> Dict[str, Any]:
    """Withdraw the last attempt, and return its job's id once it is dead; none if it was dead already."""
    last = look_up(request)
    if last is None or not last.alive:
        return {"cancelled": None}
    write(record_of(request, last.number) / "withdrawn", "")
    make_sure_it_is_dead(request, last)
    return {"cancelled": last.job_id}


def found(request: Dict[str, Any], last: Optional[Attempt]) -> Optional[Dict[str, Any]]:
    """Return the last attempt's job if it is the answer to the request."""
    if last is None or last.series < request["series"]:
        return None
    if last.series > request["series"]:
        raise SubmitError("stale", f"a newer request has started attempt {last.number} already")
    if last.job_id is None or last.withdrawn or (last.failed and request["again_after_failure"]):
        return None
    return {"attempt": last.number, "job_id": last.job_id, "how": "found"}


def clear_the_way(request: Dict[str, Any], last: Optional[Attempt]) -> int:
    """Make sure that no attempt before is alive, and return the number of the next one."""
    if last is None:
        return 1
    if last.series == request["series"] and last.job_id is None:
        return last.number  # it was recorded, but never sent
    make_sure_it_is_dead(request, last)
    return last.number + 1


# ------------------------------------------------------------------------------------------------ looking
def look_up(request: Dict[str, Any]) -> Optional[Attempt]:
    """Return the last attempt that was recorded, from its records and from Slurm; None if there is none."""
    numbers = [int(path.name.split("-")[1]) for path in Path(request["root"]).glob("attempt-*")]
    if not numbers:
        return None
    number = max(numbers)
    record = record_of(request, number)
    end = dict(line.split("=", 1) for line in read(record / "end").splitlines())
    queued = in_queue(request, number)
    states = set(queued.values())
    alive = bool(states - OVER)
    ids = [*queued, read(record / "owner").strip(), read(record / "job_id").strip()]
    return Attempt(
        number=number,
        series=int(read(record / "series") or 0),
        job_id=next((int(text) for text in ids if text), None),
        alive=alive,
        failed=not alive and (end.get("exit_code", "0") != "0" or bool(states - {"COMPLETED"})),
        withdrawn=(record / "withdrawn").exists(),
    )


def in_queue(request: Dict[str, Any], number: int) -> Dict[str, str]:
    """Return the state by job id of the jobs that bear an attempt's name. A squeue that fails does not mean none."""
    asked = run(["squeue", "--noheader", "--states=all", f"--name={request['job_name']}{number}", "--format=%A %T"])
    if asked.returncode != 0:
        raise SubmitError("unavailable", "squeue: " + asked.stderr.strip())
    rows = [line.split() for line in asked.stdout.splitlines()]
    return {row[0]: row[1] for row in sorted(rows) if len(row) == 2}


def make_sure_it_is_dead(request: Dict[str, Any], last: Attempt) -> None:
    """Cancel what still lives of an attempt, and wait until Slurm says that it does not."""
    deadline = time.time() + LONGEST_DEATH
    alive = last.alive
    while alive:
        run(["scancel", f"--name={request['job_name']}{last.number}"])
        if time.time() > deadline:
            raise SubmitError("unavailable", f"job {last.job_id} of the attempt before was cancelled, but does not end")
        time.sleep(0.5)
        alive = bool(set(in_queue(request, last.number).values()) - OVER)


# ------------------------------------------------------------------------------------------------ sending
def send(request: Dict[str, Any], number: int, lock: int) -> Dict[str, Any]:
    """Record an attempt, then give it to sbatch, then record the job's id."""
    record = record_of(request, number)
    # It is an attempt as soon as its folder has its name, so the folder is filled before.
    prepared = record.with_name(f".{record.name}.{os.getpid()}") if not record.exists() else record
    prepared.mkdir(exist_ok=True)
    for name, text in {**request["files"], "series": str(request["series"])}.items():
        write(prepared / name, text)
    (prepared / "script").chmod(0o700)
    if prepared != record:
        prepared.rename(record)
    options = [
        f"--job-name={request['job_name']}{number}",
        f"--comment={request['comment']}{number}",
        f"--output={request['log']}{number}.log",
    ]
    # The folder of the record is the script's own first argument: so nothing is substituted into it.
    sent = run(["sbatch", "--parsable", *request["options"], *options, str(record / "job.sh"), str(record)], lock)
    job_id = sent.stdout.strip().split(";")[0]
    if sent.returncode != 0 or not job_id.isdigit():
        job_id = next(iter(in_queue(request, number)), "")
    if not job_id:
        kind = "unavailable" if any(text in sent.stderr for text in UNAVAILABLE) else "rejected"
        raise SubmitError(kind, sent.stderr.strip() or f"sbatch ended with {sent.returncode} and said nothing")
    write(record / "job_id", job_id)
    return {"attempt": number, "job_id": int(job_id), "how": "sent", "said": sent.stderr.strip()}


def record_of(request: Dict[str, Any], number: int) -> Path:
    """Return the folder of an attempt."""
    return Path(request["root"]) / f"attempt-{number}"


def read(path: Path) -> str:
    """Return a file's text; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def write(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def run(argv: List[str], *inherited: int) -> "subprocess.CompletedProcess[str]":
    """Run a command apart from this program's own fate."""
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
        pass_fds=inherited,
        check=False,
    )


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
