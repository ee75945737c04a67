"""The export program that runs on the head node, where the results are. It never sees AWS credentials.

It is sent whole over SSH (`hpc.results.launch`) with a JSON request behind it, starts its work detached from that
session, and answers one JSON line. Two kinds of work:

scan     expands the patterns below the directory, hashes every file, writes `manifest.json`;
upload   PUTs files, or parts of files, to URLs that the worker signed for exactly these bytes.

Its record directory holds `lock` (held while the work runs, so nobody has to trust a process id), `pid`,
`progress.json` (replaced atomically), `manifest.json` and `exporter.log`. URLs stay in memory.

Standard library only and Python 3.6, the oldest on ParallelCluster's images (RHEL 8, Rocky 8): imports nothing of
`hpc`.
"""
# The syntax and library of Python 3.6, and names as bytes, for a folder may hold any:
# ruff: noqa: UP006, UP035, UP045, PTH103, PTH105, PTH110, PTH111, PTH112, PTH114, PTH116, PTH118, PTH123

import base64
import contextlib
import errno
import fcntl
import hashlib
import http.client
import json
import os
import random
import re
import signal
import ssl
import stat
import sys
import threading
import time
import traceback
import urllib.parse
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Pattern, Tuple

BLOCK = 1 << 20
ATTEMPTS = 6
HTTP_TIMEOUT = 120.0
PROGRESS_INTERVAL = 0.5
PREDECESSOR_GRACE = 20
NAMES_SHOWN = 20
#: S3 takes at most this many parts of one object.
MAX_PARTS = 10000

Json = Dict[str, Any]


class Failure(Exception):  # noqa: N818 - it is the word of the protocol
    """What ends the export. `kind` is one of the words that `hpc.results.launch` turns into errors."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


# ------------------------------------------------------------------------------------------------ files
def translate_choice(inside: str) -> str:
    """Return the regular expression of a glob's `[...]`, taken literally if it is no choice of characters (`[z-a]`)."""
    negated = inside.startswith("!")
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    regex = "(?!/)[" + "^" * negated + members + "]"
    try:
        re.compile(regex)
    except re.error:
        return re.escape("[" + inside + "]")
    return regex


def translate_segment(segment: str) -> str:
    """Return the regular expression of one path segment of a glob: `*`, `?`, `[...]`; none of them matches `/`."""
    regex, index = "", 0
    while index < len(segment):
        character = segment[index]
        closing = segment.find("]", index + 2) if character == "[" else -1
        if closing > 0:
            regex += translate_choice(segment[index + 1 : closing])
            index = closing
        else:
            regex += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        index += 1
    return regex


def translate(pattern: str) -> Pattern[str]:
    """Return the regular expression of a glob; `**` stands for any number of folders, at the end for all below."""
    segments = [segment for segment in pattern.split("/") if segment not in ("", ".")]
    regex = ""
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            regex += ".+" if last else "(?:[^/]+/)*"
        else:
            regex += translate_segment(segment) + ("" if last else "/")
    return re.compile("(?:" + regex + r")\Z", re.DOTALL)


def readable_name(path: bytes) -> str:
    """Return a name as text. Raises Failure if it is not UTF-8."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        shown = path.decode("utf-8", "backslashreplace")
        raise Failure("name", f"the name of {shown} is not UTF-8, so it cannot be the name of an S3 object") from None


def is_inside(path: bytes, root: bytes) -> bool:
    """Say whether a path, with all its links followed, lies below `root` (itself without links)."""
    return os.path.realpath(path).startswith(root.rstrip(b"/") + b"/")


def why_left_out(path: bytes, root: bytes) -> str:
    """Return why a path of the tree is no file to export; empty if it is one. A link to a file inside is followed."""
    if os.path.islink(path):
        if not os.path.exists(path):
            return "a link that leads nowhere"
        if not is_inside(path, root):
            return "a link that leads out of the folder"
        if os.path.isdir(path):
            return "a link to a folder"
    return "" if stat.S_ISREG(os.stat(path).st_mode) else "not a regular file"


def walk(root: bytes) -> Iterator[Tuple[str, bytes]]:
    """Yield (relative path, path) of everything below root but its folders; links are not entered."""

    def refuse(error: OSError) -> None:
        raise Failure("unreadable", f"cannot list {error.filename!r}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(files + links):
            path = os.path.join(folder, name)
            yield readable_name(os.path.relpath(path, root)), path


def select(directory: str, patterns: List[str], must_match: bool) -> Tuple[List[str], List[Json]]:
    """Return the relative paths that match any pattern, and what is left out: no file, or a pattern without a match.

    With `must_match` a pattern without a match is a Failure instead.
    """
    root = os.path.realpath(directory.encode("utf-8"))
    if not os.path.isdir(root):
        if must_match:
            raise Failure("no_directory", f"there is no folder {directory} on the head node")
        return [], [{"path": pattern, "reason": "a pattern that matches no file"} for pattern in sorted(patterns)]
    regexes = [(pattern, translate(pattern)) for pattern in patterns]
    unmatched = set(patterns)
    seen = []  # type: List[str]
    paths = []  # type: List[str]
    left_out = []  # type: List[Json]
    for relative, path in walk(root):
        if len(seen) <= NAMES_SHOWN:
            seen.append(relative)
        matching = [pattern for pattern, regex in regexes if regex.match(relative)]
        if not matching:
            continue
        reason = why_left_out(path, root)
        if reason:
            left_out.append({"path": relative, "reason": reason})
        else:
            paths.append(relative)
            unmatched.difference_update(matching)
    if unmatched and must_match:
        raise Failure("no_match", describe_no_match(directory, sorted(unmatched), seen, left_out))
    left_out += [{"path": pattern, "reason": "a pattern that matches no file"} for pattern in sorted(unmatched)]
    return sorted(paths), left_out


def describe_no_match(directory: str, unmatched: List[str], seen: List[str], left_out: List[Json]) -> str:
    """Return which patterns found nothing, and what is there instead."""
    message = f"no file below {directory} matches {', '.join(map(repr, unmatched))}"
    folders = [pattern for pattern in unmatched if os.path.isdir(os.path.join(directory, pattern))]
    if folders:
        message += f"; {folders[0]!r} is a folder, write '{folders[0].rstrip('/')}/**' for all that is in it"
    for entry in left_out[:NAMES_SHOWN]:
        message += f"; {entry['path']!r} is {entry['reason']}"
    there = ", ".join(repr(name) for name in seen[:NAMES_SHOWN]) + (" and more" if len(seen) > NAMES_SHOWN else "")
    return message + ". There " + ("is: " + there if seen else "is no file at all")


def require_same(path: str, status: os.stat_result, size: int, mtime_ns: int) -> None:
    """Raise Failure if a file is not as it was when it was listed."""
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise Failure("changed", f"{path} changed while it was exported: something still writes to it")


def open_result(directory: str, path: str) -> IO[bytes]:
    """Open one of the files. Raises Failure if it is gone, unreadable, or now leads out of the folder."""
    root = os.path.realpath(directory.encode("utf-8"))
    name = os.path.join(root, path.encode("utf-8"))
    if not is_inside(name, root):
        raise Failure("changed", f"{path} became a link that leads out of the folder while it was exported")
    try:
        return open(name, "rb")
    except FileNotFoundError:
        raise Failure("vanished", f"{path} vanished while it was exported") from None
    except OSError as error:
        raise Failure("unreadable", f"cannot read {path}: {error.strerror}") from None


def part_size_for(size: int, part_size: int) -> int:
    """Return the size of a file's parts: what was asked for, or as many whole MiB as keep it below 10,000 parts."""
    return part_size if size <= part_size * MAX_PARTS else -(-size // MAX_PARTS // BLOCK) * BLOCK


def describe_file(directory: str, path: str, part_size: int, count: Callable[[int], None]) -> Json:
    """Hash one file. A file larger than its part size also gets the SHA-256 of every part, in base64 as S3 wants it."""
    with open_result(directory, path) as file:
        before = os.fstat(file.fileno())
        size = part_size_for(before.st_size, part_size)
        parts = []  # type: List[str]
        whole, part, room = hashlib.sha256(), hashlib.sha256(), size
        while True:
            block = file.read(min(BLOCK, room))
            if not block:
                break
            whole.update(block)
            if before.st_size > size:
                part.update(block)
                room -= len(block)
            if room == 0 or (parts and file.tell() == before.st_size):
                parts.append(base64.b64encode(part.digest()).decode())
                part, room = hashlib.sha256(), size
            count(len(block))
        require_same(path, os.fstat(file.fileno()), before.st_size, before.st_mtime_ns)
    entry = {"path": path, "size": before.st_size, "mtime_ns": before.st_mtime_ns, "sha256": whole.hexdigest()}
    return dict(entry, part_size=size, parts=parts) if parts else entry


# ------------------------------------------------------------------------------------------------ S3
def refusal(status: int, body: bytes, path: str) -> Optional[Failure]:
    """Return what an answer of S3 means for the export; None if it is worth another try.

    Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """
    text = body[:2000].decode("utf-8", "replace")
    found = re.search("<Code>([^<]*)</Code>", text)
    code = found.group(1) if found else ""
    if status >= 500 or status in (408, 429) or code in ("RequestTimeout", "SlowDown"):
        return None
    message = f"S3 answered {status} {code} to {path}"
    if "expired" in text.lower() or code in ("ExpiredToken", "NoSuchUpload"):
        return Failure("expired", message)
    if code in ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"):
        return Failure("changed", f"{message}: what was sent is not what was hashed before")
    return Failure("denied" if status in (401, 403) else "refused", message)


class Uploader:
    """Sends units of work; each thread keeps a connection of its own."""

    def __init__(self, directory: str, count: Callable[[int], None], stopped: threading.Event) -> None:
        self.directory = directory
        self.count = count
        self.stopped = stopped
        self.local = threading.local()

    def send(self, unit: Json) -> None:
        """PUT one file or part. Raises Failure, after six tries if the network or the server was at fault."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt and self.stopped.wait(min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)):
                raise Failure("stopped", "the export was stopped")
            sent = [0]
            try:
                status, body = self._put(unit, sent)
            except (OSError, http.client.HTTPException) as error:
                self._forget_connection()
                problem = f"{type(error).__name__}: {error}"
            else:
                if status == 200:
                    return
                self._forget_connection()
                failure = refusal(status, body, unit["path"])
                if failure:
                    self.count(-sent[0])
                    raise failure
                problem = f"answer {status}"
            self.count(-sent[0])
        raise Failure("network", f"{unit['path']} could not be sent in {ATTEMPTS} tries; the last: {problem}")

    def _put(self, unit: Json, sent: List[int]) -> Tuple[int, bytes]:
        url = urllib.parse.urlsplit(unit["url"])
        connection = self._connection(url.scheme, url.netloc)
        with open_result(self.directory, unit["path"]) as file:
            require_same(unit["path"], os.fstat(file.fileno()), unit["size"], unit["mtime_ns"])
            file.seek(unit["offset"])
            headers = dict(unit["headers"], **{"Content-Length": str(unit["length"])})
            body = self._blocks(file, unit, sent)
            # A server that refuses may answer and hang up before it has read all: its answer says why.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request("PUT", url.path + "?" + url.query, body=body, headers=headers)
            response = connection.getresponse()
            answer = response.status, response.read(BLOCK)
            require_same(unit["path"], os.fstat(file.fileno()), unit["size"], unit["mtime_ns"])
        return answer

    def _blocks(self, file: IO[bytes], unit: Json, sent: List[int]) -> Iterator[bytes]:
        left = unit["length"]
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise Failure("changed", f"{unit['path']} became shorter while it was exported")
            if self.stopped.is_set():
                raise Failure("stopped", "the export was stopped")
            yield block
            left -= len(block)
            sent[0] += len(block)
            self.count(len(block))

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        cached = getattr(self.local, "connection", None)  # type: Optional[http.client.HTTPConnection]
        if cached is None or self.local.netloc != netloc:
            if scheme == "https":
                context = ssl.create_default_context()
                cached = http.client.HTTPSConnection(netloc, timeout=HTTP_TIMEOUT, context=context)
            else:
                cached = http.client.HTTPConnection(netloc, timeout=HTTP_TIMEOUT)
            self.local.connection, self.local.netloc = cached, netloc
        return cached

    def _forget_connection(self) -> None:
        cached = self.local.__dict__.pop("connection", None)
        if cached is not None:
            cached.close()


# ------------------------------------------------------------------------------------------------ the work, detached
class Progress:
    """What is done so far, in a file that is always whole."""

    def __init__(self, record: str, facts: Json) -> None:
        self.file = os.path.join(record, "progress.json")
        self.guard = threading.Lock()
        self.began = time.time()
        self.facts = dict({"state": "running", "files": 0, "files_done": 0, "bytes": 0, "bytes_done": 0}, **facts)

    def add(self, name: str, number: int) -> None:
        """Count more of something."""
        with self.guard:
            self.facts[name] += number

    def count_bytes(self, number: int) -> None:
        """Count bytes done; a negative number takes back what has to be sent again."""
        self.add("bytes_done", number)

    def write(self, **changes: Any) -> None:
        """Replace the file by how it is now."""
        with self.guard:
            self.facts.update(changes, seconds=round(time.time() - self.began, 1))
            text = json.dumps(self.facts)
        write_whole(self.file, text)


def write_whole(name: str, text: str) -> None:
    """Write a file so that readers see the old one or the new one."""
    partial = name + ".partial"
    with open(partial, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(partial, name)


def work_through(
    items: List[Any], threads: int, work: Callable[[Any], None], progress: Progress, stopped: threading.Event
) -> None:
    """Do `work` on every item in several threads, writing the progress meanwhile; the first failure stops all."""
    queue, guard = iter(items), threading.Lock()
    failures = []  # type: List[Exception]

    def run() -> None:
        while not stopped.is_set():
            with guard:
                item = next(queue, None)
            if item is None:
                return
            try:
                work(item)
            except Exception as error:
                failures.append(error)
                stopped.set()

    workers = [threading.Thread(target=run, daemon=True) for _ in range(max(1, min(threads, len(items))))]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(PROGRESS_INTERVAL)
            progress.write()
    if failures:
        raise failures[0]
    if stopped.is_set():
        raise Failure("stopped", "the export was stopped")


def scan(request: Json, record: str, progress: Progress, stopped: threading.Event) -> None:
    """Write manifest.json: every file with its size, time of change and SHA-256."""
    directory = request["directory"]
    paths, left_out = select(directory, request["patterns"], request["must_match"])
    root = directory.encode("utf-8")
    sizes = {path: os.stat(os.path.join(root, path.encode("utf-8"))).st_size for path in paths}
    progress.write(files=len(paths), bytes=sum(sizes.values()))
    entries = {}

    def describe(path: str) -> None:
        entries[path] = describe_file(directory, path, request["part_size"], progress.count_bytes)
        progress.add("files_done", 1)

    largest_first = sorted(paths, key=lambda path: -sizes[path])
    work_through(largest_first, request["threads"], describe, progress, stopped)
    manifest = {"directory": directory, "files": [entries[path] for path in paths], "left_out": left_out}
    write_whole(os.path.join(record, "manifest.json"), json.dumps(manifest))


def upload(request: Json, progress: Progress, stopped: threading.Event) -> None:
    """Send every unit of the request."""
    units = request["units"]
    waiting = {}  # type: Dict[str, int]
    for unit in units:
        waiting[unit["path"]] = waiting.get(unit["path"], 0) + 1
    progress.write(files=len(waiting), bytes=sum(unit["length"] for unit in units))
    uploader, guard = Uploader(request["directory"], progress.count_bytes, stopped), threading.Lock()

    def send(unit: Json) -> None:
        uploader.send(unit)
        with guard:
            waiting[unit["path"]] -= 1
            complete = waiting[unit["path"]] == 0
        if complete:
            progress.add("files_done", 1)

    work_through(units, request["threads"], send, progress, stopped)


def run_detached(request: Json, record: str, progress: Progress) -> None:
    """Do the work, and leave its end in progress.json."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        if request["action"] == "scan":
            scan(request, record, progress, stopped)
        else:
            upload(request, progress, stopped)
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


def launch(request: Json) -> Json:
    """Start the work in a process that outlives the SSH session; it inherits the lock."""
    record = os.path.join(os.path.expanduser("~"), request["record"])
    os.makedirs(record, mode=0o700, exist_ok=True)
    lock = take_lock(record)
    progress = Progress(record, {"launch": request["launch"], "action": request["action"]})
    progress.write()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        write_whole(os.path.join(record, "pid"), str(os.getpid()))
        log = os.open(os.path.join(record, "exporter.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for standard, target in ((0, os.open(os.devnull, os.O_RDONLY)), (1, log), (2, log)):
            os.dup2(target, standard)
        try:
            run_detached(request, record, progress)
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
    """Read the request behind the program on standard input, start it, answer one JSON line."""
    try:
        answer = launch(json.loads(sys.stdin.buffer.read().decode("utf-8")))
    except OSError as error:
        answer = {"error": {"kind": "disk" if error.errno == errno.ENOSPC else "launch", "message": str(error)}}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
