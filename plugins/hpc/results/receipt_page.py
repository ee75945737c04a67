"""The receipt as people read it: what was saved, where it is, how to get it, and what made it."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

from hpc.results.launch import format_bytes
from hpc.results.pages import render
from hpc.results.receipt import Receipt

#: Files that the page lists one by one; `receipt.json` has all of them.
FILES_SHOWN = 1000


def page_name(receipt_name: str) -> str:
    """Return the name of the page that lies beside a receipt."""
    return receipt_name.removesuffix(".json") + ".html"


def render_receipt(receipt: Receipt, verified: datetime) -> str:
    """Return the page of a receipt, with the moment at which it was verified.

    Its links are relative: it works in a copy of the folder, too.
    """

    def below(key: str) -> str:
        return quote("./" + key.removeprefix(f"{receipt.prefix}/"))

    return render(
        "receipt.html",
        title=f"Receipt of {receipt.cluster_name}",
        receipt=receipt,
        files=sorted(receipt.files, key=lambda file: file.path.startswith(".")),  # records of the run after its results
        verified=verified,
        receipt_name=receipt.uri.removeprefix(f"s3://{receipt.bucket}/{receipt.prefix}/"),
        limit=FILES_SHOWN,
        size_of=format_bytes,
        below=below,
    )
