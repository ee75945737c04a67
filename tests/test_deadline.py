"""The alert about a late run, called as Airflow's triggerer does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.api_fastapi.core_api.datamodels.dag_run import DAGRunResponse

from hpc import deadline
from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.lifecycle import build_dag
from hpc.names import cluster_name

RUN_ID = "scheduled__2026-11-23T02:30:00+00:00"


def context_of_a_run(state: str = "running", started: datetime | None = None) -> dict[str, Any]:
    """What `handle_miss` of airflow/models/deadline.py makes of a run, with Airflow's own model."""
    unknown = dict.fromkeys(name for name in DAGRunResponse.model_fields if name not in ("dag_run_id", "dag_versions"))
    run = DAGRunResponse.model_validate(
        {
            **unknown,
            "dag_id": "lj_melt",
            "run_id": RUN_ID,
            "run_type": "scheduled",
            "state": state,
            "start_date": started,
            "run_after": "2026-11-23T02:30:00Z",
            "dag_versions": [],
            "dag_model": {"dag_display_name": "lj_melt"},
        }
    )
    return {
        "dag_run": run.model_dump(mode="json"),
        "deadline": {"id": "018f", "deadline_time": "2026-11-23T04:30:00Z"},
    }


async def alert(context: dict[str, Any], caplog: pytest.LogCaptureFixture) -> str:
    """Build the callback of a DAG, call it with what Airflow adds, and return what it said."""
    (wanted,) = build_dag(load_simulation(SIMULATIONS_DIR / "lj_melt.yaml")).deadline
    assert wanted.interval == timedelta(hours=2)
    assert wanted.callback.path == f"{deadline.__name__}.{deadline.alert.__name__}"
    with caplog.at_level("ERROR", logger=deadline.__name__):
        await deadline.alert(**wanted.callback.kwargs, context=context)
    return caplog.text


async def test_a_late_run_is_named_with_its_cluster_and_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    said = await alert(context_of_a_run(), caplog)
    assert f"Run {RUN_ID} of lj_melt is not finished after its deadline of 2h 00m" in said
    assert f"Its cluster {cluster_name('lj_melt', RUN_ID)} may still be there and cost money" in said
    assert "What to do: look at the run's tasks" in said


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (None, deadline.AFTERWARDS),
        (timedelta(hours=2, minutes=1), deadline.AFTERWARDS),
        (timedelta(hours=1), "It has started later, or anew when somebody cleared it, and goes on until "),
    ],
)
async def test_people_are_told_what_happens_now(
    ago: timedelta | None, words: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(deadline.Teller, "tell", lambda _, *what: told.append(what))
    await alert(context_of_a_run(started=ago and datetime.now(UTC) - ago), caplog)
    ((_, event, afterwards),) = told
    assert (event, afterwards.startswith(words)) == ("it is not finished after its deadline of 2h 00m", True)


@pytest.mark.parametrize("state", ["failed", "success"])
async def test_a_run_that_has_ended_before_its_deadline_is_not_late(
    state: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3.3 forgets the deadline of a run that has succeeded, and not of one that has failed."""
    monkeypatch.setattr(deadline.Teller, "tell", lambda *_: pytest.fail("people were told"))
    assert await alert(context_of_a_run(state), caplog) == ""
