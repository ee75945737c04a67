"""AWS as one run sees it: an endpoint before the local region's, which throttles, fails, cuts, denies and corrupts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from multidict import CIMultiDict
from yarl import URL

from chaos.lifecycle.plan import ON_WRITES, Fault, Injection

#: Seconds after which a call that is not answered is cut: a client that waits for a minute would wait in vain.
SILENCE = 5.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect", "te", "trailer", "upgrade"}
_SCOPE = re.compile(r"Credential(?:=|%3D)[^/%]+(?:/|%2F)\d+(?:/|%2F)[^/%]+(?:/|%2F)([a-z0-9-]+)", re.IGNORECASE)
#: The document of a pool.
_POOL = re.compile(r"/pools/[^/]+\.json$")
#: Status, code and message of each refusal.
_REFUSALS = {
    Fault.THROTTLED: (400, "Throttling", "Rate exceeded"),
    Fault.ERROR: (500, "InternalFailure", "We encountered an internal error. Please try again."),
    Fault.EXPIRED: (400, "ExpiredToken", "The security token included in the request is expired"),
    Fault.S3_DENIED: (403, "AccessDenied", "Access Denied"),
}


@dataclass
class Armed:
    """A fault that waits for its call; `left` says how often it still strikes."""

    injection: Injection
    skip: int
    left: int
    hits: int = 0

    def meets(self, request: web.Request, service: str) -> bool:
        """Count a call, and say whether the fault strikes at it."""
        is_write = service == "s3" and request.method == "PUT"
        if self.left <= 0 or (self.injection.fault in ON_WRITES and not is_write):
            return False
        if self.injection.fault is Fault.S3_CORRUPTED and _POOL.search(request.path):
            return False  # boto3 sends its checksum, by which AWS would refuse it; the local region would take it
        if self.skip > 0:
            self.skip -= 1
            return False
        self.left -= 1
        self.hits += 1
        return True


class Endpoint:
    """A port of 127.0.0.1 that leads to the region at `target`."""

    def __init__(self, target: str, session: ClientSession) -> None:
        self._target = URL(target)
        self._session = session
        self._armed: list[Armed] = []
        self.url = ""

    def arm(self, injection: Injection) -> Armed:
        """Let a fault wait for its call."""
        armed = Armed(injection, injection.call, injection.calls)
        self._armed.append(armed)
        return armed

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a call of AWS."""
        service = service_of(request)
        struck = next((armed for armed in self._armed if armed.meets(request, service)), None)
        fault = struck.injection.fault if struck else None
        body = await request.read()
        match fault:
            case Fault.CUT:
                return _cut(request)
            case Fault.SILENT:
                await asyncio.sleep(SILENCE)
                return _cut(request)
            case Fault.UNHEARD:
                await self._pass_on(request, body)
                return _cut(request)
            case Fault.S3_CORRUPTED:
                return await self._pass_on(request, bytes([body[0] ^ 1]) + body[1:] if body else body)
            case None:
                return await self._pass_on(request, body)
        return refusal(request, service, *_REFUSALS[fault])

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        url = self._target.join(URL(request.raw_path, encoded=True))
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP]
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False, skip_auto_headers=_AUTOMATIC
        ) as answer:
            kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                kept.append(("Content-Length", answer.headers["Content-Length"]))
            return web.Response(status=answer.status, body=await answer.read(), headers=CIMultiDict(kept))


_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def service_of(request: web.Request) -> str:
    """Return the AWS service that a request is signed for; empty if it is not."""
    found = _SCOPE.search(request.headers.get("Authorization", "")) or _SCOPE.search(request.raw_path)
    return found[1].lower() if found else ""


def refusal(request: web.Request, service: str, status: int, code: str, message: str) -> web.Response:
    """Return an error as the service's protocol has it: JSON, or one of three kinds of XML."""
    if "X-Amz-Target" in request.headers or "json" in request.headers.get("Content-Type", ""):
        name = {"Throttling": "ThrottlingException", "ExpiredToken": "ExpiredTokenException"}.get(code, code)
        return web.json_response({"__type": name, "message": message}, status=status, content_type=_JSON)
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    if service == "s3":
        slow = "SlowDown" if code == "Throttling" else code
        return _xml(503 if code == "Throttling" else status, error.replace(code, slow, 1))
    if service == "ec2":
        return _xml(status, f"<Response><Errors>{error}</Errors><RequestID>chaos</RequestID></Response>")
    return _xml(status, f"<ErrorResponse>{error}<RequestId>chaos</RequestId></ErrorResponse>")


_JSON = "application/x-amz-json-1.1"


def _xml(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text, content_type="text/xml")


def _cut(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


@asynccontextmanager
async def open_endpoint(target: str) -> AsyncIterator[Endpoint]:
    """Serve until the end of the block."""
    timeout = ClientTimeout(total=300)
    async with ClientSession(timeout=timeout, auto_decompress=False, cookie_jar=DummyCookieJar()) as session:
        endpoint = Endpoint(target, session)
        application = web.Application(client_max_size=1 << 30)
        application.router.add_route("*", "/{path:.*}", endpoint.answer)
        runner = web.AppRunner(application, shutdown_timeout=0, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield endpoint
        finally:
            await runner.cleanup()
