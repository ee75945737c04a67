"""A whole, real Airflow that loses all its processes, or its scheduler, and in which a person ends and clears tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from airflow_client.client import ApiClient, TaskInstanceApi
from airflow_client.client.models.clear_task_instances_body import ClearTaskInstancesBody
from airflow_client.client.models.patch_task_instance_body import PatchTaskInstanceBody

from chaos.plan import Kind, Plan
from chaos.verdict import violations
from chaos.whole_airflow import DAG_ID, WholeAirflow, open_whole_airflow, outcome_of, until
from hpc.slurm.identity import job_token
from workshop import rest

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

FOLDER = "/fsx/runs/steered"
pytestmark = [
    *(pytest.mark.airflow, pytest.mark.slurm, pytest.mark.timeout(400)),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole(region: LocalRegion, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeAirflow]:
    """Start it once: its power is lost in the first test anyway."""
    async with open_whole_airflow(region, tmp_path_factory.mktemp("whole")) as whole:
        yield whole


@pytest.mark.parametrize("seed", [0, 1], ids=["all processes", "the scheduler"])
async def test_a_loss_of_processes_doubles_and_loses_no_job(whole: WholeAirflow, seed: int) -> None:
    report = await whole.live(replace(Plan.of_whole_airflow(seed), delay=1.5, times=2))
    assert report.found == []
    assert report.hits == 2


async def test_a_person_ends_the_jobs_of_a_task_and_no_others_and_a_restart_none(whole: WholeAirflow) -> None:
    steered = Steered(whole, rest.trigger(whole.server.client(), DAG_ID, {"folder": FOLDER, "seconds": 300}))
    by_hand = await whole.head_node.run("sbatch --parsable --wrap='sleep 600'")
    await steered.are("triggerer", "RUNNING")
    await steered.are("worker", "RUNNING")

    await steered.waits()
    steered.mark_failed("triggerer")
    await steered.are("triggerer", "CANCELLED")
    for before in (["CANCELLED"], ["CANCELLED", "CANCELLED"]):
        steered.clear("triggerer")
        await steered.are("triggerer", *before, "RUNNING")
        await steered.waits()
    assert await steered.states("worker") == ["RUNNING"]
    steered.mark_failed("worker")
    await steered.are("worker", "CANCELLED")

    # A deploy: all components end by SIGTERM, and start again.
    await asyncio.to_thread(whole.server.stop)
    await asyncio.to_thread(whole.server.start)
    await asyncio.to_thread(whole.server.wait_until_ready, [DAG_ID])
    await steered.waits()
    assert await steered.states("triggerer") == ["CANCELLED", "CANCELLED", "RUNNING"]
    assert await whole.head_node.run(f"squeue --noheader --format=%T --job={by_hand}") == "RUNNING\n"

    await whole.head_node.run(f"touch {FOLDER}/triggerer/go")
    await steered.until(lambda: rest.run_state(steered.client, DAG_ID, steered.run_id) == "failed")
    outcome = outcome_of(steered.client, steered.run_id, "triggerer")
    evidence = await whole.head_node.evidence(steered.token("triggerer"), f"{FOLDER}/triggerer")
    assert outcome.returned
    assert outcome.returned["attempt"] == 3
    # Each attempt recorded its end, and none began before that of the one before.
    assert ["end" in evidence.records[number] for number in (1, 2, 3)] == [True, True, True]
    assert violations(Kind.GOOD, evidence, outcome) == []


class Steered:
    """A run of the DAG, and what a person does to its tasks."""

    def __init__(self, whole: WholeAirflow, run_id: str) -> None:
        self.whole = whole
        self.run_id = run_id

    @property
    def client(self) -> ApiClient:
        return self.whole.server.client()

    def token(self, task_id: str) -> str:
        return job_token(DAG_ID, self.run_id, task_id, -1)

    def mark_failed(self, task_id: str) -> None:
        body = PatchTaskInstanceBody(new_state="failed")
        TaskInstanceApi(self.client).patch_task_instance(DAG_ID, self.run_id, task_id, body)

    def clear(self, task_id: str) -> None:
        asked = {"dry_run": False, "dag_run_id": self.run_id, "task_ids": [task_id], "only_failed": False}
        TaskInstanceApi(self.client).post_clear_task_instances(DAG_ID, ClearTaskInstancesBody.from_dict(asked))

    async def states(self, task_id: str) -> list[str]:
        """Return the states of the jobs of a task's attempts, in their order."""
        return [job.state for job in sorted(await self.whole.head_node.queue(self.token(task_id)))]

    async def are(self, task_id: str, *states: str) -> None:
        """Return when they are these."""
        end = time.monotonic() + 90
        while (seen := await self.states(task_id)) != list(states):
            assert time.monotonic() < end, f"the jobs of {task_id} are {seen}, not {list(states)}"
            await asyncio.sleep(0.2)

    async def waits(self) -> None:
        """Return when the one task is deferred."""
        await self.until(
            lambda: (
                ("triggerer", "deferred")
                in {(task.task_id, task.state) for task in rest.task_progress(self.client, DAG_ID, self.run_id, [])}
            )
        )

    async def until(self, condition: Callable[[], object]) -> None:
        await asyncio.to_thread(until, condition, 90)
