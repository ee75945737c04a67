import fcntl
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.lifecycle import build_dag
from tests.local_aws.test_region import processes_of
from workshop import ROOT, demo


def test_a_second_demo_in_the_same_checkout_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="A demo is running in"), demo.only_one(tmp_path):
            pass

    with demo.only_one(tmp_path):
        pass


def test_the_lock_of_a_killed_demo_is_forgotten(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from workshop import demo\n"
        f"with demo.only_one(Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL

    with demo.only_one(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_once(number: signal.Signals) -> None:
    code = (
        "import os, signal, sys; from workshop import demo\n"
        f"signal.signal({number}, demo.interrupt)\n"
        "try:\n"
        f"    os.kill(os.getpid(), {number})\n"
        "except KeyboardInterrupt:\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    print('stopped')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "stopped\n")


@pytest.mark.airflow
@pytest.mark.region
@pytest.mark.slurm
@pytest.mark.pcluster
@pytest.mark.timeout(600)
def test_the_demo_ends_with_a_report_and_nothing_left(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert demo.run_demo("ising_2d", tmp_path, limit=400, keep=False) == 0

    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report) == {"dag_run", "tasks", "results", "pictures", "receipt", "leftovers", "timings"}
    assert report["dag_run"] == {"dag_id": "ising_2d", "id": report["dag_run"]["id"], "state": "success"}
    steps = {
        task_id.rpartition(".")[2] for task_id in build_dag(load_simulation(SIMULATIONS_DIR / "ising_2d.yaml")).task_ids
    }
    assert {task["task_id"] for task in report["tasks"]} == steps
    assert {task["state"] for task in report["tasks"]} == {"success"}
    assert all(0 < task["seconds"] < 300 for task in report["tasks"])
    assert report["leftovers"] == []
    assert {"run", "stop", "all", "set-up"} <= set(report["timings"])

    receipt = json.loads((tmp_path / "results" / "receipt.json").read_text())
    sizes = [file["size"] for file in receipt["files"]]
    assert report["receipt"]["verified"] is True
    assert (report["receipt"]["files"], report["receipt"]["bytes"]) == (len(sizes), sum(sizes))
    assert report["receipt"]["uri"].endswith("/receipt.json")
    page = (tmp_path / "results" / "receipt.html").read_text()
    assert all(file["sha256"] in page for file in receipt["files"])
    assert len(report["results"]) == len(sizes) > 0
    assert report["pictures"]
    for uri in report["pictures"]:
        assert (tmp_path / "results" / Path(uri).name).read_bytes().startswith(b"\x89PNG")

    told = capfd.readouterr().out
    assert f"The demo succeeded: {len(steps)} tasks, nothing is left." in told
    assert f"{len(steps)}/{len(steps)}" in told
    assert processes_of(tmp_path) == []
