"""The pages of the plugin, asked of Airflow's real API server."""

from __future__ import annotations

import re
import ssl
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from hpc.names import cluster_name

from .conftest import DAG, PASSWORD, RUN, ApiServer

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

PAGE = f"/hpc/dcv/{DAG}/{quote(RUN)}"
CLUSTER = cluster_name(DAG, RUN)
OURS = {"Sec-Fetch-Site": "same-origin"}


def test_people_who_are_not_logged_in_are_sent_to_the_log_in_and_back(api_server: ApiServer) -> None:
    with api_server.browser() as browser:
        for answer in (browser.get(PAGE), browser.post(PAGE, headers=OURS)):
            assert answer.status_code == 303
            to = urlsplit(answer.headers["location"])
            assert to.path == "/api/v2/auth/login"
            assert parse_qs(to.query)["next"] == [PAGE.replace("%3A", ":").replace("%2B", "+")]
        login = browser.get(answer.headers["location"])
        assert login.headers["location"].startswith("/auth/login?next=")


def test_a_forged_session_is_refused(api_server: ApiServer) -> None:
    with api_server.browser() as browser:
        browser.cookies["_token"] = "forged"
        answer = browser.get(PAGE)
    assert answer.status_code in {303, 403}
    assert CLUSTER not in answer.text


@pytest.mark.parametrize("role", ["viewer", "user", "admin"])
def test_the_page_names_the_cluster(api_server: ApiServer, role: str) -> None:
    with api_server.browser(role) as browser:
        answer = browser.get(PAGE)
    assert answer.status_code == 200
    assert f"<dd>{CLUSTER}</dd>" in answer.text
    assert '<form method="post">' in answer.text


def test_the_page_brings_its_own_fences(api_server: ApiServer) -> None:
    with api_server.browser("user") as browser:
        headers = browser.get(PAGE).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]


def test_who_may_only_look_opens_no_session(api_server: ApiServer) -> None:
    with api_server.browser("viewer") as browser:
        answer = browser.post(PAGE, headers=OURS)
    assert answer.status_code == 403
    assert "Forbidden" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_opens_no_session(api_server: ApiServer, headers: dict[str, str]) -> None:
    with api_server.browser("user") as browser:
        answer = browser.post(PAGE, headers=headers)
    assert answer.status_code == 403
    assert "does not come from Airflow" in answer.text


@pytest.mark.parametrize("hostile", ["<img src=x onerror=alert(1)>", '"><b>bold', "{{7*7}}", "'; rm -rf $HOME #"])
def test_hostile_ids_stay_text(api_server: ApiServer, hostile: str) -> None:
    with api_server.browser("user") as browser:
        answer = browser.get(f"/hpc/dcv/{quote(hostile, safe='')}/{quote(hostile, safe='')}")
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "<b>" not in answer.text
    assert ">49<" not in answer.text
    assert re.search(r"<dt>Cluster</dt><dd>[a-z][a-z0-9-]{0,59}</dd>", answer.text)


@pytest.mark.parametrize(
    "path", ["/hpc/", "/hpc/dcv", f"/hpc/dcv/{DAG}", f"{PAGE}/more", "/hpc/docs", "/hpc/openapi.json"]
)
def test_there_is_nothing_else(api_server: ApiServer, path: str) -> None:
    with api_server.browser("admin") as browser:
        answer = browser.get(path)
    assert answer.status_code == 404
    assert "<h1>Not here</h1>" in answer.text


@pytest.mark.region
@pytest.mark.pcluster
def test_without_a_cluster_the_page_says_why(api_server_of_region: ApiServer) -> None:
    with api_server_of_region.browser("user") as browser:
        answer = browser.post(f"/hpc/dcv/{DAG}/long_gone", headers=OURS)
    assert answer.status_code == 409
    assert "has to have one running head node; EC2 knows: none" in answer.text
    assert "What to do:" in answer.text
    assert "Try again" in answer.text


@pytest.mark.region
@pytest.mark.pcluster
@pytest.mark.usefixtures("parallelcluster")
def test_the_button_leads_to_a_session(api_server_of_region: ApiServer, region: LocalRegion, cluster: str) -> None:
    origin = {"Origin": api_server_of_region.url}
    with api_server_of_region.browser("user") as browser:
        answer = browser.post(PAGE, headers=origin)
    assert answer.status_code == 303, answer.text
    url = urlsplit(answer.headers["location"])
    assert url.scheme == "https"
    token = parse_qs(url.query)["authToken"][0]
    trusting = ssl._create_unverified_context()  # DCV's own certificate is self-signed
    with urllib.request.urlopen(answer.headers["location"].partition("#")[0], context=trusting) as session:
        assert b"local AWS region" in session.read()
    log = api_server_of_region.log.read_text()
    assert f"DCV session on cluster {cluster} for user" in log
    assert token not in log


@pytest.mark.region
@pytest.mark.pcluster
@pytest.mark.browser
@pytest.mark.usefixtures("parallelcluster", "cluster")
def test_a_person_logs_in_and_arrives_at_the_desktop(api_server_of_region: ApiServer) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = chromium.new_context(ignore_https_errors=True).new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"{api_server_of_region.url}{PAGE}")
        page.get_by_label("Username").fill("user")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Open the DCV session").click()
        page.get_by_text("local AWS region").wait_for(timeout=60_000)
        assert page.url.startswith("https://")
        page.go_back()
        assert page.get_by_role("button", name="Open the DCV session").is_enabled()
        assert not [line for line in said if "Content Security Policy" in line]
        chromium.close()
