"""The export on a head node of the local region, found through EC2, with its S3."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from hpc.head_node.address import find_head_node
from hpc.head_node.session import Session, run_session
from hpc.results.operators import ResultsToS3Operator
from hpc.results.receipt import require_verified
from hpc.slurm.operators import SlurmJobOperator
from hpc.slurm.sensors import SlurmAllocationSensor
from tests.results.conftest import TaskInstance
from tests.slurm.conftest import on_head_node

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.region, pytest.mark.slurm]


def test_results_leave_the_cluster(region: LocalRegion, connections: None) -> None:
    region.start_cluster("exporting", nodes=1, cpus=1)
    try:
        address = find_head_node("exporting")

        async def compute(session: Session) -> None:
            await session.write("/fsx/run/job.out", b"it ran\n")
            await session.write("/fsx/run/frames/0001.png", b"\x89PNG")

        run_session(address, "hpc_head_node", compute)
        operator = ResultsToS3Operator(
            task_id="export_results",
            cluster_name="exporting",
            directory="/fsx/run",
            patterns=["**"],
            bucket=region.bucket,
            prefix="sim/exporting",
            deferrable=False,
        )
        context: Any = {"ti": TaskInstance()}
        returned = operator.execute(context)
        assert (returned["files"], returned["verified"]) == (2, True)
        receipt = require_verified(region.client("s3"), returned["receipt_uri"])
        assert [file.path for file in receipt.files] == ["frames/0001.png", "job.out"]
    finally:
        region.stop_cluster("exporting")


def test_a_job_that_still_lives_after_its_task_has_failed_is_ended_first(
    region: LocalRegion, connections: None, tmp_path: Path
) -> None:
    region.start_cluster("still-writing", nodes=1, cpus=1)
    try:
        script = tmp_path / "job.sh"
        script.write_text("#!/bin/bash\nwhile :; do date >>written; sleep 0.1; done\n")
        submit = SlurmJobOperator(
            task_id="submit_job",
            cluster_name="still-writing",
            job_script=script,
            directory="/fsx/run",
            wait_for_completion=False,
        )
        states = {"run_job": "failed"}
        ti = TaskInstance(states=states)
        job = submit.execute({"ti": SimpleNamespace(**vars(ti), task_id="submit_job")})  # type: ignore[typeddict-item]
        SlurmAllocationSensor(
            task_id="wait", cluster_name="still-writing", job=job, deferrable=False, waiter_delay=1
        ).execute({})
        export = ResultsToS3Operator(
            task_id="export_results",
            cluster_name="still-writing",
            directory="/fsx/run",
            patterns=["written"],
            written_by="run_job",
            jobs_of="submit_job",
            bucket=region.bucket,
            prefix="sim/still-writing",
            deferrable=False,
        )
        context: Any = {"ti": ti}
        assert export.execute(context)["files"] == 1
        assert on_head_node(find_head_node("still-writing"), "squeue --noheader") == ""
    finally:
        region.stop_cluster("still-writing")
