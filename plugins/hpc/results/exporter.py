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
`hpc`.
"""
# The syntax and library of Python 3.6, and names as bytes, for a folder may hold any:
# ruff: noqa: UP006, UP035, UP045, PTH103, PTH105, PTH110, PTH111, PTH112, PTH114, PTH115, PTH116, PTH118, PTH123, PTH208

import base64
import collections
import contextlib
import errno
import fcntl
import hashlib
import http.client
import itertools
import json
import os
import queue
import random
import re
import signal
import ssl
import stat
import sys
import tempfile
import threading
import time
import traceback
from typing import IO, Any, Callable, Dict, Iterator, List, Optional, Pattern, Tuple

BLOCK = 1 << 20
ATTEMPTS = 6
HTTP_TIMEOUT = 120.0
PROGRESS_INTERVAL = 0.5
#: Threads that begin.
FIRST_THREADS = 4
#: Threads that send small files. Each has many requests under way: threads that wait would cost more than requests do.
SMALL_THREADS = 2
#: What has more than a block is read and sent by fewer at a time: it hides its own round trips, and needs memory.
LARGE = threading.BoundedSemaphore(16)
#: Of a core: busier threads have nothing to wait for.
BUSY = 0.7
PREDECESSOR_GRACE = 20
NAMES_SHOWN = 20
CHECKSUM = "x-amz-checksum-sha256"
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


def is_below(path: bytes, root: bytes) -> bool:
    """Say whether a path lies below `root`; both without links."""
    return path.startswith(root.rstrip(b"/") + b"/")


def why_left_out(path: bytes, root: bytes) -> str:
    """Return why a path of the tree is no file to export; empty if it is one. A link to a file inside is followed."""
    if os.path.islink(path):
        if not os.path.exists(path):
            return "a link that leads nowhere"
        if not is_below(os.path.realpath(path), root):
            return "a link that leads out of the folder"
        if os.path.isdir(path):
            return "a link to a folder"
    return "" if stat.S_ISREG(os.stat(path).st_mode) else "not a regular file"


def walk(root: bytes) -> Iterator[Tuple[str, bytes]]:
    """Yield (relative path, path) of everything below root but its folders; links are not entered."""

    def refuse(error: OSError) -> None:
        raise Failure("unreadable", f"cannot list {error.filename!r}: {error.strerror}")

    skipped = len(root.rstrip(b"/")) + 1
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted(files + links):
            path = os.path.join(folder, name)
            yield readable_name(path[skipped:]), path


def select(directory: str, patterns: List[str], must_match: bool, found: Callable[[str, int], None]) -> List[Json]:
    """Tell `found` path and size of every file that matches a pattern; return what is left out.

    That is what is no file, and a pattern without a match. With `must_match` the latter is a Failure instead.
    """
    root = os.path.realpath(directory.encode("utf-8"))
    if not os.path.isdir(root):
        if must_match:
            raise Failure("no_directory", f"there is no folder {directory} on the head node")
        return [{"path": pattern, "reason": "a pattern that matches no file"} for pattern in sorted(patterns)]
    regexes = [(pattern, translate(pattern)) for pattern in patterns]
    unmatched = set(patterns)
    seen = []  # type: List[str]
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
            found(relative, os.stat(path).st_size)
            unmatched.difference_update(matching)
    if unmatched and must_match:
        raise Failure("no_match", describe_no_match(directory, sorted(unmatched), seen, left_out))
    return left_out + [{"path": pattern, "reason": "a pattern that matches no file"} for pattern in sorted(unmatched)]


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


def open_result(root: bytes, path: str) -> IO[bytes]:
    """Open one of the files. Raises Failure if it is gone, unreadable, or now leads out of the folder `root`."""
    try:
        file = open(os.path.join(root, path.encode("utf-8")), "rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError:
        raise Failure("vanished", f"{path} vanished while it was exported") from None
    except OSError as error:
        raise Failure("unreadable", f"cannot read {path}: {error.strerror}") from None
    # What was opened, with all links followed: whatever happens to the name now, it is this file that is read.
    if not is_below(os.readlink(b"/proc/self/fd/%d" % file.fileno()), root):
        file.close()
        raise Failure("changed", f"{path} became a link that leads out of the folder while it was exported")
    return file


def part_size_for(size: int, part_size: int) -> int:
    """Return the size of a file's parts: what was asked for, or as many whole MiB as keep it below 10,000 parts."""
    return part_size if size <= part_size * MAX_PARTS else -(-size // MAX_PARTS // BLOCK) * BLOCK


def describe_file(root: bytes, path: str, part_size: int, count: Callable[[int], None]) -> Json:
    """Hash one file. A file larger than its part size also gets the SHA-256 of every part, in base64 as S3 wants it."""
    with open_result(root, path) as file:
        before = os.fstat(file.fileno())
        size = part_size_for(before.st_size, part_size)
        if before.st_size > size:
            with LARGE:
                digest, parts = hash_parts(file, size, count)
        else:
            digest, parts = hash_whole(file, before.st_size, count), []
        require_same(path, os.fstat(file.fileno()), before.st_size, before.st_mtime_ns)
    entry = {"path": path, "size": before.st_size, "mtime_ns": before.st_mtime_ns, "sha256": digest}
    return dict(entry, part_size=size, parts=parts) if parts else entry


def hash_whole(file: IO[bytes], size: int, count: Callable[[int], None]) -> str:
    """Return the SHA-256 of a file in hexadecimal; it ends where the size says, or before."""
    digest, left = hashlib.sha256(), size
    while left:
        block = file.read(min(BLOCK, left))
        if not block:
            break
        digest.update(block)
        left -= len(block)
        count(len(block))
    return digest.hexdigest()


def hash_parts(file: IO[bytes], part_size: int, count: Callable[[int], None]) -> Tuple[str, List[str]]:
    """Return the SHA-256 of a file in hexadecimal and of its parts in base64, read once, computed by two threads."""
    whole, blocks = hashlib.sha256(), queue.Queue(8)  # type: Any, queue.Queue[Optional[bytes]]

    def follow() -> None:
        for block in iter(blocks.get, None):
            whole.update(block)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    parts, part, room = [], hashlib.sha256(), part_size  # type: List[str], Any, int
    try:
        while True:
            block = file.read(min(BLOCK, room))
            if not block:
                break
            blocks.put(block)
            part.update(block)
            room -= len(block)
            if room == 0:
                parts.append(base64.b64encode(part.digest()).decode())
                part, room = hashlib.sha256(), part_size
            count(len(block))
    finally:
        blocks.put(None)
        follower.join()
    if room < part_size:
        parts.append(base64.b64encode(part.digest()).decode())
    return whole.hexdigest(), parts


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


def require_retryable(status: int, body: bytes, path: str) -> None:
    """Raise Failure if S3 refuses, and would again."""
    failure = refusal(status, body, path)
    if failure:
        raise failure


def receiving(response: http.client.HTTPResponse, unit: Json) -> Tuple[str, bool]:
    """Return the ETag of what S3 has stored, and whether it says that it has verified the SHA-256."""
    return response.getheader("etag") or "", response.getheader(CHECKSUM) == unit["headers"][CHECKSUM]


class Uploader:
    """Sends units of work over connections that it keeps; each thread has its own uploader."""

    def __init__(
        self, root: bytes, count: Callable[[int], None], stopped: threading.Event, tls: Optional[ssl.SSLContext]
    ) -> None:
        self.root = root
        self.count = count
        self.stopped = stopped
        self.tls = tls
        self.idle = []  # type: List[http.client.HTTPConnection]
        self.place = ("", "")

    def send(self, unit: Json) -> Tuple[str, bool]:
        """PUT one file or part; return its ETag, and whether S3 says that it has verified it.

        Raises Failure, after six tries if the network or the server was at fault.
        """
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt and self.stopped.wait(min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)):
                raise Failure("stopped", "the export was stopped")
            sent = [0]
            try:
                with LARGE if unit["length"] > BLOCK else contextlib.ExitStack():
                    response, body = self._put(unit, sent)
            except (OSError, http.client.HTTPException) as error:
                self.count(-sent[0])
                problem = f"{type(error).__name__}: {error}"
                continue
            if response.status == 200:
                return receiving(response, unit)
            self.count(-sent[0])
            problem = f"answer {response.status}"
            require_retryable(response.status, body, unit["path"])
        raise Failure("network", f"{unit['path']} could not be sent in {ATTEMPTS} tries; the last: {problem}")

    def send_many(self, units: Iterator[Json], most: int) -> Iterator[Tuple[Json, str, bool]]:
        """PUT small files with up to `most` requests under way; yield each with what `send` returns.

        What does not go through at once is sent by itself, with all of its tries.
        """
        under_way = collections.deque()  # type: collections.deque[Any]
        try:
            for unit in units:
                under_way.append((unit, *self._begin(unit)))
                if len(under_way) == most:
                    yield self._end(*under_way.popleft())
            while under_way and not self.stopped.is_set():
                yield self._end(*under_way.popleft())
        finally:
            for _, file, connection in under_way:
                file.close()
                connection.close()

    def close(self) -> None:
        """Close all connections."""
        while self.idle:
            self.idle.pop().close()

    def _begin(self, unit: Json) -> Tuple[IO[bytes], http.client.HTTPConnection]:
        """Send a small file; a connection that fails is closed."""
        file, connection = self._opened(unit), self._connection(unit)
        try:
            self._request(connection, file, unit, lambda number: None)
        except (OSError, http.client.HTTPException):
            connection.close()
        except BaseException:
            file.close()
            connection.close()
            raise
        return file, connection

    def _end(self, unit: Json, file: IO[bytes], connection: http.client.HTTPConnection) -> Tuple[Json, str, bool]:
        with file:
            try:
                response, body = self._answer(connection, file, unit)
            except (OSError, http.client.HTTPException):
                return (unit, *self.send(unit))
        if response.status == 200:
            self.count(unit["length"])
            return (unit, *receiving(response, unit))
        require_retryable(response.status, body, unit["path"])
        return (unit, *self.send(unit))

    def _put(self, unit: Json, sent: List[int]) -> Tuple[http.client.HTTPResponse, bytes]:
        def count(number: int) -> None:
            sent[0] += number
            self.count(number)

        with self._opened(unit) as file:
            connection = self._connection(unit)
            try:
                # A server that refuses may answer and hang up before it has read all: its answer says why.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._request(connection, file, unit, count)
            except BaseException:
                connection.close()
                raise
            return self._answer(connection, file, unit)

    def _opened(self, unit: Json) -> IO[bytes]:
        file = open_result(self.root, unit["path"])
        try:
            require_same(unit["path"], os.fstat(file.fileno()), unit["size"], unit["mtime_ns"])
        except BaseException:
            file.close()
            raise
        return file

    def _request(
        self, connection: http.client.HTTPConnection, file: IO[bytes], unit: Json, count: Callable[[int], None]
    ) -> None:
        file.seek(unit["offset"])
        blocks = self._blocks(file, unit, count)
        # What fits into one block goes out together with the headers, in one packet.
        body = b"".join(blocks) if unit["length"] <= BLOCK else blocks
        headers = dict(unit["headers"], **{"Content-Length": str(unit["length"])})
        connection.request("PUT", "/" + unit["url"].split("/", 3)[3], body=body, headers=headers)

    def _answer(
        self, connection: http.client.HTTPConnection, file: IO[bytes], unit: Json
    ) -> Tuple[http.client.HTTPResponse, bytes]:
        """Return the answer. The connection is kept if all went well, else closed."""
        try:
            response = connection.getresponse()
            body = response.read(BLOCK)
            require_same(unit["path"], os.fstat(file.fileno()), unit["size"], unit["mtime_ns"])
        except BaseException:
            connection.close()
            raise
        if response.status == 200:
            self.idle.append(connection)
        else:
            connection.close()
        return response, body

    def _blocks(self, file: IO[bytes], unit: Json, count: Callable[[int], None]) -> Iterator[bytes]:
        left = unit["length"]
        while left:
            block = file.read(min(BLOCK, left))
            if not block:
                raise Failure("changed", f"{unit['path']} became shorter while it was exported")
            if self.stopped.is_set():
                raise Failure("stopped", "the export was stopped")
            yield block
            left -= len(block)
            count(len(block))

    def _connection(self, unit: Json) -> http.client.HTTPConnection:
        scheme, _, netloc = unit["url"].split("/", 3)[:3]
        if self.place != (scheme, netloc):
            self.close()
            self.place = (scheme, netloc)
        if self.idle:
            return self.idle.pop()
        if scheme == "https:":
            return http.client.HTTPSConnection(netloc, timeout=HTTP_TIMEOUT, context=self.tls)
        return http.client.HTTPConnection(netloc, timeout=HTTP_TIMEOUT)


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


def core_seconds() -> float:
    """Return the seconds in which the threads that live computed, or waited for a core that others had (proc(5))."""
    total = 0.0
    for thread in os.listdir("/proc/self/task"):
        try:
            with open("/proc/self/task/" + thread + "/schedstat") as file:
                total += sum(map(int, file.read().split()[:2])) / 1e9
        except OSError:  # it has just ended, or the kernel does not count
            continue
    return total or time.process_time()


class Crew:
    """Threads that do the same: a few begin, and as many again join them while these mostly wait for disk or network.

    Python runs one at a time, so each that has nothing to wait for costs the others as much as its own work.
    """

    def __init__(self, work: Callable[[], None], first: int, most: int) -> None:
        self.work = work
        self.first = first
        self.most = most
        self.threads = []  # type: List[threading.Thread]

    def start_some(self) -> None:
        """Let a few begin, and later as many as there are."""
        for _ in range(min(len(self.threads) or self.first, self.most - len(self.threads))):
            self.threads.append(threading.Thread(target=self.work, daemon=True))
            self.threads[-1].start()

    def at_work(self) -> List[threading.Thread]:
        """Return those that have not ended."""
        return [thread for thread in self.threads if thread.is_alive()]


def work_to_the_end(crews: List[Crew], look: Callable[[], None]) -> None:
    """Return when all threads of all crews have ended; call `look` now and then."""
    for crew in crews:
        crew.start_some()
    used, looked = core_seconds(), time.monotonic()
    alive = [thread for crew in crews for thread in crew.threads]
    while alive:
        alive[0].join(PROGRESS_INTERVAL)
        look()
        elapsed = time.monotonic() - looked
        if elapsed >= PROGRESS_INTERVAL:
            if core_seconds() - used < BUSY * elapsed:
                for crew in crews:
                    if crew.at_work():
                        crew.start_some()
            used, looked = core_seconds(), time.monotonic()
        alive = [thread for crew in crews for thread in crew.at_work()]


class Stage:
    """What several threads work on; the first failure stops all."""

    def __init__(self, progress: Progress, stopped: threading.Event) -> None:
        self.progress = progress
        self.stopped = stopped
        self.guard = threading.Lock()
        self.failures = []  # type: List[Exception]
        self.crews = []  # type: List[Crew]

    def add(self, items: Iterator[Any], work: Callable[[Iterator[Any]], None], *, first: int, most: int) -> None:
        """Let `first` threads, and up to `most`, call `work` on items that they share."""

        def run() -> None:
            try:
                work(self._shared(items))
            except Exception as error:
                self.failures.append(error)
                self.stopped.set()

        self.crews.append(Crew(run, first, most))

    def _shared(self, items: Iterator[Any]) -> Iterator[Any]:
        while not self.stopped.is_set():
            with self.guard:
                item = next(items, None)
            if item is None:
                return
            yield item

    def work_through(self) -> None:
        """Return when all is done, writing the progress meanwhile. Raises the first failure."""
        work_to_the_end(self.crews, self.progress.write)
        if self.failures:
            raise self.failures[0]
        if self.stopped.is_set():
            raise Failure("stopped", "the export was stopped")


class Spool:
    """Lines of JSON in a file without a name."""

    def __init__(self, record: str) -> None:
        self.file = tempfile.TemporaryFile(dir=record)  # noqa: SIM115
        self.size = 0

    def documents(self) -> Iterator[Any]:
        """Yield what was written, from the beginning."""
        self.file.seek(0)
        return (json.loads(line.decode("ascii")) for line in self.file)

    def fill(self, lines: Iterator[bytes]) -> None:
        """Write lines as they are."""
        self.file.writelines(lines)
        self.file.flush()  # before the process is forked, which would write the rest twice
        self.size = self.file.tell()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def scan(request: Json, record: str, progress: Progress, stopped: threading.Event) -> None:
    """Write manifest.jsonl: a line for the whole, then every file with its size, time of change and SHA-256."""
    directory, name = request["directory"], os.path.join(record, "manifest.jsonl")
    root = os.path.realpath(directory.encode("utf-8"))
    guard, totals = threading.Lock(), {"files": 0, "bytes": 0}
    multipart = []  # type: List[Tuple[int, str]]
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
        stage = Stage(progress, stopped)
        # A small file is more Python than hashing, and Python runs one thread at a time.
        stage.add(small.documents(), describe, first=1, most=request["threads"])
        others = itertools.chain(largest_first, large.documents())
        stage.add(others, describe, first=FIRST_THREADS, most=request["threads"])
        stage.work_through()
    os.replace(name + ".partial", name)


def upload(
    request: Json, spools: Tuple[Spool, Spool], record: str, progress: Progress, stopped: threading.Event
) -> None:
    """Send every unit, and note in sent.jsonl what S3 answered."""
    progress.write(files=request["files"], bytes=request["bytes"])
    root = os.path.realpath(request["directory"].encode("utf-8"))
    tls, guard = ssl.create_default_context(), threading.Lock()  # one for all connections: each takes a megabyte
    waiting = {}  # type: Dict[str, int]
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


if __name__ == "__main__":
    main()
