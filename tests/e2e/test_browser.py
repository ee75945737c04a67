"""A person at the web UI: logs in, triggers a run from the form, watches it turn green, reads a log, opens a link."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow_client.client.api.dag_run_api import DagRunApi
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.test_rest import until
from workshop import rest

if TYPE_CHECKING:
    from tests.e2e.conftest import RunningAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.browser, pytest.mark.timeout(600)]

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 30_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture
def page(airflow: RunningAirflow) -> Iterator[Page]:
    """A logged-in page of a real Chromium."""
    assert CHROMIUM.exists(), "Chromium is not installed: run `make test`, or as root `apt-get install chromium`"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        context = browser.new_context(viewport={"width": 1600, "height": 1000}, color_scheme="light")
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)  # which the page's own does not reach
        log_in(page, airflow)
        yield page
        browser.close()


def log_in(page: Page, airflow: RunningAirflow) -> None:
    page.goto(f"{airflow.url}/auth/login")
    page.get_by_label("Username").fill(airflow.user)
    page.get_by_label("Password").fill(airflow.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(re.compile(rf"^{re.escape(airflow.url)}/(?!auth)"))


def graph(page: Page) -> dict[str, tuple[str, list[int]]]:
    """Read state and colour (red, green, blue) of every task and group from the graph that the page shows now."""
    badges: dict[str, tuple[str, str]] = page.locator(".react-flow__node-task").evaluate_all(
        """nodes => Object.fromEntries(nodes.map(node => {
            const badge = node.querySelector("[data-testid=state-badge]");
            return [node.dataset.id, badge ? [badge.textContent, getComputedStyle(badge).backgroundColor] : ["", ""]];
        }))"""
    )
    return {
        task: (state.lower(), [int(n) for n in re.findall(r"\d+", colour)[:3]])
        for task, (state, colour) in badges.items()
    }


def watch_until_all_ended(page: Page) -> dict[str, list[str]]:
    """Look at the graph until no task goes on; return the states that each task was seen in."""
    seen: dict[str, list[str]] = {}

    def ended() -> bool:
        for task, (state, _) in graph(page).items():
            if state not in seen.setdefault(task, [])[-1:]:
                seen[task].append(state)
        return all(states[-1] in {"success", "skipped"} or "failed" in states[-1] for states in seen.values())

    until(ended, "end of all tasks in the graph", 420)
    return seen


def follow(page: Page, name: str) -> Page:
    """Click a task's link, and return the page that opens."""
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=name, exact=True).click()
    other: Page = opened.value
    other.wait_for_load_state()
    return other


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

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}")
    page.get_by_role("button", name=re.compile("Show Graph")).click()
    page.get_by_role("button", name=re.compile("Expand all task groups")).click()
    steps_in_order = rest.task_order(client, "lj_melt")
    for step in steps_in_order:
        expect(page.locator(f".react-flow__node-task[data-id={step}]")).to_be_visible()
    assert {state for state, _ in graph(page).values()} != {"success"}, "the run was over before anybody looked"
    seen = watch_until_all_ended(page)
    page.screenshot(path=screenshots / "graph.png")
    assert set(steps_in_order) <= set(seen)
    assert {task: states[-1] for task, states in seen.items()} == dict.fromkeys(seen, "success")
    assert {"running", "deferred"} <= {state for states in seen.values() for state in states}
    for task, (_, (red, green, blue)) in graph(page).items():
        assert green > max(red, blue), f"{task} is not green"

    page.get_by_role("button", name=re.compile("Show Grid")).click()
    until(lambda: rest.run_state(client, "lj_melt", run_id) == "success", "success of the run")
    page.reload()
    expect(page.get_by_text("Success", exact=True)).to_have_count(1 + len(steps_in_order))  # the run's and the tasks'
    for step in steps_in_order:
        expect(page.get_by_text(step, exact=True).first).to_be_visible()
    page.screenshot(path=screenshots / "run.png")

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}/tasks/run_job")
    expect(page.get_by_text("Total wall time").first).to_be_visible()
    page.screenshot(path=screenshots / "job_log.png")

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}/tasks/export_pictures/details")
    expect(page.get_by_role("link", name="Pictures", exact=True)).to_be_visible()
    page.screenshot(path=screenshots / "links.png")
    gallery = follow(page, "Pictures")
    picture = gallery.locator("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.naturalWidth") > 300
    gallery.screenshot(path=screenshots / "gallery.png")

    page.goto(f"{airflow.url}/dags/lj_melt/runs/{run_id}/tasks/export_results/details")
    receipt = follow(page, "Receipt")
    expect(receipt.get_by_text(re.compile("every one of them with the SHA-256"))).to_be_visible()
    expect(receipt.get_by_role("link", name="thermo.csv")).to_have_attribute("href", "./thermo.csv")
    receipt.screenshot(path=screenshots / "receipt.png")
