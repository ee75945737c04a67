"""A task's process that creates a cluster, to be killed: `python -m tests.cluster.creating NAME CONFIG_FILE`.

Says what it created, and then stays until its standard input ends: the task has not told Airflow yet.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from hpc.cluster.operators import ParallelClusterCreateOperator

from .conftest import TaskInstance


def main(name: str, config: Path) -> None:
    """Create, say what, and stay."""
    create = ParallelClusterCreateOperator(
        task_id="create_cluster", cluster_name=name, cluster_config=config.read_text(), wait_for_completion=False
    )
    created = create.execute(cast("Any", {"ti": TaskInstance()}))
    print(json.dumps(created), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
