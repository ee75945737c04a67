"""The Airflow that demo, `make up` and the end-to-end tests run on: a real one, with a DAG of two tasks."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workshop import ROOT, processes, rest
from workshop.airflow import AirflowDownError, LocalAirflow, component_environment

DAG = """\
from airflow.sdk import dag, task

@dag(schedule=None)
def tiny():
    @task
    def first():
        return {"leftovers": []}

    @task
    def second(told):
        print("it was told", told)

    second(first())

tiny()

@dag(schedule=None)
def broken():
    @task
    def fails():
        raise ValueError("told nothing")

    fails()

broken()
"""


def new_airflow(directory: Path) -> LocalAirflow:
    for name in ("dags", "plugins"):
        (directory / name).mkdir(exist_ok=True)
    (directory / "dags" / "tiny.py").write_text(DAG)
    return LocalAirflow(directory / "airflow", dags=directory / "dags", plugins=directory / "plugins")


def test_no_profile_or_key_of_the_person_at_the_keyboard_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AWS_CA_BUNDLE", "/etc/ssl/ca.pem")
    environment = new_airflow(tmp_path).environment

    assert {"AWS_PROFILE", "AWS_ACCESS_KEY_ID"}.isdisjoint(environment)
    assert environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert environment["AWS_CA_BUNDLE"] == "/etc/ssl/ca.pem"


def test_a_restart_keeps_port_password_and_keys(tmp_path: Path) -> None:
    first = new_airflow(tmp_path)

    assert new_airflow(tmp_path).access == first.access
    assert (tmp_path / "airflow" / "access.json").stat().st_mode & 0o777 == 0o600


def test_two_airflows_have_nothing_in_common(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = new_airflow(tmp_path), new_airflow(tmp_path / "other")

    assert one.access.port != other.access.port
    assert one.access.password != other.access.password
    names = ("AIRFLOW_HOME", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__API__PORT")
    assert all(one.environment[name] != other.environment[name] for name in names)
    assert component_environment(one.directory, one.access, ROOT, ROOT)["AIRFLOW_HOME"] == str(one.directory)


@pytest.mark.airflow
def test_a_run_from_start_to_stop_and_again_after_the_starter_was_killed(tmp_path: Path) -> None:
    starter = (
        "import os; from pathlib import Path; from workshop.airflow import LocalAirflow\n"
        f"d = Path({str(tmp_path)!r}); LocalAirflow(d / 'airflow', dags=d / 'dags', plugins=d / 'plugins').start()\n"
        "os.kill(os.getpid(), 9)"
    )
    airflow = new_airflow(tmp_path)
    subprocess.run([sys.executable, "-c", starter], cwd=ROOT, check=False)
    try:
        assert processes.is_running("airflow", airflow.directory)
        airflow.start()
        airflow.wait_until_ready(["tiny", "broken"])
        client = airflow.client()
        rest.set_variable(client, "hpc_site", {"region": "us-east-1"})
        rest.set_variable(client, "hpc_site", {"region": "eu-west-1"})
        rest.set_connection(client, "aws_default", {"conn_type": "aws", "login": "a"})
        rest.set_connection(client, "aws_default", {"conn_type": "aws", "login": "b"})

        order = rest.task_order(client, "tiny")
        run_id = rest.trigger(client, "tiny")
        state = follow(client, run_id, "tiny")
        tasks = rest.task_progress(client, "tiny", run_id, order)

        assert state == "success"
        assert [(task.task_id, task.state, task.try_number) for task in tasks] == [
            ("first", "success", 1),
            ("second", "success", 1),
        ]
        assert all(task.seconds is not None and task.seconds < 30 for task in tasks)
        assert rest.returned(client, "tiny", run_id, "first") == {"leftovers": []}
        assert rest.returned(client, "tiny", run_id, "second") is None
        assert "it was told {'leftovers': []}" in rest.task_log(client, "tiny", run_id, "second", 1)

        run_id = rest.trigger(client, "broken")
        assert follow(client, run_id, "broken") == "failed"
        (task,) = rest.task_progress(client, "broken", run_id, ["fails"])
        assert task.state == "failed"
        assert rest.task_error(client, "broken", run_id, task) == "ValueError: told nothing"
        assert rest.import_errors(client) == []
    finally:
        assert airflow.stop() == ["airflow"]
    with pytest.raises(AirflowDownError, match="Airflow ended by itself"):
        airflow.assert_running()
    assert rest.health(airflow.access.url) == {}


def follow(client: rest.ApiClient, run_id: str, dag_id: str) -> str:
    end = time.monotonic() + 120
    while (state := rest.run_state(client, dag_id, run_id)) not in rest.FINISHED_RUN_STATES:
        assert time.monotonic() < end, state
        time.sleep(0.1)
    return state
