"""Which processes are ParallelCluster's, and when they ran."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from benchmarks.processes import PAUSE, PclusterWatch, cluster_of


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/e/bin/python", "/e/bin/pcluster", "create-cluster", "--cluster-name", "a-1", "--dryrun", "true"], "a-1"),
        (["setpriv", "--pdeathsig", "KILL", "--", "/e/bin/pcluster", "delete-cluster", "--cluster-name", "b"], "b"),
        (["/e/bin/python", "-I", "/p/check_schema.py", "c-2"], "c-2"),
        (["/usr/bin/python", "-m", "benchmarks.lifecycle"], None),
        ([""], None),
    ],
)
def test_a_command_line_tells_the_cluster(command: list[str], name: str | None) -> None:
    assert cluster_of(command) == name


def test_a_process_that_ran_is_seen_from_its_start_to_its_end(tmp_path: Path) -> None:
    command = tmp_path / "bin" / "pcluster"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nread line\n")
    command.chmod(0o755)
    with PclusterWatch() as watch:
        began = time.time()
        process = subprocess.Popen(
            ["/bin/sh", command, "describe-cluster", "--cluster-name", "seen"], stdin=subprocess.PIPE
        )
        time.sleep(3 * PAUSE)  # what is measured is time
        process.communicate(b"\n")
        ended = time.time()
        while not watch.of_cluster("seen"):
            assert time.time() < ended + 10
            time.sleep(PAUSE)
    (found,) = watch.of_cluster("seen")
    assert abs(found.begin - began) < 0.1
    assert abs(found.end - ended) < 3 * PAUSE
