"""What a browser tells about the page that a request comes from."""

from __future__ import annotations

import pytest

from hpc.ui.origin import is_same_origin, origin

OWN = {"https://airflow.example.org", "http://127.0.0.1:8080"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Airflow.example.org/below/hpc", "https://airflow.example.org"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_written_as_browsers_do(url: str, expected: str) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin", "origin": "https://airflow.example.org"},
        {"origin": "https://airflow.example.org"},
        {"origin": "HTTP://127.0.0.1:8080"},
    ],
)
def test_our_own_page_is_let_in(headers: dict[str, str]) -> None:
    assert is_same_origin(headers, OWN)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": ""},
        {"origin": "null"},
        {"origin": "https://evil.example.com"},
        {"origin": "http://airflow.example.org"},
        {"origin": "https://airflow.example.org.evil.example.com"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site", "origin": "https://airflow.example.org"},
    ],
)
def test_every_other_page_is_not(headers: dict[str, str]) -> None:
    assert not is_same_origin(headers, OWN)
