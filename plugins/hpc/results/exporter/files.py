"""What is exported: globs, what they match, and the SHA-256 of files and of their parts. Runs on the head node."""
# The syntax and library of Python 3.6, and names as bytes, for a folder may hold any:
# ruff: noqa: UP006, UP035, PTH110, PTH112, PTH114, PTH115, PTH116, PTH118, PTH123

import base64
import hashlib
import os
import queue
import re
import stat
import threading
from typing import IO, Any, Callable, Dict, Iterator, List, Pattern, Tuple

BLOCK = 1 << 20
#: What has more than a block is read and sent by fewer at a time: it hides its own round trips, and needs memory.
LARGE = threading.BoundedSemaphore(16)
NAMES_SHOWN = 20
#: S3 takes at most this many parts of one object.
MAX_PARTS = 10000

Json = Dict[str, Any]


class Failure(Exception):  # noqa: N818 - it is the word of the protocol
    """What ends the export. `kind` is one of the words that `hpc.results.launch` turns into errors."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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
    seen: List[str] = []
    left_out: List[Json] = []
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
    whole = hashlib.sha256()
    blocks: Any = queue.Queue(8)

    def follow() -> None:
        for block in iter(blocks.get, None):
            whole.update(block)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    parts: List[str] = []
    part, room = hashlib.sha256(), part_size
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
