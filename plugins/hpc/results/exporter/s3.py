"""PUTs to signed URLs: connections that are kept, tries, and what the answers of S3 mean. Runs on the head node."""
# The syntax and library of Python 3.6, and names as bytes, for a folder may hold any:
# ruff: noqa: UP006, UP035, UP045

import collections
import contextlib
import http.client
import os
import random
import re
import ssl
import threading
from typing import IO, Any, Callable, Iterator, List, Optional, Tuple

from hpc.results.exporter.files import BLOCK, LARGE, Failure, Json, open_result, require_same

ATTEMPTS = 6
HTTP_TIMEOUT = 120.0
CHECKSUM = "x-amz-checksum-sha256"


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
        self.idle: List[http.client.HTTPConnection] = []
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
        under_way: collections.deque[Any] = collections.deque()
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
