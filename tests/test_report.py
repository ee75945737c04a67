"""The page before a run and the summary after it."""

from __future__ import annotations

from typing import Any

import pytest

from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.errors import RunFailedError
from hpc.report import RunReportOperator, describe_simulation, summarize

RETURNED: dict[str, Any] = {
    "run_job": {"job_id": 1, "state": "COMPLETED", "node_list": "compute-dy-c5large-[1-2]", "seconds": 9},
    "export_results": {"uri": "s3://results/melt/", "files": 3, "bytes": 4096, "verified": True},
    "delete_cluster": {"leftovers": []},
}
WELL = {"run_job": "success", "export_results": "success", "delete_cluster": "success"}


class Instance:
    """What the operator asks of its task instance."""

    dag_id, run_id = "dag", "run"

    def __init__(self, states: dict[str, str | None]) -> None:
        self.states = states

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return {"run": {**self.states, "report": "running"}}

    def xcom_pull(self, task_ids: str) -> Any:
        return RETURNED.get(task_ids)


def run(states: dict[str, str | None], told: list[str] | None = None) -> dict[str, Any]:
    context: Any = {"ti": Instance(states)}

    def tell(_context: Any, event: str, text: str) -> None:
        if told is not None:
            told.append(f"{event}: {text}")

    return RunReportOperator(task_id="report", cluster_name="melt-1", tell=tell).execute(context)


def test_the_page_of_a_simulation_tells_its_facts() -> None:
    page = describe_simulation(load_simulation(SIMULATIONS_DIR / "lj_melt.yaml"))
    for fact in ("2 node(s)", "config/simulations/lj_melt.yaml", "delete_cluster", "with a receipt that is verified"):
        assert fact in page


def test_the_page_of_a_sweep_tells_its_points() -> None:
    page = describe_simulation(load_simulation(SIMULATIONS_DIR / "ising_sweep.yaml"))
    assert "| Sweep | 100 points, 50 at a time, 5% of which may fail |" in page


def test_the_summary_tells_results_and_deletion() -> None:
    lines = summarize(RETURNED, WELL, "melt-1")
    assert "Results    s3://results/melt/: 3 files, 4096 bytes, verified" in lines
    assert "Deletion   proven; left: nothing" in lines
    assert lines[-1] == "Failed     nothing"


def test_the_summary_tells_what_was_left_out_right_below_what_was_saved() -> None:
    links = [{"path": "latest\nfake", "reason": "a link that leads out of the folder"}] * 5
    saved = {**RETURNED["export_results"], "receipt_uri": "s3://results/melt/receipt.json", "left_out_first": links}
    lines = summarize({**RETURNED, "export_results": {**saved, "left_out": 7}}, WELL, "melt-1")
    said = lines[lines.index("Results    s3://results/melt/: 3 files, 4096 bytes, verified") + 1]
    assert said.startswith("Left out   7 NOT saved: 'latest\\nfake' is a link that leads out of the folder, ")
    assert said.endswith(" and 2 more; all are listed in s3://results/melt/receipt.json")
    whole = summarize({**RETURNED, "export_results": {**saved, "left_out": 5}}, WELL, "melt-1")
    assert "more;" not in "\n".join(whole)


def test_the_pictures_tell_what_was_left_out_as_well() -> None:
    link = {"path": "last.png", "reason": "a link that leads nowhere"}
    pictures = {"left_out": 1, "left_out_first": [link], "receipt_uri": "s3://results/melt/pictures/receipt.json"}
    lines = summarize({**RETURNED, "export_pictures": pictures}, WELL, "melt-1")
    said = "1 NOT saved: 'last.png' is a link that leads nowhere; all are listed in s3://results/melt/pictures/receipt.json"
    assert f"Left out   {said}" in lines


@pytest.mark.parametrize("saved", [{}, {"left_out": 0, "left_out_first": []}])
def test_of_an_export_that_left_nothing_out_there_is_no_such_line(saved: dict[str, Any]) -> None:
    lines = summarize({**RETURNED, "export_results": {**RETURNED["export_results"], **saved}}, WELL, "melt-1")
    assert not [line for line in lines if line.startswith("Left out")]


@pytest.mark.parametrize(
    ("deletion", "said"),
    [
        (
            {"stack": "shared", "held_by": ["run b of melt"]},
            "not yet: the cluster is shared, and held by run b of melt",
        ),
        ({"stack": "deleting", "by": "run b of melt"}, "of the shared cluster is done, and proven, by run b of melt"),
        ({"stack": "none", "leftovers": []}, "not needed: the run never joined its pool"),
    ],
)
def test_the_summary_tells_what_becomes_of_a_shared_cluster(deletion: dict[str, Any], said: str) -> None:
    assert f"Deletion   {said}" in summarize({**RETURNED, "delete_cluster": deletion}, WELL, "pool-mesh-1")


def test_the_summary_of_a_sweep_counts_its_points() -> None:
    swept = {"run_job": {"points": 100, "succeeded": 97, "failed_count": 3, "failed": {}, "tolerated": 5}}
    assert "Job        97 of 100 points computed, 3 failed" in summarize(swept, WELL, "melt-1")


def test_a_deletion_that_nobody_saw_is_not_called_proven() -> None:
    assert "Deletion   NOT proven" in "\n".join(summarize({}, {"delete_cluster": "failed"}, "melt-1"))


def test_a_good_run_is_a_success_of_which_nobody_is_told() -> None:
    told: list[str] = []
    assert run(dict(WELL), told)["summary"][0] == "Cluster    melt-1"
    assert told == []


@pytest.mark.parametrize("state", ["failed", "upstream_failed"])
def test_a_run_with_a_failed_task_fails(state: str) -> None:
    with pytest.raises(RunFailedError, match="What to do"):
        run({**WELL, "run_job": state})


def test_people_are_told_of_a_failed_run_before_its_last_task_has_ended() -> None:
    told: list[str] = []
    with pytest.raises(RunFailedError) as caught:
        run({**WELL, "delete_cluster": "failed"}, told)
    assert told == [f"the run FAILED: {caught.value}"]
