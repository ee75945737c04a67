# ruff: noqa: UP006, UP021, UP022, UP035, UP045
"""Submit jobs to Slurm, each at most once, whatever is killed and when; cancel and watch them. Runs on the head node.

`python3 on_head_node.py prepare | submit | cancel | move` reads a JSON list of requests on standard input and answers
each with a line of JSON; `watch` reads one question about many jobs and answers it with one line. It needs Python 3.6
and the standard library.

A request names a task's folder (`root`); its attempts are the folders attempt-1, attempt-2 and so on. Under a lock:
  1. the last attempt is looked up: its records on the shared file system, and in Slurm the job that bears its name;
  2. if it is the answer to this request, it is adopted: nothing is sent;
  3. otherwise it is made sure that it is dead, the next attempt is recorded, and only then sent.
`prepare` does 1 and 2, and makes sure of the death, but sends nothing.

`series` tells a retry from a task that a person cleared: retries of one series want the same job, a higher series wants
a new one. `again_after_failure` says whether a retry of the same series wants a new job when the last one has failed.
An attempt that was cancelled on behalf of its own task is withdrawn: any retry wants a new one. So is one that Slurm
has forgotten, as a slurmctld that was killed forgets what it took within its last seconds, if it cannot run any more.

sbatch inherits the lock: when this program is killed while sbatch runs, the next one waits for its end before it looks.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

#: Requests that are worked on at the same time: slurmctld is the bottleneck beyond.
THREADS = 4
#: Seconds for a cancelled job to die; Slurm waits KillWait (30 by default) between SIGTERM and SIGKILL.
LONGEST_DEATH = 120
OVER = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL"),
    *("DEADLINE", "LAUNCH_FAILED", "RECONFIG_FAIL", "REVOKED"),
}
#: Seconds after which a job is dead for sure that was sent SIGTERM (SIGKILL comes KillWait, 30, seconds later), or that
#: has given no sign of life (its wrapper gives one every 20 seconds).
SURELY_DEAD = 90
#: What sbatch says when slurmctld did not answer: the request is not wrong, and may even have been taken.
UNAVAILABLE = (
    *("Unable to contact slurm controller", "Socket timed out", "Connection refused", "temporarily unable"),
    *("Zero Bytes were transmitted", "Transport endpoint is not connected", "Authentication", "Munge"),
)


#: Slurm's own default of MaxArraySize.
DEFAULT_ARRAY = 1001
#: What squeue tells: id, index in an array, state, reason, nodes, name, time of submission, walltime that is left.
QUEUE_FIELDS = ("%A", "%K", "%T", "%r", "%N", "%j", "%V", "%L")
INDEX, STATE, REASON, NAME, SUBMITTED, LEFT = 1, 2, 3, 5, 6, 7
#: What sinfo tells: nodes, their state, their reason, since when.
NODE_FIELDS = ("%N", "%T", "%E", "%H")
#: ASCII's own field separator: no name, comment or reason holds it.
SEPARATOR = "\x1f"
#: Bytes of a log that are sent at once; what grew beyond is skipped.
LONGEST_TAIL = 32 * 1024
#: Seconds after which the notes of a watcher that never came back are removed.
FORGOTTEN = 2 * 86_400


class SubmitError(Exception):
    """An answer that is no job. Its kind is `rejected`, `unavailable` or `stale`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Part(NamedTuple):
    """What one sbatch sends of an attempt: all of a job, or as many elements of an array as Slurm takes at once.

    Element `index` of the part is point `offset + index` of the sweep; `array` is the option, such as `0-9,12%4`.
    """

    name: str
    offset: int
    array: str


class Attempt(NamedTuple):
    """What is known about an attempt; `job_ids` has None for a part that was recorded but never sent."""

    number: int
    series: int
    parts: List[Part]
    job_ids: List[Optional[int]]
    alive: bool
    failed: bool
    withdrawn: bool
    forgotten: bool


def main(verb: str, requests: List[Dict[str, Any]]) -> None:
    """Answer each request with a line of JSON, in their order."""
    verbs: Dict[str, Callable[[Dict[str, Any], int], Dict[str, Any]]]
    verbs = {"prepare": prepare, "submit": submit, "cancel": cancel, "move": move}
    work = verbs[verb]
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


# ------------------------------------------------------------------------------------------------ the verbs
def prepare(request: Dict[str, Any], lock: int) -> Dict[str, Any]:
    """Return the job that is there already, or none once no attempt before can disturb a new one."""
    last = look_up(request)
    return found(request, last) or {"next": clear_the_way(request, last)}


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
    make_sure_it_is_dead(last)
    return {"cancelled": next((job_id for job_id in last.job_ids if job_id), None)}


def move(request: Dict[str, Any], lock: int) -> Dict[str, Any]:
    """Put what is pending of the last attempt into another partition."""
    last = look_up(request)
    queued = in_queue(last.parts) if last else {}
    pending = {job_id for rows in queued.values() for job_id, state in rows if state == "PENDING"}
    for job_id in sorted(pending):
        moved = run(["scontrol", "update", f"jobid={job_id}", f"partition={request['partition']}"])
        if moved.returncode != 0:
            raise SubmitError("rejected", (moved.stderr + moved.stdout).strip())
    return {"moved": sorted(pending)}


def found(request: Dict[str, Any], last: Optional[Attempt]) -> Optional[Dict[str, Any]]:
    """Return the last attempt's job if it is the answer to the request."""
    if last is None or last.series < request["series"]:
        return None
    if last.series > request["series"]:
        raise SubmitError("stale", f"a newer request has started attempt {last.number} already")
    if None in last.job_ids or last.withdrawn or last.forgotten or (last.failed and request["again_after_failure"]):
        return None
    return answer_of(request, last.number, last.parts, last.job_ids, how="found")


def clear_the_way(request: Dict[str, Any], last: Optional[Attempt]) -> int:
    """Make sure that no attempt before is alive, and return the number of the next one."""
    if last is None:
        return 1
    if last.series == request["series"] and None in last.job_ids and not last.withdrawn:
        return last.number  # it was recorded, but never sent, or not all of it
    if last.forgotten:
        give_up(record_of(request, last.number), last)
    make_sure_it_is_dead(last)
    return last.number + 1


def answer_of(
    request: Dict[str, Any], number: int, parts: List[Part], job_ids: List[Optional[int]], **more: Any
) -> Dict[str, Any]:
    """Return what is told of a job: its first part's id, and of a sweep how many points it computes and found done."""
    answer = {"attempt": number, "job_id": job_ids[0], "parts": {part.name: part.offset for part in parts}, **more}
    if request["points"]:
        sent = sum(len(indices_of(part.array)) for part in parts)
        answer.update(sent=sent, done=request["points"] - sent)
    return answer


# ------------------------------------------------------------------------------------------------ looking
def look_up(request: Dict[str, Any]) -> Optional[Attempt]:
    """Return the last attempt that was recorded, from its records and from Slurm; None if there is none."""
    numbers = attempts(request)
    if not numbers:
        return None
    number = max(numbers)
    record = record_of(request, number)
    series, parts = sent_as(record)
    queued = in_queue(parts)
    states = {state for rows in queued.values() for _, state in rows}
    alive = bool(states - OVER)
    return Attempt(
        number=number,
        series=series,
        parts=parts,
        job_ids=[job_id_of(record, part, queued[part.name]) for part in parts],
        alive=alive,
        failed=not alive and (has_failed(record, parts) or bool(states - {"COMPLETED"})),
        withdrawn=(record / "withdrawn").exists(),
        forgotten=not alive and is_forgotten(record, [part for part in parts if not queued[part.name]]),
    )


def attempts(request: Dict[str, Any]) -> List[int]:
    """Return the numbers of the attempts that were recorded."""
    return [int(path.name.split("-")[1]) for path in Path(request["root"]).glob("attempt-*")]


def job_id_of(record: Path, part: Part, rows: List[Tuple[str, str]]) -> Optional[int]:
    """Return the id of a part's job: from Slurm, from the job's own record, or from what sbatch answered; or None."""
    owners = [read(record / "owner").strip()]
    if part.array:
        points = (part.offset + index for index in indices_of(part.array))
        owners = [read(record / "elements" / str(point) / "owner").strip() for point in points] if not rows else []
    ids = [*(job_id for job_id, _ in rows), *owners, read(record / f"job_id.{part.offset}").strip()]
    return next((int(text) for text in ids if text), None)


def has_failed(record: Path, parts: List[Part]) -> bool:
    """Say whether an end was recorded that is none of success."""
    if parts[0].array:
        return any(not name.endswith("=0") for name in list_names(record / "ends"))
    end = dict(line.split("=", 1) for line in read(record / "end").splitlines())
    return end.get("exit_code", "0") != "0"


def open_ends(record: Path, parts: List[Part]) -> List[Path]:
    """Return the records of the job, or of the elements, that have no end."""
    ended = {name.partition("=")[0] for name in list_names(record / "ends")}
    points = {str(part.offset + index) for part in parts for index in indices_of(part.array)}
    places = [record / "elements" / point for point in points - ended] if points else [record]
    return [place for place in places if not (place / "end").exists()]


def may_run(place: Path) -> bool:
    """Say of a job without an end whether it has begun, was not seen to die, and gives signs of life."""
    if not (place / "owner").exists():
        return False
    signs = [int(text) for text in [read(place / "terminated").partition("=")[2].strip()] if text]
    with contextlib.suppress(FileNotFoundError):  # it has just begun
        signs.append(int((place / "alive").stat().st_mtime))
    return not signs or time.time() < min(signs) + SURELY_DEAD


def is_forgotten(record: Path, parts: List[Part]) -> bool:
    """Say of parts that Slurm does not know whether some have no end recorded, and none of those can still run."""
    places = open_ends(record, parts) if parts else []
    return bool(places) and not any(may_run(place) for place in places)


def give_up(record: Path, last: Attempt) -> None:
    """Withdraw an attempt that Slurm has forgotten: should it begin all the same, its wrapper ends it."""
    write(record / "withdrawn", "")
    if any(may_run(place) for place in open_ends(record, last.parts)):
        raise SubmitError("unavailable", f"attempt {last.number} has begun, although Slurm had forgotten it")


def in_queue(parts: List[Part]) -> Dict[str, List[Tuple[str, str]]]:
    """Return id and state of the jobs that bear the parts' names. A squeue that fails does not mean none."""
    names = ",".join(part.name for part in parts)
    asked = run(["squeue", "--noheader", "--states=all", "--array", f"--name={names}", "--format=%F %T %j"])
    if asked.returncode != 0:
        raise SubmitError("unavailable", "squeue: " + asked.stderr.strip())
    rows: Dict[str, List[Tuple[str, str]]] = {part.name: [] for part in parts}
    for line in sorted(asked.stdout.splitlines()):
        fields = line.split(None, 2)
        if len(fields) == 3 and fields[2].strip() in rows:
            rows[fields[2].strip()].append((fields[0], fields[1]))
    return rows


def make_sure_it_is_dead(last: Attempt) -> None:
    """Cancel what still lives of an attempt, and wait until Slurm says that it does not."""
    deadline = time.time() + LONGEST_DEATH
    alive = last.alive
    while alive:
        run(["scancel", "--name=" + ",".join(part.name for part in last.parts)])
        if time.time() > deadline:
            raise SubmitError("unavailable", f"attempt {last.number} was cancelled, but does not end")
        time.sleep(0.5)
        alive = any(state not in OVER for rows in in_queue(last.parts).values() for _, state in rows)


# ------------------------------------------------------------------------------------------------ sending
def send(request: Dict[str, Any], number: int, lock: int) -> Dict[str, Any]:
    """Record an attempt, then give its parts to sbatch, recording the id of each."""
    record = record_of(request, number)
    is_new = not record.exists()
    if is_new:
        # It is an attempt as soon as its folder has its name, so the folder is filled before.
        prepared = record.with_name(f".{record.name}.{os.getpid()}")
        prepare_record(request, number, prepared)
        prepared.rename(record)
    _, parts = sent_as(record)
    queued = {} if is_new else in_queue(parts)
    job_ids, said = [], []
    for part in parts:
        job_id = job_id_of(record, part, queued.get(part.name, []))
        if job_id is None:
            job_id, words = send_part(request, number, record, part, lock)
            said += [words] if words else []
        job_ids.append(job_id)
    return answer_of(request, number, parts, list(job_ids), how="sent", said="\n".join(said))


def prepare_record(request: Dict[str, Any], number: int, folder: Path) -> None:
    """Fill the folder of an attempt: what will be sent, and in which parts."""
    parts = [Part(f"{request['job_name']}{number}", 0, "")]
    folder.mkdir(exist_ok=True)
    if request["points"]:
        parts = parts_of(request, number, points_to_compute(request))
        (folder / "ends").mkdir(exist_ok=True)
    write(folder / "sent_as", json.dumps([request["series"], parts]))
    for name, text in request["files"].items():
        write(folder / name, text, sync=name != "job.sh")  # sbatch takes that with it
    (folder / "script").chmod(0o700)


def sent_as(record: Path) -> Tuple[int, List[Part]]:
    """Return the series of an attempt, and the parts in which it is sent."""
    series, parts = json.loads(read(record / "sent_as"))
    return series, [Part(*fields) for fields in parts]


def send_part(request: Dict[str, Any], number: int, record: Path, part: Part, lock: int) -> Tuple[Optional[int], str]:
    """Give one part to sbatch and record the job's id; return it with sbatch's warning."""
    options = [
        f"--job-name={part.name}",
        f"--comment={request['comment']}{number}",
        f"--output={request['log']}{number}.log",
        *([f"--array={part.array}"] if part.array else []),
    ]
    # The folder of the record is the script's own first argument: so nothing is substituted into it.
    script = [str(record / "job.sh"), str(record), str(part.offset)]
    sent = run(["sbatch", "--parsable", *request["options"], *options, *script], lock)
    job_id = sent.stdout.strip().split(";")[0]
    if sent.returncode != 0 or not job_id.isdigit():
        job_id = next((job_id for job_id, _ in in_queue([part])[part.name]), "")
    if not job_id:
        kind = "unavailable" if any(text in sent.stderr for text in UNAVAILABLE) else "rejected"
        raise SubmitError(kind, sent.stderr.strip() or f"sbatch ended with {sent.returncode} and said nothing")
    write(record / f"job_id.{part.offset}", job_id, sync=False)  # Slurm and the job itself know it, too
    return int(job_id), sent.stderr.strip()


# ------------------------------------------------------------------------------------------------ points of a sweep
def points_to_compute(request: Dict[str, Any]) -> List[int]:
    """Return the points that no attempt has computed with success; all of them if none is left."""
    done = {
        name[: -len("=0")]
        for number in attempts(request)
        for name in list_names(record_of(request, number) / "ends")
        if name.endswith("=0")
    }
    return [point for point in range(request["points"]) if str(point) not in done] or list(range(request["points"]))


def parts_of(request: Dict[str, Any], number: int, points: List[int]) -> List[Part]:
    """Cut points into arrays whose indices Slurm takes; a limit of running elements is shared among them."""
    size = largest_array()
    offsets = sorted({point // size * size for point in points})
    share = request["max_running"] and max(1, request["max_running"] // len(offsets))
    limit = f"%{share}" if share else ""
    return [
        Part(
            f"{request['job_name']}{number}" + (f".{offset}" if offset else ""),
            offset,
            ranges([point - offset for point in points if offset <= point < offset + size]) + limit,
        )
        for offset in offsets
    ]


def largest_array() -> int:
    """Return how many elements an array may have: Slurm's MaxArraySize is one more than the largest index."""
    for line in run(["scontrol", "show", "config"]).stdout.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdigit():
            return int(value)
    return DEFAULT_ARRAY


def ranges(indices: List[int]) -> str:
    """Write ascending numbers as sbatch takes them: `0-9,12`."""
    texts: List[str] = []
    begin = 0
    for position, index in enumerate(indices):
        if position + 1 < len(indices) and indices[position + 1] == index + 1:
            continue
        first = indices[begin]
        texts.append(str(first) if first == index else f"{first}-{index}")
        begin = position + 1
    return ",".join(texts)


def indices_of(array: str) -> List[int]:
    """Read what `parts_of` wrote; nothing of a job that is no array."""
    indices: List[int] = []
    for text in array.partition("%")[0].split(",") if array else []:
        first, _, last = text.partition("-")
        indices += range(int(first), int(last or first) + 1)
    return indices


def record_of(request: Dict[str, Any], number: int) -> Path:
    """Return the folder of an attempt."""
    return Path(request["root"]) / f"attempt-{number}"


# ------------------------------------------------------------------------------------------------ watching
def watch(request: Dict[str, Any]) -> Dict[str, Any]:
    """Say what has changed since this watcher's last question, of all its jobs at once and in bounded size.

    What was told is noted in a file of the watcher's own. A watcher that has missed an answer takes another name and
    begins anew; one whose notes are gone is told so, and begins anew as well.
    """
    file = watcher_file(request["watcher"], request["is_new"])
    empty: Dict[str, Any] = {"jobs": {}, "nodes": "", "turn": 0}
    notes: Optional[Dict[str, Any]] = empty if request["is_new"] else json.loads(read(file) or "null")
    if notes is None:
        return {"lost": True}
    jobs: Dict[str, Dict[str, Any]] = notes["jobs"]
    for key in request["drop"]:
        jobs.pop(key, None)
    for key, job in request["add"].items():
        jobs[key] = {**job, "told": None}
    queue = run(["squeue", "--noheader", "--states=all", "--array", "--format=" + SEPARATOR.join(QUEUE_FIELDS)])
    if queue.returncode != 0:
        write(file, json.dumps(notes), sync=False)
        return {"unknown": queue.stderr.strip()[-500:]}
    rows = parse_queue(queue.stdout)
    sights = {key: look(job, rows) for key, job in jobs.items()}
    answer = tell_changes(jobs, sights, request["limit"])
    answer["tails"] = tell_tails(notes, sights, request["limit"])
    answer["left"] = min((sight["left"] for sight in sights.values() if sight["left"] is not None), default=None)
    if any(sight["waits"] for sight in sights.values()):
        nodes = run(["sinfo", "--noheader", "--format=" + SEPARATOR.join(NODE_FIELDS)]).stdout
        if nodes != notes["nodes"]:
            notes["nodes"] = answer["nodes"] = nodes
    write(file, json.dumps(notes), sync=False)
    return answer


def watcher_file(watcher: str, is_new: bool) -> Path:
    """Return the file of a watcher's notes; a new watcher removes those of watchers that never came back."""
    folder = Path.home() / ".airflow-parallelcluster" / "watchers"
    if is_new:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.iterdir():
            if time.time() - file.stat().st_mtime > FORGOTTEN:
                file.unlink()
    return folder / f"{watcher}.json"


def parse_queue(text: str) -> Dict[str, List[List[str]]]:
    """Read the output of squeue, by the name of the jobs. Lines of another shape, such as warnings, are left out."""
    rows: Dict[str, List[List[str]]] = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(SEPARATOR)]
        if len(fields) == len(QUEUE_FIELDS) and fields[0].isdigit():
            rows.setdefault(fields[NAME], []).append(fields)
    return rows


def look(job: Dict[str, Any], rows: Dict[str, List[List[str]]]) -> Dict[str, Any]:
    """Return what is seen of a job, or of the elements of an array: `facts` are what is told when they change."""
    mine = [(int(offset), row) for name, offset in job["names"].items() for row in rows.get(name, ())]
    states = {row[STATE] for _, row in mine}
    left = [seconds for _, row in mine if row[STATE] == "RUNNING" for seconds in [seconds_of(row[LEFT])] if seconds]
    facts = look_at_array(job, mine) if job["is_array"] else look_at_one(job, mine[-1][1][:LEFT] if mine else None)
    return {
        "facts": facts,
        "left": min(left, default=None),
        "waits": bool(states & {"PENDING", "CONFIGURING"}),
        "writes": not mine or bool(states - {"PENDING", "CONFIGURING"}),
    }


def look_at_one(job: Dict[str, Any], row: Optional[List[str]]) -> Dict[str, Any]:
    """Return a job's row, and its record unless nothing can have been written since it was told."""
    told = job["told"]
    is_settled = row is not None and (row[STATE] == "PENDING" or (row[STATE] == "RUNNING" and told and told["record"]))
    if told and told["row"] == row and is_settled:
        return dict(told)
    record = "".join(read(Path(job["record"]) / name) for name in ("start", "terminated", "end"))
    return {"row": row, "record": record}


def look_at_array(job: Dict[str, Any], mine: List[Tuple[int, List[str]]]) -> Dict[str, Any]:
    """Return how many elements are in which state, why the others wait, and how those have ended that have.

    The name of an element's record of its end is `<index>=<exit code>`: one listing tells all. The end of one that
    Slurm has terminated, and still has in its queue, does not stand: it is put back there, or about to be.
    """
    elements = Path(job["record"]) / "elements"
    ended = dict(name.split("=") for name in list_names(elements.with_name("ends")) if "=" in name)
    counts: Dict[str, int] = Counter()
    reasons: Dict[str, int] = Counter()
    broken: Dict[str, str] = {}
    for offset, row in mine:
        index = str(offset + int(row[INDEX])) if row[INDEX].isdigit() else "?"
        if index in ended and row[STATE] not in OVER and (elements / index / "terminated").exists():
            del ended[index]
        if row[STATE] in OVER and index not in ended:
            broken[index] = row[STATE]
        elif index not in ended:
            counts[row[STATE]] += 1
            if row[STATE] == "PENDING":
                reasons[row[REASON]] += 1
    reason = max(reasons, key=lambda name: reasons[name], default="")
    submitted = min((row[SUBMITTED] for _, row in mine), default="")
    return {"counts": counts, "reason": reason, "submitted": submitted, "broken": broken, "ended": ended}


def tell_changes(jobs: Dict[str, Any], sights: Dict[str, Any], limit: int) -> Dict[str, Any]:
    """Return what is news of each job, those that have ended first, until `limit` bytes; note what was told."""
    news = [key for key, job in jobs.items() if job["told"] != sights[key]["facts"]]
    news.sort(key=lambda key: sights[key]["waits"])
    changes: Dict[str, Any] = {}
    used = 0
    for key in news:
        job, facts = jobs[key], sights[key]["facts"]
        change = dict(facts)
        if job["is_array"]:
            told = (job["told"] or {}).get("ended", {})
            change["is_whole"] = job["told"] is None
            change["ended"] = {index: code for index, code in facts["ended"].items() if told.get(index) != code}
            change["again"] = [index for index in told if index not in facts["ended"]]
        used += len(json.dumps(change))
        if used > limit and changes:
            break
        changes[key] = change
        job["told"] = facts
    return {"changes": changes, "is_all": len(changes) == len(news)}


def tell_tails(notes: Dict[str, Any], sights: Dict[str, Any], limit: int) -> Dict[str, Any]:
    """Return what is new at the end of the logs, until `limit` bytes; whose turn did not come is the next round's."""
    keys = sorted(key for key, sight in sights.items() if sight["writes"] and notes["jobs"][key]["log"])
    turn = notes["turn"] % len(keys) if keys else 0
    tails: Dict[str, Any] = {}
    used = 0
    for number, key in enumerate(keys[turn:] + keys[:turn]):
        tail = new_lines(notes["jobs"][key])
        if tail is None:
            continue
        tails[key] = tail
        used += len(tail["text"])
        if used > limit:
            notes["turn"] = turn + number + 1
            break
    return tails


def new_lines(job: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Read a log from where it was read last, at most its last LONGEST_TAIL bytes; None if nothing is new."""
    try:
        with Path(job["log"]).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            begin = job["offset"] if job["offset"] <= size else 0
            first = max(begin, size - LONGEST_TAIL)
            if first == size and begin == job["offset"]:
                return None
            file.seek(first)
            text = file.read(size - first)
    except OSError:
        return None
    was_replaced, job["offset"] = begin < job["offset"], first + len(text)
    return {
        "skipped": first - begin or (-1 if was_replaced else 0),
        "end": job["offset"],
        "text": text.decode("utf-8", "replace"),
    }


def seconds_of(left: str) -> Optional[int]:
    """Read Slurm's `[days-]hours:minutes:seconds`, or less of it; None for what is no time, such as UNLIMITED."""
    days, _, clock = left.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in [*parts, days or "0"]):
        return None
    total = 0
    for part in parts:
        total = 60 * total + int(part)
    return total + 86_400 * int(days or 0)


def list_names(folder: Path) -> List[str]:
    """Return the names in a folder; none if it is not there."""
    try:
        return [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []


# ------------------------------------------------------------------------------------------------ files and commands
def read(path: Path) -> str:
    """Return a file's text; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def write(path: Path, text: str, sync: bool = True) -> None:
    """Write a file that appears whole or not at all; without `sync`, one that may be empty after a loss of power."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(text.encode("utf-8"))
        file.flush()
        if sync:
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
    if sys.argv[1] == "watch":
        json.dump(watch(json.load(sys.stdin)), sys.stdout)
    else:
        main(sys.argv[1], json.load(sys.stdin))
