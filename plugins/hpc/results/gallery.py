"""One page that shows all pictures of an export."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from urllib.parse import quote

from hpc.results.pages import render
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


def is_picture(path: str) -> bool:
    """Say whether a browser shows it."""
    return PurePosixPath(path).suffix.lower() in PICTURE_SUFFIXES


def render_gallery(title: str, prefix: str, pictures: Sequence[ReceiptFile], read: Callable[[str], bytes]) -> str:
    """Return the page. `read` returns the bytes of an object by its key."""
    shown, room = [], MAX_EMBEDDED
    for picture in pictures:
        if picture.size <= room:
            room -= picture.size
            kind = PICTURE_SUFFIXES[PurePosixPath(picture.path).suffix.lower()]
            source = f"data:{kind};base64,{base64.b64encode(read(picture.key)).decode()}"
        else:
            source = quote(picture.key.removeprefix(f"{prefix}/"))
        shown.append({"name": picture.path, "size": picture.size, "source": source})
    return render("gallery.html", title=title, pictures=shown)
