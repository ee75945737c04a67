"""The worker's side of the exporter: what is sent to the head node, and what its answers mean."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc.errors import (
    ConfigurationError,
    ConnectionLostError,
    ExportError,
    HeadNodeCommandError,
    HpcError,
    PermissionDeniedError,
)
from hpc.head_node.shell import quote
from hpc.results import exporter
from hpc.results.manifest import Manifest, Sent, parse_manifest, parse_sent

if TYPE_CHECKING:
    from hpc.head_node.session import Session
    from hpc.results.bucket import Unit

#: The modules of the program, each after those that it imports; the last has `main`.
_MODULES = ("files", "s3", "work", "program")
#: Reads the modules, then leaves the rest of standard input to them: nothing is left on the head node, nothing in `ps`.
BOOT = """import json, sys, types
for name, source in json.loads(sys.stdin.buffer.readline().decode()):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name + '.py', 'exec'), module.__dict__)
module.main()  # the exporter's"""
#: Most requests at a time, and most threads on the head node: they hide round trips. With none to hide there are few.
THREADS = 64
#: Bytes of a file that is sent while the answers to many others are awaited: it is on its way with a few packets.
SMALL = 128 << 10
_RECORDS = ".airflow-parallelcluster/exports"
#: Seconds that a start waits for a quick end, before the task is deferred.
PATIENCE = 10
#: Bytes of a manifest: about four million files.
MAX_MANIFEST = 1 << 30
_LOG_TAIL = 2_000
#: Bytes of a log that are kept.
LOG_BYTES = 10_000_000


@dataclass(frozen=True)
class ExportProgress:
    """How far the exporter is. `state` is running, done, failed, or lost: it ended without saying how."""

    state: str
    action: str
    files: int
    files_done: int
    bytes: int
    bytes_done: int
    seconds: float
    kind: str = ""
    message: str = ""

    def line(self) -> str:
        """Return the one line for the task log."""
        verb = "hashed" if self.action == "scan" else "sent"
        rate = f", {format_bytes(self.bytes_done / self.seconds)}/s" if self.seconds else ""
        return (
            f"{verb} {self.files_done:,} of {self.files:,} files,"
            f" {format_bytes(self.bytes_done)} of {format_bytes(self.bytes)}{rate}"
        )


@dataclass(frozen=True)
class Launched:
    """Work that was started: its record directory, the number of this start, and its end if that came at once."""

    record: str
    launch: str
    ended: ExportProgress | None


def format_bytes(size: float) -> str:
    """Write a number of bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:.0f} bytes"


def record_of(cluster_name: str, directory: str, bucket: str, prefix: str) -> str:
    """Return the record directory of an export below the SSH user's home, the same on every retry."""
    digest = hashlib.sha256(json.dumps([cluster_name, directory, bucket, prefix]).encode()).hexdigest()
    return f"{_RECORDS}/{digest[:16]}"


async def start_scan(
    session: Session, *, record: str, directory: str, patterns: Sequence[str], must_match: bool, part_size: int
) -> Launched:
    """Start listing and hashing. With `must_match` it fails when a pattern matches no file."""
    return await _start(
        session,
        {
            "action": "scan",
            "record": record,
            "directory": directory,
            "patterns": list(patterns),
            "must_match": must_match,
            "part_size": part_size,
        },
    )


async def start_upload(session: Session, *, record: str, directory: str, units: Sequence[Unit]) -> Launched:
    """Start sending. The signed URLs travel on standard input, a line each, and are in no file that has a name."""
    small = [unit for unit in units if unit.length == unit.size <= SMALL]
    others = [unit for unit in units if not unit.length == unit.size <= SMALL]
    request = {
        "action": "upload",
        "record": record,
        "directory": directory,
        "files": len({unit.path for unit in units}),
        "bytes": sum(unit.length for unit in units),
        "small": len(small),
    }
    return await _start(session, request, "".join(json.dumps(unit.request()) + "\n" for unit in small + others))


async def _start(session: Session, request: dict[str, Any], more: str = "") -> Launched:
    launch = secrets.token_hex(8)
    data = json.dumps({**request, "launch": launch, "threads": THREADS, "patience": PATIENCE}) + "\n" + more
    completed = await session.run(
        quote(["python3", "-c", BOOT]), input=f"{json.dumps(program())}\n{data}".encode(), timeout=180
    )
    answer = json.loads(completed.stdout)
    if problem := answer.get("error"):
        raise error_of(problem["kind"], f"the export could not start: {problem['message']}")
    last = answer["progress"]
    return Launched(answer["record"], launch, last and _read_progress(last, launch, is_running=False))


def program() -> list[tuple[str, str]]:
    """Return names and sources of the modules that are sent, in the order in which they can be imported."""
    folder = Path(exporter.__file__).parent
    return [(f"{exporter.__name__}.{name}", (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]


async def read_manifest(session: Session, record: str) -> Manifest:
    """Return what a scan found. Raises ExportError if it cannot be read."""
    return parse_manifest(await session.read(f"{record}/manifest.jsonl", MAX_MANIFEST))


async def read_sent(session: Session, record: str) -> Sent:
    """Return what S3 answered to the PUTs of all tries so far, and what was read back; nothing before the first."""
    try:
        return parse_sent(await session.read(f"{record}/sent.jsonl", MAX_MANIFEST))
    except HeadNodeCommandError:
        return {}


async def note_sent(session: Session, record: str, lines: str) -> None:
    """Add lines to what `read_sent` reads: `[path, offset, checksum, ETag, whether it is verified]` in JSON."""
    await session.run(f"cat >>{quote([f'{record}/sent.jsonl'])}", input=lines)


def poll_command(record: str) -> str:
    """Return the shell command that asks whether the exporter still runs, and how far it is."""
    folder = quote([record])
    # The lock is asked before the progress is read: whoever has let go of it has written its last word.
    return (
        f"(cd {folder} && if flock -n lock true; then echo ended; tail -c {_LOG_TAIL} exporter.log 2>/dev/null"
        " | tr '\\n' ' '; echo; else echo running; echo; fi; cat progress.json)"
    )


def parse_poll(stdout: str, launch: str) -> ExportProgress:
    """Read the answer to `poll_command`. Raises ValueError if it is none, which says nothing about the export."""
    lines = stdout.splitlines()
    if len(lines) != 3:
        raise ValueError(f"{len(lines)} lines instead of 3")
    return _read_progress(json.loads(lines[2]), launch, is_running=lines[0] == "running", log=lines[1].strip())


def _read_progress(facts: dict[str, Any], launch: str, *, is_running: bool, log: str = "") -> ExportProgress:
    error = facts.get("error", {})
    numbers = {name: facts[name] for name in ("files", "files_done", "bytes", "bytes_done", "seconds")}
    progress = ExportProgress(
        facts["state"], facts["action"], **numbers, kind=error.get("kind", ""), message=error.get("message", "")
    )
    if facts["launch"] != launch:
        return _lost(progress, "another try of this export has taken over")
    if progress.state == "running" and not is_running:
        return _lost(progress, f"it ended without saying why (was the head node restarted?); its log: {log or 'empty'}")
    return progress


def _lost(progress: ExportProgress, message: str) -> ExportProgress:
    return replace(progress, state="lost", kind="lost", message=message)


def stop_command(record: str) -> str:
    """Return the shell command that ends the exporter if it runs; the lock tells it from a stranger with its pid."""
    return f'cd {quote([record])} && {{ flock -n lock true || kill "$(cat pid)"; }}'


def copy_log_command(source: str, target: str) -> str:
    """Return the shell command that copies the end of a log, or else why it cannot be read."""
    return f"tail -c {LOG_BYTES} {quote([source])} >{quote([target])} 2>&1"


def clean_command(record: str) -> str:
    """Return the shell command that removes the record of an export that is over."""
    return f"rm -rf {quote([record])}"


_REMEDIES = {
    "no_match": "correct the patterns, or look in the job's log why it did not write these files",
    "no_directory": "look in the job's log whether the job made its folder",
    "name": "rename the file in the job script or leave it out of the patterns",
    "changed": "end what writes to it, a forgotten background process of the job perhaps, and clear the task",
    "vanished": "end the program that removes files, and clear the task",
    "unreadable": "make the file readable for the SSH user in the job script",
    "disk": "free some space in the SSH user's home directory on the head node",
    "denied": "give the AWS connection s3:PutObject on this prefix, and the KMS key if the bucket has one",
    "expired": "set the clock of the Airflow worker: S3 took URLs for expired that had just been signed",
    "refused": "check that the bucket exists in this region and what S3 says",
}


def error_of(kind: str, message: str) -> HpcError:
    """Return the error for one of the exporter's kinds of failure."""
    remedy = _REMEDIES.get(kind, "")
    if kind == "denied":
        return PermissionDeniedError(message, remedy=remedy)
    if kind == "network":
        return ConnectionLostError(message, remedy="check that the head node reaches S3: a route, or a VPC endpoint")
    if kind in {"name", "no_directory"}:
        return ConfigurationError(message, remedy=remedy)
    return ExportError(message, remedy=remedy)
