"""moto's S3 behind a server that does what moto leaves out: refuses a body that is not what its checksum says.

It also makes faults on request, and counts what it was asked.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DENIED = 403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
EXPIRED = 403, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
SLOW_DOWN = 503, b"<Error><Code>SlowDown</Code></Error>"
BAD_DIGEST = 400, b"<Error><Code>BadDigest</Code></Error>"


@dataclass
class StrictS3:
    """`answer` is asked before each request (method, path) and may answer in S3's place.

    `cut` says after how many bytes of an answer the connection ends.
    """

    url: str = ""
    answer: Callable[[str, str], tuple[int, bytes] | None] = lambda *_: None
    damage: Callable[[str], bool] = lambda _: False
    cut: Callable[[str, str], int | None] = lambda *_: None
    puts: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    def note(self, method: str, path: str, part: str | None) -> None:
        """Keep what was asked."""
        if method == "PUT":
            self.puts.append(path)
        if part:
            self.ranges.append(f"{path} {part}")


def _handler(s3: StrictS3, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            s3.note(self.command, path, self.headers.get("Range"))
            if s3.damage(path):
                body = body[:-1] + bytes([body[-1] ^ 1])
            given = s3.answer(self.command, path)
            checksum = self.headers.get("x-amz-checksum-sha256")
            if given is None and checksum and base64.b64encode(hashlib.sha256(body).digest()).decode() != checksum:
                given = BAD_DIGEST
            if given is not None:
                self._send(given[0], [], given[1])
                return
            connection = http.client.HTTPConnection(upstream)
            connection.request(self.command, self.path, body=body, headers=dict(self.headers))
            response = connection.getresponse()
            self._send(response.status, response.getheaders(), response.read())
            connection.close()

        def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            length = next((value for name, value in headers if name.lower() == "content-length"), str(len(body)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
            self.end_headers()
            self.wfile.write(body[: s3.cut(self.command, self.path)])
            self.close_connection = s3.cut(self.command, self.path) is not None

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _relay

    return Handler


@contextmanager
def strict_s3(upstream: str) -> Iterator[StrictS3]:
    """Stand before an S3 endpoint."""
    s3 = StrictS3()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(s3, urllib.parse.urlsplit(upstream).netloc))
    server.daemon_threads = True
    s3.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield s3
    server.shutdown()
    thread.join()
    server.server_close()
