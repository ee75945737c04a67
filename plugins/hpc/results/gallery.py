"""One page that shows all pictures of an export."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from html import escape
from pathlib import PurePosixPath
from urllib.parse import quote

from hpc.results.receipt import ReceiptFile

#: What browsers show.
PICTURE_SUFFIXES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
}
#: Bytes of pictures that are put into the page itself, so that it shows them wherever it is opened, a bucket that is
#: not public included. Further ones are linked by their names.
MAX_EMBEDDED = 25_000_000

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1f24}"
    "figure{margin:0 0 2.5rem}img{max-width:100%;height:auto;border:1px solid #d0d7de;border-radius:6px}"
    "figcaption,footer{color:#57606a;overflow-wrap:anywhere}"
)


def is_picture(path: str) -> bool:
    """Say whether a browser shows it."""
    return PurePosixPath(path).suffix.lower() in PICTURE_SUFFIXES


def render_gallery(title: str, prefix: str, pictures: Sequence[ReceiptFile], read: Callable[[str], bytes]) -> str:
    """Return the page. `read` returns the bytes of an object by its key."""
    figures, room = [], MAX_EMBEDDED
    for picture in pictures:
        if picture.size <= room:
            room -= picture.size
            kind = PICTURE_SUFFIXES[PurePosixPath(picture.path).suffix.lower()]
            source = f"data:{kind};base64,{base64.b64encode(read(picture.key)).decode()}"
        else:
            source = quote(picture.key.removeprefix(f"{prefix}/"))
        name = escape(picture.path, quote=True)
        figures.append(
            f'<figure><img src="{source}" alt="{name}" loading="lazy">'
            f"<figcaption>{name}, {picture.size:,} bytes</figcaption></figure>"
        )
    heading = escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title>\n'
        '<meta name="viewport" content="width=device-width"><style>' + _STYLE + "</style></head>\n"
        f"<body><h1>{heading}</h1>\n"
        + "\n".join(figures)
        + f"\n<footer>{len(pictures)} pictures</footer></body></html>\n"
    )
