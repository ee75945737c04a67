from __future__ import annotations

import pytest

from hpc.results import gallery
from hpc.results.receipt import ReceiptFile


def picture(path: str, size: int = 4) -> ReceiptFile:
    return ReceiptFile(path=path, key=f"p/{path}", size=size, sha256="0" * 64, s3_checksum="")


def test_pictures_are_in_the_page() -> None:
    page = gallery.render_gallery("Run <1>", "p", [picture("a.PNG")], lambda key: b"\x89PNG")
    assert 'src="data:image/png;base64,iVBORw=="' in page
    assert "<title>Run &lt;1&gt;</title>" in page


def test_names_cannot_become_markup() -> None:
    page = gallery.render_gallery("t", "p", [picture('"><script>alert(1)</script>.png')], lambda key: b"x")
    assert "<script>" not in page
    assert 'alt=""' not in page


def test_what_does_not_fit_is_linked_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MAX_EMBEDDED", 5)
    page = gallery.render_gallery("t", "p", [picture("big one.png", 6), picture("small.png")], lambda key: b"x")
    assert 'src="big%20one.png"' in page
    assert 'src="data:image/png;base64,eA=="' in page


@pytest.mark.parametrize(("path", "is_one"), [("a.png", True), ("A.JPG", True), ("a.png.txt", False), ("png", False)])
def test_what_is_a_picture(path: str, is_one: bool) -> None:
    assert gallery.is_picture(path) is is_one
