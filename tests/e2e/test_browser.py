"""A person at the web UI: logs in, triggers a run from the form, watches it turn green, reads a log, opens a link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow_client.client.api.dag_run_api import DagRunApi
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.test_rest import finished, until

if TYPE_CHECKING:
    from tests.e2e.conftest import RunningAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.browser, pytest.mark.timeout(600)]

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def page(airflow: RunningAirflow) -> Iterator[Page]:
    """A logged-in page of a real Chromium."""
    assert CHROMIUM.exists(), "Chromium is not installed: run `make test`, or as root `apt-get install chromium`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        context = browser.new_context(viewport={"width": 1600, "height": 1000}, color_scheme="light")
        page = context.new_page()
        page.set_default_timeout(30_000)
        log_in(page, airflow)
        yield page
        browser.close()


def log_in(page: Page, airflow: RunningAirflow) -> None:
    page.goto(f"{airflow.url}/auth/login")
    page.get_by_label("Username").fill(airflow.user)
    page.get_by_label("Password").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(rf"^{re.escape(airflow.url)}/(?!auth)"))


def test_a_person_triggers_a_run_and_reads_what_it_did(page: Page, airflow: RunningAirflow, screenshots: Path) -> None:
    client = airflow.client

    def runs() -> set[str]:
        return {run.dag_run_id for run in DagRunApi(client).get_dag_runs("lj_melt", limit=100).dag_runs}

    known = runs()

    page.goto(f"{airflow.url}/dags")
    expect(page.get_by_role("link", name="lj_melt", exact=True).first).to_be_visible()
    page.screenshot(path=screenshots / "dags.png")

    page.goto(f"{airflow.url}/dags/lj_melt")
    page.get_by_role("button", name=re.compile("Trigger")).first.click()
    steps = page.locator("[name='element_steps']")
    expect(steps).to_be_visible()
    steps.fill("200")
    page.screenshot(path=screenshots / "trigger_form.png")
    page.get_by_role("dialog").get_by_role("button", name="Trigger").click()
    run_id = until(lambda: runs() - known, "run").pop()

    states = finished(airflow, "lj_melt", run_id)
    assert set(states.values()) == {"success"}, states

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}")
    for step in ("create_cluster", "run_job", "export_results", "delete_cluster"):
        expect(page.get_by_text(step).first).to_be_visible()
    page.screenshot(path=screenshots / "run.png")

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}/tasks/run_job")
    expect(page.get_by_text("Total wall time").first).to_be_visible()
    page.screenshot(path=screenshots / "job_log.png")

    page.get_by_role("button", name=re.compile("Show Graph")).click()
    page.get_by_role("button", name=re.compile("Expand all task groups")).click()
    for step in ("create_cluster", "run_job", "export_results", "delete_cluster"):
        expect(page.locator(".react-flow").get_by_text(step, exact=True)).to_be_visible()
    page.screenshot(path=screenshots / "graph.png")

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}/tasks/export_pictures/details")
    link = page.get_by_role("link", name="Pictures", exact=True)
    expect(link).to_be_visible()
    page.screenshot(path=screenshots / "links.png")
    with page.context.expect_page() as opened:
        link.click()
    gallery = opened.value
    gallery.wait_for_load_state()
    picture = gallery.locator("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300
    gallery.screenshot(path=screenshots / "gallery.png")
