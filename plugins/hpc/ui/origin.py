"""Did a page of ours send this request? The log-in is a cookie, which a browser sends along from any page that asks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit


def origin(url: str) -> str:
    """Return scheme, host and port of a URL as a browser writes them into the header `Origin`; lower case."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def is_same_origin(headers: Mapping[str, str], own: Collection[str]) -> bool:
    """Say whether a request that changes something comes from a page of one of our `own` origins.

    `Sec-Fetch-Site` decides where the browser sends it; browsers leave it out on plain HTTP, and then `Origin` decides,
    which every browser sends with a POST. A request with neither is refused. `headers` has to ignore case.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return headers.get("origin", "").lower() in own
