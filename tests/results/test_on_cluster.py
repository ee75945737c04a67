"""The export on a head node of the local region, found through EC2, with its S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hpc.head_node.address import find_head_node
from hpc.head_node.session import Session, run_session
from hpc.results.operators import ResultsToS3Operator
from hpc.results.receipt import require_verified
from tests.results.conftest import TaskInstance

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
