"""Our HTML: one template, with style and script inside it, and nothing that comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from starlette.responses import HTMLResponse

_HERE = Path(__file__).parent
_TEMPLATES = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
_STYLE = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


#: Only our own style and script run, nobody may frame the page, and the form leads to us and on to an https address.
#: The referrer stays `same-origin`: with `no-referrer`, a browser would hide the origin from our own check.
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_digest(_STYLE)}; script-src {_digest(_SCRIPT)};"
        " form-action 'self' https:; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


def session_page(dag_id: str, run_id: str, cluster: str, *, problem: str = "", status: int = 200) -> HTMLResponse:
    """Return the page with the button that opens a DCV session, under what went wrong the last time, if it did."""
    return _page("DCV session", status, problem=problem, dag_id=dag_id, run_id=run_id, cluster=cluster)


def error_page(title: str, problem: str, status: int) -> HTMLResponse:
    """Return a page that says why there is nothing else to see."""
    return _page(title, status, problem=problem)


def _page(title: str, status: int, **values: str) -> HTMLResponse:
    own = {"style": Markup(_STYLE), "script": Markup(_SCRIPT)}  # noqa: S704 - constants of ours
    html = _TEMPLATES.get_template("page.html").render(title=title, **own, **values)
    return HTMLResponse(html, status_code=status, headers=HEADERS)
