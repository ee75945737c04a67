"""The page of a receipt: everything is on it, and nothing of a run becomes markup."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hpc.results import receipt_page
from hpc.results.receipt import Receipt, ReceiptFile, ReceiptLeftOut, make_receipt
from hpc.results.receipt_page import page_name, render_receipt


def entry(path: str, size: int = 1234) -> ReceiptFile:
    return ReceiptFile(path=path, key=f"sim/run/{path}", size=size, sha256="ab" * 32, s3_checksum="")


def receipt(*paths: str, facts: dict[str, Any] | None = None) -> Receipt:
    return make_receipt(
        cluster_name="sim-1",
        directory="/fsx/run",
        bucket="results",
        prefix="sim/run",
        receipt_key="receipt.json",
        files=[entry(path) for path in paths],
        left_out=[ReceiptLeftOut(path="latest", reason="a link that leads nowhere")],
        facts=facts,
    )


def render_receipt_now(of: Receipt) -> str:
    return render_receipt(of, datetime(2026, 11, 27, 13, 45, tzinfo=UTC))


def test_a_person_finds_what_was_saved_and_how_to_get_it() -> None:
    page = render_receipt_now(receipt("job.out", "frames/1 a.png", facts={"job": {"job_id": 7, "nodes": ["n1", "n2"]}}))
    assert "✓ 2 files, 2.5 kB: on 2026-11-27 at 13:45:00 UTC, S3 held" in page
    assert "aws s3 cp --recursive s3://results/sim/run/ ." in page
    assert "python -m hpc.results.verify s3://results/sim/run/receipt.json" in page
    assert '<a href="./frames/1%20a.png">frames/1 a.png</a>' in page
    assert '<a href="receipt.json">receipt.json</a>' in page
    assert "a link that leads nowhere" in page
    assert "<th>job_id</th><td><code>7</code></td>" in page
    assert '<code>["n1", "n2"]</code>' in page
    assert page.count("ab" * 32) == 2


def test_results_come_before_the_records_of_the_run() -> None:
    page = render_receipt_now(receipt(".slurm/job.sh", "job.out"))
    assert page.index(">job.out<") < page.index(">.slurm/job.sh<")


def test_what_a_run_says_cannot_become_markup() -> None:
    evil = '"><script>alert(1)</script>'
    page = render_receipt_now(
        receipt(evil, facts={evil: [evil], "text": f"{evil}\n{evil}", "deep": {"x": {evil: None}}})
    )
    assert "<script" not in page
    assert 'href=""' not in page
    assert page.count("&lt;script&gt;") == 5


def test_a_name_that_looks_like_an_address_stays_a_path() -> None:
    assert 'href="./javascript%3Aalert%281%29"' in render_receipt_now(receipt("javascript:alert(1)"))


def test_of_very_many_files_the_first_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_page, "FILES_SHOWN", 2)
    page = render_receipt_now(receipt("1", "2", "3", "4", "5"))
    assert "✓ 5 files" in page
    assert page.count("ab" * 32) == 2
    assert "… and 3 more, in receipt.json." in page


@pytest.mark.parametrize(
    ("receipt_name", "name"),
    [("receipt.json", "receipt.html"), ("receipt-janitor.json", "receipt-janitor.html"), ("a.html", "a.html.html")],
)
def test_the_page_lies_beside_its_receipt(receipt_name: str, name: str) -> None:
    assert page_name(receipt_name) == name
