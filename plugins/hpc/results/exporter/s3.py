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
import time
from typing import IO, Callable, Deque, Iterator, List, Optional, Tuple

from hpc.results.exporter.files import BLOCK, LARGE, Failure, Json, open_result, require_same

ATTEMPTS = 6
#: Seconds for an answer, and at least so many when those before it have taken all of them.
HTTP_TIMEOUT, LAST_CALL = 120.0, 1.0
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


class UnderWay:
    """A request whose answer is awaited, with the file that it sends."""

    def __init__(self, unit: Json, file: IO[bytes], connection: http.client.HTTPConnection) -> None:
        self.unit = unit
        self.file = file
        self.connection = connection
        self.began = time.monotonic()

    def close(self) -> None:
        """Close file and connection."""
        self.file.close()
        self.connection.close()


class Uploader:
    """Sends units of work to one host over connections that it keeps; each thread has its own uploader."""

    def __init__(
        self, root: bytes, count: Callable[[int], None], stopped: threading.Event, tls: Optional[ssl.SSLContext]
    ) -> None:
        self.root = root
        self.count = count
        self.stopped = stopped
        self.tls = tls
        self.idle: List[http.client.HTTPConnection] = []

    def send(self, unit: Json) -> Tuple[str, bool]:
        """PUT one file or part; return its ETag, and whether S3 says that it has verified it.

        Raises Failure, after six tries if the network or the server was at fault.
        """
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._pause(attempt)
            sent = [0]
            try:
                with LARGE if unit["length"] > BLOCK else contextlib.ExitStack():
                    response, body = self._put(unit, sent)
                if response.status == 200:
                    return receiving(response, unit)
                problem = f"answer {response.status}"
                require_retryable(response.status, body, unit["path"])
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            except BaseException:
                self.count(-sent[0])
                raise
            self.count(-sent[0])
            self.close()  # what was idle beside one that failed may be dead as well
        raise Failure("network", f"{unit['path']} could not be sent in {ATTEMPTS} tries; the last: {problem}")

    def send_many(self, units: Iterator[Json], most: int) -> Iterator[Tuple[Json, str, bool]]:
        """PUT small files with up to `most` requests under way; yield each with what `send` returns.

        What does not go through at once is put aside, and sent by itself after a pause.
        """
        under_way: Deque[UnderWay] = collections.deque()
        aside: List[Json] = []
        try:
            for unit in units:
                under_way.append(self._begin(unit))
                if len(under_way) == most:
                    yield from self._end(under_way.popleft(), aside)
                if len(aside) == most:
                    yield from self._send_aside(aside)
            while under_way and not self.stopped.is_set():
                yield from self._end(under_way.popleft(), aside)
            yield from self._send_aside(aside)
        finally:
            for request in under_way:
                request.close()

    def close(self) -> None:
        """Close the connections that are idle."""
        while self.idle:
            self.idle.pop().close()

    def _pause(self, attempt: int) -> None:
        if self.stopped.wait(min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)):
            raise Failure("stopped", "the export was stopped")

    def _send_aside(self, aside: List[Json]) -> Iterator[Tuple[Json, str, bool]]:
        if aside:
            self.close()
            self._pause(1)
        while aside:
            unit = aside.pop()
            etag, is_verified = self.send(unit)
            yield unit, etag, is_verified

    def _begin(self, unit: Json) -> UnderWay:
        """Send a small file; a connection that fails is closed."""
        request = UnderWay(unit, self._opened(unit), self._connection(unit))
        try:
            self._request(request.connection, request.file, unit, lambda number: None)
        except (OSError, http.client.HTTPException):
            request.connection.close()
        except BaseException:
            request.close()
            raise
        return request

    def _end(self, request: UnderWay, aside: List[Json]) -> Iterator[Tuple[Json, str, bool]]:
        unit = request.unit
        with request.file:
            try:
                if request.connection.sock is None:
                    raise http.client.NotConnected
                # Those behind it have waited as long: they do not wait for their own two minutes each.
                left = max(LAST_CALL, HTTP_TIMEOUT - (time.monotonic() - request.began))
                request.connection.sock.settimeout(left)
                response, body = self._answer(request.connection, request.file, unit)
            except (OSError, http.client.HTTPException):
                request.connection.close()
                aside.append(unit)
                return
        if response.status != 200:
            require_retryable(response.status, body, unit["path"])
            aside.append(unit)
            return
        if request.connection.sock is not None:
            request.connection.sock.settimeout(HTTP_TIMEOUT)
        self.count(unit["length"])
        etag, is_verified = receiving(response, unit)
        yield unit, etag, is_verified

    def _put(self, unit: Json, sent: List[int]) -> Tuple[http.client.HTTPResponse, bytes]:
        def count(number: int) -> None:
            sent[0] += number
            self.count(number)

        with self._opened(unit) as file:
            connection = self._connection(unit)
            try:
                if connection.sock is None:
                    connection.connect()
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
        if self.idle:
            return self.idle.pop()
        scheme, _, netloc = unit["url"].split("/", 3)[:3]
        if scheme == "https:":
            return http.client.HTTPSConnection(netloc, timeout=HTTP_TIMEOUT, context=self.tls)
        return http.client.HTTPConnection(netloc, timeout=HTTP_TIMEOUT)
