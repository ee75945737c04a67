"""What the exporter does by itself: globs, hashes, S3's refusals, and one running instance a record."""

from __future__ import annotations

import ast
import base64
import fcntl
import hashlib
import http.client
import http.server
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.results import launch
from hpc.results.exporter import files, s3, work
from hpc.results.manifest import parse_manifest

CHECKSUM = s3.CHECKSUM
#: Holds a lock until it is ended.
HOLDER = (
    "import fcntl, signal, sys; lock = open(sys.argv[1], 'a'); fcntl.flock(lock, fcntl.LOCK_EX); print(flush=True);"
    " signal.pause()"
)


def annotations_of_later_pythons(source: str) -> list[str]:
    """Return annotations such as `a | b` and `list[int]`: 3.6 reads them, and fails where it evaluates them."""
    annotations = list[ast.expr]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
            annotations.append(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns:
            annotations.append(node.returns)
    parts = [part for annotation in annotations for part in ast.walk(annotation)]
    late = [part for part in parts if isinstance(part, ast.BinOp)]
    late += [
        part
        for part in parts
        if isinstance(part, ast.Subscript) and not (isinstance(part.value, ast.Name) and part.value.id[0].isupper())
    ]
    return [ast.unparse(part) for part in late]


def test_is_of_python_3_6_and_imports_nothing_of_ours_but_what_is_sent_before() -> None:
    sent = list[str]()
    for name, source in launch.program():
        for node in ast.walk(ast.parse(source, feature_version=(3, 6))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert [module for module in imported if module.partition(".")[0] not in sys.stdlib_module_names] == [
                module for module in imported if module in sent
            ]
        assert annotations_of_later_pythons(source) == []
        assert "annotations" not in source, "from __future__ import annotations is of Python 3.7"
        sent.append(name)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.out", ["job.out", ".hidden.out"], ["a/job.out", "job.outs"]),
        ("**", ["a", "a/b/c", ".x"], []),
        ("**/*.png", ["a.png", "x/a.png", "x/y/a.png"], ["a.pn", "a.png/x"]),
        ("frames/**", ["frames/a", "frames/b/c"], ["frames", "xframes/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a/xb", "ab"]),
        ("frame[0-9].vt?", ["frame1.vtk", "frame0.vtu"], ["framex.vtk", "frame1.vt", "frame1.vt/"]),
        ("frame[!0-9]", ["framex"], ["frame1", "frame/"]),
        ("./a//b", ["a/b"], ["b"]),
        ("a[", ["a["], ["a"]),
        ("[z-a]", ["[z-a]"], ["z"]),
        ("[!]^]x", ["[!]^]x"], []),
        ("a+(b).$", ["a+(b).$"], ["aab.$"]),
        ("*", ["new\nline"], ["a/b"]),
    ],
)
def test_globs(pattern: str, matching: list[str], other: list[str]) -> None:
    regex = files.translate(pattern)
    assert [name for name in matching if not regex.match(name)] == []
    assert [name for name in other if regex.match(name)] == []


@given(st.text(alphabet="ab*?[]!-\\/.", min_size=1, max_size=12))
def test_no_glob_is_a_broken_expression(pattern: str) -> None:
    files.translate(pattern).match("a/b")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b"<Code>AccessDenied</Code><Message>Access Denied</Message>", "denied"),
        (403, b"<Code>AccessDenied</Code><Message>Request has expired</Message>", "expired"),
        (400, b"<Code>ExpiredToken</Code><Message>The provided token has expired.</Message>", "expired"),
        (404, b"<Code>NoSuchUpload</Code>", "expired"),
        (404, b"<Code>NoSuchBucket</Code>", "refused"),
        (400, b"<Code>BadDigest</Code>", "changed"),
        (400, b"<Code>XAmzContentChecksumMismatch</Code>", "changed"),
        (500, b"<Code>InternalError</Code>", None),
        (503, b"<Code>SlowDown</Code>", None),
        (400, b"<Code>RequestTimeout</Code>", None),
        (429, b"", None),
        (301, b"<Code>PermanentRedirect</Code>", "refused"),
    ],
)
def test_what_s3_says(status: int, body: bytes, kind: str | None) -> None:
    failure = s3.refusal(status, body, "a.dat")
    assert (failure and failure.kind) == kind


@pytest.mark.parametrize("size", [0, 1, 10, 11, 20, 25])
def test_hashes_of_parts(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    counted: list[int] = []
    entry = files.describe_file(os.fsencode(tmp_path.resolve()), "a", 10, counted.append)
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    assert sum(counted) == size
    pieces = [data[start : start + 10] for start in range(0, size, 10)] if size > 10 else []
    assert entry.get("parts", []) == [base64.b64encode(hashlib.sha256(piece).digest()).decode() for piece in pieces]


@pytest.mark.parametrize("size", [0, 1 << 30, 640 << 30, 641 << 30, 5 << 40])
def test_no_file_has_more_than_ten_thousand_parts(size: int) -> None:
    part = files.part_size_for(size, 64 << 20)
    assert -(-size // part) <= files.MAX_PARTS
    assert part == 64 << 20 or size > part * files.MAX_PARTS * 0.9


def request(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {
        "action": "scan",
        "record": str(tmp_path / "record"),
        "directory": str(tmp_path / "run"),
        "patterns": ["*"],
        "must_match": True,
        "part_size": 1 << 26,
        "launch": "1",
        "threads": 2,
        "patience": 10,
        **more,
    }


def test_what_a_failed_job_did_not_write_is_left_out(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "job.1.log").write_text("segmentation fault")
    found: list[tuple[str, int]] = []

    def select(folder: Path, patterns: list[str], must_match: bool) -> list[dict[str, Any]]:
        left_out: list[dict[str, Any]] = files.select(
            str(folder), patterns, must_match, lambda path, size: found.append((path, size))
        )
        return left_out

    nothing = [{"path": "*.csv", "reason": "a pattern that matches no file"}]
    assert select(run, ["*.log", "*.csv"], False) == nothing
    assert found == [("job.1.log", 18)]
    assert select(tmp_path / "never_made", ["*.csv"], False) == nothing
    with pytest.raises(files.Failure, match="there is no folder"):
        select(tmp_path / "never_made", ["*.log"], True)
    with pytest.raises(files.Failure, match=r"no file below .* matches '\*.csv'"):
        select(run, ["*.log", "*.csv"], True)


def test_what_became_a_link_out_of_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    root = tmp_path / "run"
    root.mkdir()
    (root / "inside").write_text("mine")
    (root / "link").symlink_to("inside")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    with files.open_result(os.fsencode(root.resolve()), "link") as file:
        assert file.read() == b"mine"
    for path in ("out", "folder/secret"):
        with pytest.raises(files.Failure, match="became a link that leads out of the folder"):
            files.open_result(os.fsencode(root.resolve()), path)


def start(document: dict[str, Any]) -> dict[str, Any]:
    sent = f"{json.dumps(launch.program())}\n{json.dumps(document)}\n"
    ended = subprocess.run(
        [sys.executable, "-c", launch.BOOT], input=sent.encode(), stdout=subprocess.PIPE, check=True, cwd="/"
    )
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_a_predecessor_is_stopped_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    record = tmp_path / "record"
    record.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(record / "lock")], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        (record / "pid").write_text(str(holder.pid))
        (tmp_path / "run" / "a").write_text("x")
        answer = start(request(tmp_path))
        assert answer["progress"]["state"] == "done"
        assert holder.wait() == -signal.SIGTERM


def test_its_lock_tells_that_it_runs(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a").write_text("x")
    answer = start(request(tmp_path))
    assert answer["progress"]["files_done"] == 1
    with (tmp_path / "record" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    manifest = parse_manifest((tmp_path / "record" / "manifest.jsonl").read_text())
    assert [file.path for file in manifest.files] == ["a"]


def test_a_record_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = start(request(tmp_path, record=str(tmp_path / "file" / "record")))
    assert answer["error"]["kind"] == "launch"


@pytest.mark.parametrize(("core_seconds", "threads"), [(lambda: 0.0, 10), (time.monotonic, 4)], ids=["wait", "compute"])
def test_more_threads_join_as_long_as_these_wait(
    monkeypatch: pytest.MonkeyPatch, core_seconds: Callable[[], float], threads: int
) -> None:
    monkeypatch.setattr(work, "PROGRESS_INTERVAL", 0.1)
    monkeypatch.setattr(work, "core_seconds", core_seconds)
    over, looks = threading.Event(), list[int]()

    def wait() -> None:
        over.wait()

    def look() -> None:
        looks.append(len(crew.threads))
        if len(looks) > 5:
            over.set()

    crew = work.Crew(wait, 4, 10)
    work.work_to_the_end([crew], look)
    assert (looks[0], len(crew.threads)) == (4, threads)


def test_what_threads_compute_is_counted() -> None:
    before, began = work.core_seconds(), time.thread_time()
    while time.thread_time() < began + 0.2:
        pass
    assert work.core_seconds() - before >= 0.19


@pytest.mark.parametrize(("length", "together"), [(files.BLOCK, 24), (files.BLOCK + 1, 16)])
def test_what_is_large_is_sent_by_fewer_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, together: int
) -> None:
    all_in, inside, most = threading.Barrier(together), set[int](), list[int]()
    checksum = {s3.CHECKSUM: "="}
    answer = SimpleNamespace(status=200, getheader=lambda name: {**checksum, "etag": "e"}[name])

    def put(*_: Any) -> Any:
        inside.add(threading.get_ident())
        most.append(len(inside))
        all_in.wait(30)
        inside.discard(threading.get_ident())
        return answer, b""

    uploader = exporter_of(tmp_path)
    monkeypatch.setattr(uploader, "_put", put)
    unit = {"path": "x", "length": length, "headers": checksum}
    with ThreadPoolExecutor(2 * together) as pool:
        sent = [pool.submit(uploader.send, unit) for _ in range(2 * together)]
        assert {future.result() for future in sent} == {("e", True)}
    assert max(most) == together if length > files.BLOCK else max(most) >= together


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers each PUT as the test says; `busy` counts the requests that wait for their answer."""

    protocol_version = "HTTP/1.1"
    plan: Callable[[str], int]
    busy: set[str]
    keep: bool

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.busy.add(self.path)
        status = self.plan(self.path)
        self.busy.discard(self.path)
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": "0", "ETag": '"e"', CHECKSUM: self.headers[CHECKSUM]}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = not self.keep  # without a word about it

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def answering(
    plan: Callable[[str], int], *, keep: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[str, set[str]]]:
    """Run a server that answers so; yield its URL, and which requests wait for their answer."""
    busy = set[str]()
    handler = type("Handler", (Answers,), {"plan": staticmethod(plan), "busy": busy, "keep": keep})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}", busy
        finally:
            server.shutdown()
            thread.join()


def exporter_of(folder: Path) -> s3.Uploader:
    return s3.Uploader(os.fsencode(folder), lambda number: None, threading.Event(), None)


def shared_until(stopped: threading.Event, units: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for unit in units:
        if stopped.is_set():
            return
        yield unit


def small_units(folder: Path, url: str, number: int) -> list[dict[str, Any]]:
    """Write small files and return the requests that send them."""
    units = []
    for index in range(number):
        file = folder / f"{index}"
        file.write_bytes(b"x" * 10)
        facts = {"path": file.name, "size": 10, "mtime_ns": file.stat().st_mtime_ns, "offset": 0, "length": 10}
        units.append({**facts, "url": f"{url}/{index}?signed", "headers": {CHECKSUM: f"sum{index}="}})
    return units


def test_one_thread_has_many_small_files_under_way_and_not_more(tmp_path: Path) -> None:
    all_there = threading.Barrier(8)
    most = list[int]()

    def plan(_: str) -> int:
        all_there.wait(30)  # nobody is answered before eight have asked
        most.append(len(busy))
        return 200

    counted = list[int]()
    with answering(plan) as (url, busy):
        uploader = s3.Uploader(os.fsencode(tmp_path), counted.append, threading.Event(), None)
        units = small_units(tmp_path, url, 40)
        answers = list(uploader.send_many(iter(units), 8))
        uploader.close()
    assert [(unit["path"], etag, ok) for unit, etag, ok in answers] == [(f"{n}", '"e"', True) for n in range(40)]
    assert max(most) == 8
    assert sum(counted) == 400


@pytest.mark.parametrize("first", [0, 503], ids=["hung up", "busy"])
def test_a_small_file_that_does_not_go_through_at_once_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    asked = list[str]()

    def plan(path: str) -> int:
        asked.append(path)
        return first if path == "/3?signed" and asked.count(path) < 3 else 200

    counted = list[int]()
    with answering(plan) as (url, _):
        uploader = s3.Uploader(os.fsencode(tmp_path), counted.append, threading.Event(), None)
        answers = list(uploader.send_many(iter(small_units(tmp_path, url, 9)), 4))
        uploader.close()
    assert {unit["path"] for unit, _, ok in answers if ok} == {f"{n}" for n in range(9)}
    assert asked.count("/3?signed") == 3
    assert sum(counted) == 90


def test_a_refused_small_file_is_asked_once_and_counts_as_not_sent(tmp_path: Path) -> None:
    asked, counted = list[str](), list[int]()

    def plan(path: str) -> int:
        asked.append(path)
        return 403

    with answering(plan) as (url, _):
        uploader = s3.Uploader(os.fsencode(tmp_path), counted.append, threading.Event(), None)
        sending = uploader.send_many(iter(small_units(tmp_path, url, 3)), 1)
        with pytest.raises(files.Failure, match="S3 answered 403") as raised:
            next(sending)
    assert (raised.value.kind, asked, sum(counted)) == ("denied", ["/0?signed"], 0)


@pytest.mark.parametrize(
    ("change", "kind"),
    [(lambda file: file.write_bytes(b"y" * 11), "changed"), (Path.unlink, "vanished")],
    ids=["grown", "gone"],
)
def test_a_small_file_that_changes_before_its_turn_fails_the_export(
    tmp_path: Path, change: Callable[[Path], object], kind: str
) -> None:
    def plan(path: str) -> int:
        if path == "/0?signed":  # number 0 is under way, number 1 follows
            change(tmp_path / "1")
        return 200

    with answering(plan) as (url, _):
        uploader = exporter_of(tmp_path)
        sending = uploader.send_many(iter(small_units(tmp_path, url, 2)), 1)
        assert next(sending)[0]["path"] == "0"
        with pytest.raises(files.Failure) as raised:
            next(sending)
    assert raised.value.kind == kind


def test_a_small_file_that_grows_while_its_answer_is_awaited_fails_the_export(tmp_path: Path) -> None:
    def plan(path: str) -> int:
        (tmp_path / path[1:].partition("?")[0]).write_bytes(b"y" * 11)
        return 200

    with answering(plan) as (url, _):
        uploader = exporter_of(tmp_path)
        with pytest.raises(files.Failure, match="changed while it was exported"):
            list(uploader.send_many(iter(small_units(tmp_path, url, 1)), 4))


def test_a_refusal_closes_all_that_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = list[s3.UnderWay]()

    class Noted(s3.UnderWay):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            begun.append(self)

    monkeypatch.setattr(s3, "UnderWay", Noted)
    with answering(lambda path: 403 if path == "/2?signed" else 200) as (url, _):
        uploader = exporter_of(tmp_path)
        with pytest.raises(files.Failure, match="S3 answered 403"):
            list(uploader.send_many(iter(small_units(tmp_path, url, 20)), 8))
        uploader.close()
    assert len(begun) == 10  # number 2 was judged when eight were under way
    assert [request.unit["path"] for request in begun if request.connection.sock or not request.file.closed] == []


def test_what_is_under_way_when_the_export_is_stopped_is_neither_awaited_nor_counted(tmp_path: Path) -> None:
    stopped, counted, release = threading.Event(), list[int](), threading.Event()

    def plan(path: str) -> int:
        if path != "/0?signed":
            release.wait(30)
        return 200

    with answering(plan) as (url, _):
        uploader = s3.Uploader(os.fsencode(tmp_path), counted.append, stopped, None)
        sending = uploader.send_many(shared_until(stopped, small_units(tmp_path, url, 20)), 4)
        assert next(sending)[0]["path"] == "0"
        stopped.set()
        assert list(sending) == []
        release.set()
    assert sum(counted) == 10


def test_a_stop_takes_back_the_bytes_of_what_it_cuts_off(tmp_path: Path) -> None:
    stopped, counted = threading.Event(), list[int]()
    (unit,) = small_units(tmp_path, "http://127.0.0.1:9", 1)
    size = 3 * files.BLOCK
    (tmp_path / "0").write_bytes(bytes(size))
    unit |= {"size": size, "length": size, "mtime_ns": (tmp_path / "0").stat().st_mtime_ns}

    def count(number: int) -> None:
        counted.append(number)
        stopped.set()

    with answering(lambda _: 200) as (url, _):
        uploader = s3.Uploader(os.fsencode(tmp_path), count, stopped, None)
        with pytest.raises(files.Failure, match="stopped"):
            uploader.send({**unit, "url": f"{url}/0?signed"})
    assert counted[0] == files.BLOCK
    assert sum(counted) == 0


def test_idle_connections_that_died_cost_one_try_and_not_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    asked, all_there = list[str](), threading.Barrier(8)

    def plan(path: str) -> int:
        asked.append(path)
        if len(asked) <= 8:
            all_there.wait(30)  # eight connections
        return 0 if path == "/7?signed" and asked.count(path) == 1 else 200

    with answering(plan, keep=False) as (url, _):
        uploader = exporter_of(tmp_path)
        answers = list(uploader.send_many(iter(small_units(tmp_path, url, 8)), 8))
    assert {unit["path"] for unit, _, ok in answers if ok} == {f"{n}" for n in range(8)}
    assert asked.count("/7?signed") == 2


def test_answers_that_never_come_are_awaited_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    monkeypatch.setattr(s3, "HTTP_TIMEOUT", 1.2)
    monkeypatch.setattr(s3, "LAST_CALL", 0.1)
    release, asked, patience = threading.Event(), list[str](), list[float]()
    awaits = s3.Uploader._answer

    def awaiting(uploader: s3.Uploader, connection: http.client.HTTPConnection, *more: Any) -> Any:
        patience.append(connection.sock.gettimeout() or 0)
        return awaits(uploader, connection, *more)

    monkeypatch.setattr(s3.Uploader, "_answer", awaiting)

    def plan(path: str) -> int:
        asked.append(path)
        if asked.count(path) == 1:
            release.wait(30)
            return 0
        return 200

    with answering(plan) as (url, _):
        answers = list(exporter_of(tmp_path).send_many(iter(small_units(tmp_path, url, 4)), 4))
        release.set()
    assert len(answers) == 4
    first, *others = patience[:4]
    assert first > 1.0
    assert others == [0.1, 0.1, 0.1]  # they had waited as long when it was their turn


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1 that nobody knows; return it and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "2", "-subj", "/CN=local"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
def test_tls_is_spoken_and_the_certificate_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    results = tmp_path / "results"
    results.mkdir()
    certificate, key = make_certificate(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(certificate) if is_known else None)
    with answering(lambda _: 200, tls=server) as (url, _):
        uploader = s3.Uploader(os.fsencode(results), lambda number: None, threading.Event(), client)
        units = small_units(results, url, 6)
        if is_known:
            assert len(list(uploader.send_many(iter(units), 3))) == 6
            assert len(uploader.idle) == 3
            assert uploader.send(units[0]) == ('"e"', True)
        else:
            with pytest.raises(files.Failure, match="CERTIFICATE_VERIFY_FAILED"):
                list(uploader.send_many(iter(units), 3))
        uploader.close()
