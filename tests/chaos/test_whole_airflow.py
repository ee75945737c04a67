"""A whole, real Airflow, whose power is lost twice in one run, and in which a person ends and clears waiting tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow_client.client import TaskInstanceApi
from airflow_client.client.models.clear_task_instances_body import ClearTaskInstancesBody
from airflow_client.client.models.patch_task_instance_body import PatchTaskInstanceBody

from chaos.plan import Plan
from chaos.whole_airflow import DAG_ID, WholeAirflow, open_whole_airflow, until
from hpc.slurm.identity import job_token
from workshop import rest

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.airflow, pytest.mark.slurm, pytest.mark.timeout(400)]


async def test_a_loss_of_power_doubles_and_loses_no_job(region: LocalRegion, tmp_path: Path) -> None:
    plan = replace(Plan.of_whole_airflow(1), delay=1.5, times=2)
    async with open_whole_airflow(region, tmp_path / "whole") as whole:
        report = await whole.live(plan)
    assert report.found == []
    assert report.hits == 2


async def test_a_person_ends_the_jobs_of_a_waiting_task_and_no_others(region: LocalRegion, tmp_path: Path) -> None:
    async with open_whole_airflow(region, tmp_path / "whole") as whole:
        client = whole.server.client()
        run_id = rest.trigger(client, DAG_ID, {"folder": "/fsx/runs/steered", "seconds": 20})
        tasks = TaskInstanceApi(client)

        async def attempts_end(*states: str) -> None:
            """Wait until the attempts of the deferred task are in these states, in their order."""
            token = job_token(DAG_ID, run_id, "triggerer", -1)
            async with asyncio.timeout(60):
                while [job.state for job in sorted(await whole.head_node.queue(token))] != list(states):  # noqa: ASYNC110
                    await asyncio.sleep(0.2)

        await waits(whole, run_id)
        await attempts_end("RUNNING")
        tasks.patch_task_instance(DAG_ID, run_id, "triggerer", PatchTaskInstanceBody(new_state="failed"))
        await attempts_end("CANCELLED")

        asked = {"dry_run": False, "dag_run_id": run_id, "task_ids": ["triggerer"], "only_failed": False}
        clear = ClearTaskInstancesBody.from_dict(asked)
        tasks.post_clear_task_instances(DAG_ID, clear)
        await waits(whole, run_id)
        await attempts_end("CANCELLED", "RUNNING")
        tasks.post_clear_task_instances(DAG_ID, clear)
        await attempts_end("CANCELLED", "CANCELLED", "RUNNING")

        await in_thread(lambda: rest.run_state(client, DAG_ID, run_id) in rest.FINISHED_RUN_STATES)
        ended = {place: rest.returned(client, DAG_ID, run_id, place) for place in ("triggerer", "worker")}
    # The job of the other task, which nobody touched, ran to its end.
    assert {place: (job["attempt"], job["result"]["exit_code"]) for place, job in ended.items()} == {
        "triggerer": (3, 0),
        "worker": (1, 0),
    }


async def waits(whole: WholeAirflow, run_id: str) -> None:
    client = whole.server.client()
    await in_thread(
        lambda: any(
            (task.task_id, task.state) == ("triggerer", "deferred")
            for task in rest.task_progress(client, DAG_ID, run_id, [])
        )
    )


async def in_thread(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(until, condition, 90)
