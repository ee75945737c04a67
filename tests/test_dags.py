"""The DAG files as Airflow reads them: every simulation a DAG, a wrong one an import error of its own."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseSensorOperator

from hpc import PROJECT_ROOT

READ = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
errors = dict(bag.import_errors)
for dag in bag.dags.values():
    try:
        DagSerialization.to_dict(dag)
    except Exception as error:  # Airflow stops the whole file then
        errors[dag.fileloc] = str(error)
print(json.dumps({"dags": sorted(bag.dags), "errors": errors}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what is deployed into an Airflow."""
    for folder in ("plugins", "dags", "config", "include"):
        shutil.copytree(PROJECT_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def read(project: Path) -> dict[str, Any]:
    """Return the DAG ids and the import errors by file."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "AIRFLOW_HOME": str(project / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "PYTHONPATH": str(project / "plugins"),
    }
    command = [sys.executable, "-c", READ, str(project / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_every_simulation_is_a_dag(project: Path) -> None:
    found = read(project)
    assert found["errors"] == {}
    assert {"lj_melt", "cylinder_flow", "ising_2d", "example_by_hand"} <= set(found["dags"])


def test_a_task_reads_only_its_own_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "ising_2d")  # Airflow's own context manager leaves it behind
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "run_job")
    made = runpy.run_path(str(PROJECT_ROOT / "dags" / "simulations.py"))
    assert [name for name, value in made.items() if isinstance(value, DAG)] == ["dag", "ising_2d"]


def test_a_wrong_file_stops_its_own_dag_alone_and_says_what_is_wrong(project: Path) -> None:
    melt = project / "config" / "simulations" / "lj_melt.yaml"
    melt.write_text(melt.read_text().replace("  nodes: 2\n", "  nodes: none\n"))
    folder = project / "config" / "simulations"
    (folder / "torn.yaml").write_text("name: [torn")
    (folder / "early.yaml").write_text(
        (folder / "ising_2d.yaml").read_text().replace("name: ising_2d\n", "name: early\n")
        + "schedule: {cron: '@daily', start: 0001-01-01, timezone: Asia/Tokyo}\n"
    )
    (folder / "strange.yaml").write_text(
        (folder / "ising_2d.yaml").read_text().replace("name: ising_2d\n", "name: strange\n")
        + "schedule: {timetable: strangers.Hourly, timetable_args: ['@hourly'], timetable_kwargs: {timezone: UTC}}\n"
    )
    (project / "plugins" / "strangers.py").write_text(
        "from airflow.sdk import CronTriggerTimetable\n\nclass Hourly(CronTriggerTimetable):\n    pass\n"
    )
    found = read(project)
    assert {"cylinder_flow", "ising_2d"} <= set(found["dags"])
    assert not {"lj_melt", "torn", "early", "strange"} & set(found["dags"])
    (file,) = found["errors"]
    assert file.endswith("check_simulations.py")
    said = found["errors"][file]
    assert "config/simulations/lj_melt.yaml: resources.nodes = 'none': Input should be a valid integer" in said
    assert "config/simulations/torn.yaml: line 1, column 12: not YAML" in said
    assert "config/simulations/early.yaml: cannot become a DAG: OverflowError" in said
    assert "config/simulations/strange.yaml: schedule: timetable strangers.Hourly cannot be stored by Airflow" in said
    assert "What to do" in said


def test_the_example_written_by_hand_fails_with_its_work_and_with_its_deletion() -> None:
    dag = runpy.run_path(str(PROJECT_ROOT / "dags" / "example_by_hand.py"))["dag"]
    assert dag.get_task("delete").on_failure_fail_dagrun
    work_ends_in = [task for task in dag.tasks if not task.downstream_task_ids and not task.is_teardown]
    assert [task.task_id for task in work_ends_in] == ["done"]
    before = dag.get_task("done").upstream_task_ids
    assert before == {"wait_for_empty_queue", "watch_alarms"} < dag.get_task("delete").upstream_task_ids


def test_the_example_written_by_hand_shows_the_sensors() -> None:
    dag = runpy.run_path(str(PROJECT_ROOT / "dags" / "example_by_hand.py"))["dag"]
    sensors = {type(task).__name__ for task in dag.tasks if isinstance(task, BaseSensorOperator)}
    assert sensors == {"ParallelClusterSensor", "CloudWatchAlarmSensor", "SlurmQueueEmptySensor"}
