#!/usr/bin/python3
"""Stands in for the Amazon DCV server on a head node: answers a session's link with a page that says what it is.

usage: dcv_server.py PORT CERTIFICATE ADDRESS...
"""

import http.server
import ssl
import sys
import threading
import time
import urllib.parse
from pathlib import Path

SESSIONS = Path("/run/dcv")
TOKEN_SECONDS = 30
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Amazon DCV (stand-in)</title>
<style>body{{font-family:sans-serif;max-width:40em;margin:4em auto;line-height:1.5}}</style></head><body>
<h1>Here would be the desktop of {host}</h1>
<p>This is the local AWS region. On AWS the link that brought you here opens an Amazon DCV session: the head node's
desktop in your browser, with the results under <code>/fsx</code>. Amazon DCV itself is not part of the local region, so
this page stands in for it. The way here was the real one: <code>pcluster dcv-connect</code> logged in to the head node
and asked for a session.</p></body></html>
"""


def session_is_open(token: str) -> bool:
    """True once for a token that is not older than `TOKEN_SECONDS`."""
    if not token.isalnum():
        return False
    session = SESSIONS / token
    try:
        age = time.time() - session.stat().st_mtime
        session.unlink()
    except FileNotFoundError:
        return False
    return age <= TOKEN_SECONDS


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET."""

    def do_GET(self) -> None:
        """Show the page to whoever has a session."""
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        allowed = session_is_open(query.get("authToken", [""])[0])
        body = (
            PAGE.format(host=Path("/proc/sys/kernel/hostname").read_text().strip())
            if allowed
            else "The session link has expired.\n"
        )
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body.encode())


def main() -> None:
    """Serve on every address, until killed."""
    port, certificate, addresses = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for address in addresses:
        server = http.server.ThreadingHTTPServer((address, port), Handler)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever).start()


main()
