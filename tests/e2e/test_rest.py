"""Used the way users use it: through Airflow's REST API, with its official client, on a running Airflow."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from airflow_client.client.api.dag_api import DAGApi
from airflow_client.client.api.dag_run_api import DagRunApi
from airflow_client.client.api.task_instance_api import TaskInstanceApi
from airflow_client.client.exceptions import ApiException
from airflow_client.client.models.clear_task_instances_body import ClearTaskInstancesBody
from airflow_client.client.models.dag_patch_body import DAGPatchBody
from airflow_client.client.models.dag_run_clear_body import DAGRunClearBody
from airflow_client.client.models.dag_run_mutable_states import DagRunMutableStates
from airflow_client.client.models.dag_run_patch_body import DAGRunPatchBody
from airflow_client.client.models.patch_task_instance_body import PatchTaskInstanceBody

from benchmarks.runs import DEFERRING, EMPTY, PEERS, SIMULATION, Laboratory, rows_of
from hpc.names import cluster_name
from workshop import rest

if TYPE_CHECKING:
    from tests.e2e.conftest import RunningAirflow

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(600)]


def until(condition: Callable[[], Any], what: str, limit: float = 300) -> Any:
    """Ask twice a second until there is an answer; fail with what was waited for."""
    end = time.monotonic() + limit
    while not (answer := condition()):
        if time.monotonic() > end:
            pytest.fail(f"no {what} within {limit:g} s")
        time.sleep(0.5)
    return answer


def finished(airflow: RunningAirflow, dag_id: str, run_id: str) -> dict[str, str]:
    """Wait for the end of a run; return the state of the run, as "", and of each task, and print why one failed."""
    client = airflow.client
    until(lambda: rest.run_state(client, dag_id, run_id) in rest.FINISHED_RUN_STATES, f"end of {run_id}", 420)
    tasks = rest.task_progress(client, dag_id, run_id, [])
    for task in tasks:
        if task.state == "failed":
            print(f"{task}\n{airflow.logs(dag_id, run_id, task.task_id)}")
    return {"": rest.run_state(client, dag_id, run_id), **{task.task_id: task.state for task in tasks}}


def is_gone(airflow: RunningAirflow, dag_id: str, run_id: str) -> bool:
    """Look into the region itself: neither a stack nor an instance of the run's cluster."""
    name = cluster_name(dag_id, run_id)
    stacks = airflow.region.client("cloudformation").describe_stacks()["Stacks"]
    tag = [{"Name": "tag:parallelcluster:cluster-name", "Values": [name]}]
    instances = airflow.region.client("ec2").describe_instances(Filters=tag)["Reservations"]
    alive = [
        instance["InstanceId"]
        for reservation in instances
        for instance in reservation["Instances"]
        if instance["State"]["Name"] != "terminated"
    ]
    return not alive and name not in {stack["StackName"] for stack in stacks}


def is_at(airflow: RunningAirflow, dag_id: str, run_id: str, task_id: str, state: str) -> bool:
    """Say whether a task of a run is in a state now."""
    tasks = rest.task_progress(airflow.client, dag_id, run_id, [])
    return any((task.task_id, task.state) == (task_id, state) for task in tasks)


@pytest.fixture
def no_faults(airflow: RunningAirflow) -> Iterator[None]:
    """Leave the region as healthy as it was."""
    yield
    airflow.fault("clear")


#: Runs that do not disturb each other, and what they are triggered with: they go side by side, as on any Airflow.
SIDE_BY_SIDE: dict[str, dict[str, Any]] = {
    "ising_2d": {"seed": 7},
    "ising_sweep": {"sweeps": 60, "sweep": {"grid": {"size": [8], "temperature": [2.0, 2.5, 3.0]}, "max_running": 2}},
    "failing_job": {},
    "leftover": {},
    "late_job": {},
    "unsaved": {},
    "given_up": {},
    "example_by_hand": {"greeting": 'Grüß "Gott"; $(id)'},
}


@pytest.fixture(scope="module")
def told(airflow: RunningAirflow) -> Iterator[list[str]]:
    """What a web hook of Slack's kind was sent; the connection `people` leads to it."""
    received: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append(html.unescape(json.loads(body)["text"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        fields = {"conn_type": "slackwebhook", "host": host, "password": "T0/B0/x"}  # pragma: allowlist secret
        rest.set_connection(airflow.client, "people", fields)
        yield received
        server.shutdown()


@pytest.fixture(scope="module")
def runs(airflow: RunningAirflow, told: list[str]) -> dict[str, str]:
    """Trigger them all; return their run ids by DAG."""
    return {dag_id: rest.trigger(airflow.client, dag_id, conf) for dag_id, conf in SIDE_BY_SIDE.items()}


@pytest.fixture(scope="module")
def volume(airflow: RunningAirflow, runs: dict[str, str]) -> Iterator[str]:
    """Make a volume that bears the name of the cluster of `leftover`, before that cluster is deleted."""
    ec2 = airflow.region.client("ec2")
    tag = {"Key": "parallelcluster:cluster-name", "Value": cluster_name("leftover", runs["leftover"])}
    volume: str = ec2.create_volume(
        AvailabilityZone=f"{airflow.region.facts['region']}a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [tag]}],
    )["VolumeId"]
    yield volume
    ec2.delete_volume(VolumeId=volume)


@pytest.mark.usefixtures("volume")
def test_a_run_with_parameters_goes_through_all_steps(airflow: RunningAirflow, runs: dict[str, str]) -> None:
    client, run_id = airflow.client, runs["ising_2d"]
    states = finished(airflow, "ising_2d", run_id)
    assert set(states.values()) == {"success"}, states
    exported = rest.returned(client, "ising_2d", run_id, "export_results")
    bucket, _, key = exported["receipt_uri"].removeprefix("s3://").partition("/")
    receipt = json.load(airflow.region.client("s3").get_object(Bucket=bucket, Key=key)["Body"])
    assert len(receipt["files"]) == exported["files"] > 0
    assert exported["verified"] is True
    assert rest.returned(client, "ising_2d", run_id, "delete_cluster")["leftovers"] == []
    assert is_gone(airflow, "ising_2d", run_id)


def test_what_such_a_run_costs_beside_aws_and_slurm_is_measured(airflow: RunningAirflow, runs: dict[str, str]) -> None:
    assert finished(airflow, SIMULATION, runs[SIMULATION])[""] == "success"
    laboratory = Laboratory(airflow.server, airflow.region, airflow.pcluster)
    found = {name: laboratory.run_together(name, 1) for name in (EMPTY, DEFERRING)}
    found[SIMULATION] = [laboratory.look(SIMULATION, runs[SIMULATION])]
    rows = {row.name.removeprefix("1 run at once: "): row for row in rows_of(1, found)}
    whole, *parts = (
        float(str(rows[what].figure))
        for what in ("a whole run", "AWS, Slurm and jobs", "pcluster beside them", "what is left")
    )
    assert min(parts) > 1
    assert whole == pytest.approx(sum(parts))
    assert set(rows["a whole run"].peer) == set(PEERS.values())
    ratios = ("what is left, to an empty DAG", "what is left, to an empty DAG that waits where ours does")
    assert all(rows[what].met is not None for what in ratios)


def test_runs_at_the_same_time_share_one_cluster_and_the_last_deletes_it(airflow: RunningAirflow) -> None:
    client = airflow.client
    both = {greeting: rest.trigger(client, "shared", {"greeting": greeting}) for greeting in ("first", "second")}
    stacks, held = set(), []
    for greeting, run_id in both.items():
        states = finished(airflow, "shared", run_id)
        assert set(states.values()) == {"success"}, states
        exported = rest.returned(client, "shared", run_id, "export_results")
        body = airflow.region.client("s3").get_object(Bucket=exported["bucket"], Key=f"{exported['prefix']}/hello.txt")
        assert body["Body"].read().decode().startswith(f"{greeting} from ")
        stacks.add(rest.returned(client, "shared", run_id, "create_cluster")["stack_id"])
        held.append(rest.returned(client, "shared", run_id, "delete_cluster")["stack"])
    assert len(stacks) == 1, "two runs made two clusters"
    assert sorted(held) == ["gone", "shared"]
    names = [stack["StackName"] for stack in airflow.region.client("cloudformation").describe_stacks()["Stacks"]]
    assert not [name for name in names if name.startswith("pool-tests-")]


@pytest.mark.parametrize("conf", [{"steps": -5}, {"steps": "many"}, {"steps": 10**12}])
def test_a_bad_parameter_is_refused_before_there_is_a_run(airflow: RunningAirflow, conf: dict[str, Any]) -> None:
    client = airflow.client
    before = DagRunApi(client).get_dag_runs("lj_melt").total_entries
    with pytest.raises(ApiException) as refused:
        rest.trigger(client, "lj_melt", conf)
    assert 400 <= int(refused.value.status or 0) < 500
    assert "steps" in str(refused.value.body)
    assert DagRunApi(client).get_dag_runs("lj_melt").total_entries == before


def test_a_sweep_of_the_trigger_form_is_computed_point_by_point(airflow: RunningAirflow, runs: dict[str, str]) -> None:
    client, run_id = airflow.client, runs["ising_sweep"]
    states = finished(airflow, "ising_sweep", run_id)
    assert set(states.values()) == {"success"}, states
    assert rest.returned(client, "ising_sweep", run_id, "run_job")["succeeded"] == 3
    assert "3 of 3 points have ended" in airflow.logs("ising_sweep", run_id, "run_job")
    pictures = rest.returned(client, "ising_sweep", run_id, "export_pictures")
    key = f"{pictures['prefix']}/summary.csv"
    table = airflow.region.client("s3").get_object(Bucket=pictures["bucket"], Key=key)["Body"].read().decode()
    assert table.startswith("point,size,temperature,")
    assert len(table.splitlines()) == 4


@pytest.mark.parametrize("sweep", [{"grid": {"sizze": [8]}}, {"grid": {"size": [2]}}, {"csv": "secrets.csv"}, [1]])
def test_a_bad_sweep_is_refused_before_there_is_a_run(airflow: RunningAirflow, sweep: Any) -> None:
    with pytest.raises(ApiException) as refused:
        rest.trigger(airflow.client, "ising_sweep", {"sweep": sweep})
    assert 400 <= int(refused.value.status or 0) < 500
    assert "sweep" in str(refused.value.body)


def test_a_misspelled_parameter_fails_the_run_before_there_is_a_cluster(airflow: RunningAirflow) -> None:
    run_id = rest.trigger(airflow.client, "lj_melt", {"stepz": 5})
    states = finished(airflow, "lj_melt", run_id)
    assert (states["install_parallelcluster"], states["create_cluster"]) == ("failed", "upstream_failed"), states
    assert states[""] == "failed"
    assert "stepz; did you mean steps?" in airflow.logs("lj_melt", run_id, "install_parallelcluster")
    assert is_gone(airflow, "lj_melt", run_id)


def test_a_scheduled_run_starts_by_itself(airflow: RunningAirflow) -> None:
    client = airflow.client
    DAGApi(client).patch_dag("every_minute", DAGPatchBody(is_paused=False))
    runs = until(lambda: DagRunApi(client).get_dag_runs("every_minute").dag_runs, "scheduled run", 120)
    DAGApi(client).patch_dag("every_minute", DAGPatchBody(is_paused=True))
    assert runs[0].run_type == "scheduled"
    # A paused DAG's running runs go on, but none of their tasks is started any more: it has to be let go on.
    assert runs[0].dag_run_id.startswith("scheduled__")
    DagRunApi(client).patch_dag_run(
        "every_minute", runs[0].dag_run_id, DAGRunPatchBody(state=DagRunMutableStates.FAILED)
    )


def test_a_failed_job_fails_the_run_saves_what_it_left_and_deletes_the_cluster(
    airflow: RunningAirflow, runs: dict[str, str]
) -> None:
    run_id = runs["failing_job"]
    states = finished(airflow, "failing_job", run_id)
    assert states[""] == "failed"
    assert states["run_job"] == "failed"
    assert states["export_results"] == "success"
    assert states["delete_cluster"] == "success"
    assert states["report"] == "failed"
    log = airflow.logs("failing_job", run_id, "run_job")
    assert "the mesh has a hole" in log
    exported = rest.returned(airflow.client, "failing_job", run_id, "export_results")
    not_saved = "1 NOT saved: 'partial_elsewhere.txt' is a link that leads out of the folder"
    said = airflow.logs("failing_job", run_id, "report")
    assert f"Left out   {not_saved}; all are listed in {exported['receipt_uri']}" in said
    assert is_gone(airflow, "failing_job", run_id)


def test_a_leftover_fails_the_deletion_and_the_run_although_all_else_went_well(
    airflow: RunningAirflow, runs: dict[str, str], volume: str
) -> None:
    run_id = runs["leftover"]
    states = finished(airflow, "leftover", run_id)
    failed = {task for task, state in states.items() if state != "success"}
    assert failed == {"", "delete_cluster", "report"}, states
    log = airflow.logs("leftover", run_id, "delete_cluster")
    assert "is deleted, but this is still there, for less than $0.01 an hour ($0.10 a month):" in log
    assert f"EBS volume {volume} (available, $0.10 a month)" in log
    assert "Deletion   NOT proven" in airflow.logs("leftover", run_id, "report")


def test_the_operators_serve_alone_in_a_dag_written_by_hand(airflow: RunningAirflow, runs: dict[str, str]) -> None:
    client, run_id = airflow.client, runs["example_by_hand"]
    states = finished(airflow, "example_by_hand", run_id)
    assert set(states.values()) == {"success"}, states
    saved = rest.returned(client, "example_by_hand", run_id, "save")
    body = airflow.region.client("s3").get_object(Bucket=saved["bucket"], Key=f"{saved['prefix']}/hello.txt")["Body"]
    lines = body.read().decode().splitlines()
    assert len(lines) == 2
    assert all(line.startswith('Grüß "Gott"; $(id) from ') for line in lines)
    assert is_gone(airflow, "example_by_hand", run_id)


@pytest.mark.usefixtures("no_faults")
def test_a_failed_bootstrap_is_explained_and_leaves_nothing(airflow: RunningAirflow) -> None:
    airflow.fault("bootstrap", "Failed to mount FSx: no route")
    run_id = rest.trigger(airflow.client, "ising_2d")
    states = finished(airflow, "ising_2d", run_id)
    assert states["wait_for_stack"] == "failed"
    assert states["run_job"] == "upstream_failed"
    assert states["delete_cluster"] == "success"
    assert "Failed to mount FSx: no route" in airflow.logs("ising_2d", run_id, "wait_for_stack")
    assert is_gone(airflow, "ising_2d", run_id)


def test_a_run_that_a_user_marks_as_failed_still_saves_its_results_and_deletes_its_cluster(
    airflow: RunningAirflow,
) -> None:
    client = airflow.client
    run_id = rest.trigger(client, "lj_melt", {"steps": 100_000})
    until(lambda: is_at(airflow, "lj_melt", run_id, "run_job", "deferred"), "running job")
    DagRunApi(client).patch_dag_run("lj_melt", run_id, DAGRunPatchBody(state=DagRunMutableStates.FAILED))
    until(lambda: is_gone(airflow, "lj_melt", run_id), "deletion", 120)
    states = finished(airflow, "lj_melt", run_id)
    assert (states["delete_cluster"], states["report"], states[""]) == ("success", "failed", "failed")
    assert (states["export_results"], states["hold_cluster"]) == ("success", "success")
    assert rest.returned(client, "lj_melt", run_id, "export_results")["verified"] is True


def test_a_run_that_a_user_clears_as_a_whole_goes_on_with_its_cluster(airflow: RunningAirflow) -> None:
    client = airflow.client
    run_id = rest.trigger(client, "ising_2d", {"seed": 11})
    cluster = cluster_name("ising_2d", run_id)
    until(lambda: is_at(airflow, "ising_2d", run_id, "submit_job", "success"), "job")
    DagRunApi(client).clear_dag_run("ising_2d", run_id, DAGRunClearBody(dry_run=False))
    states = finished(airflow, "ising_2d", run_id)
    assert set(states.values()) == {"success"}, states
    assert "The cluster is there already" in airflow.logs("ising_2d", run_id, "render_cluster_config")
    pages = airflow.region.client("cloudformation").get_paginator("list_stacks").paginate()
    assert [stack["StackName"] for page in pages for stack in page["StackSummaries"]].count(cluster) == 1
    assert rest.returned(client, "ising_2d", run_id, "export_results")["verified"] is True
    assert is_gone(airflow, "ising_2d", run_id)


def test_whoever_clears_the_export_of_a_cluster_that_is_kept_saves_its_results(
    airflow: RunningAirflow, runs: dict[str, str], told: list[str]
) -> None:
    client, run_id = airflow.client, runs["unsaved"]
    cluster = cluster_name("unsaved", run_id)
    until(lambda: is_at(airflow, "unsaved", run_id, "hold_cluster", "deferred"), "hold of the cluster")
    (told_of_it,) = (text for text in told if cluster in text)
    assert "KEPT RUNNING" in told_of_it
    folder = airflow.directory / "region" / "clusters" / cluster / "root" / "fsx" / "runs" / cluster
    (folder / "missing.txt").write_text("here it is\n")
    asked = {"dag_run_id": run_id, "task_ids": ["export_results"], "dry_run": False, "only_failed": False}
    body = ClearTaskInstancesBody.from_dict(asked | {"include_downstream": True, "reset_dag_runs": True})
    TaskInstanceApi(client).post_clear_task_instances("unsaved", body)
    states = finished(airflow, "unsaved", run_id)
    assert set(states.values()) == {"success"}, states
    exported = rest.returned(client, "unsaved", run_id, "export_results")
    saved = airflow.region.client("s3").get_object(Bucket=exported["bucket"], Key=f"{exported['prefix']}/missing.txt")
    assert (exported["verified"], saved["Body"].read()) == (True, b"here it is\n")
    assert is_gone(airflow, "unsaved", run_id)


def test_whoever_marks_the_hold_as_success_deletes_the_cluster_now(
    airflow: RunningAirflow, runs: dict[str, str]
) -> None:
    client, run_id = airflow.client, runs["given_up"]
    until(lambda: is_at(airflow, "given_up", run_id, "hold_cluster", "deferred"), "hold of the cluster")
    body = PatchTaskInstanceBody.from_dict({"new_state": "success"})
    TaskInstanceApi(client).patch_task_instance("given_up", run_id, "hold_cluster", body)
    states = finished(airflow, "given_up", run_id)
    failed = {task for task, state in states.items() if state != "success"}
    assert failed == {"", "export_results", "wait_for_empty_queue", "report"}, states
    assert is_gone(airflow, "given_up", run_id)


def test_a_run_past_its_deadline_tells_people_and_is_stopped_in_order(
    airflow: RunningAirflow, runs: dict[str, str], told: list[str]
) -> None:
    client, run_id = airflow.client, runs["late_job"]
    cluster = cluster_name("late_job", run_id)
    states = finished(airflow, "late_job", run_id)
    assert states["submit_job"] == "success", f"the job did not begin before the deadline: {states}"
    failed = {task for task, state in states.items() if state in ("failed", "upstream_failed")}
    assert failed == {"", "run_job", "wait_for_empty_queue", "report"}, states
    # It was told by Airflow itself, while the cluster was there, and not only by the task that ends the run.
    late, verdict = (text for text in told if cluster in text)
    assert late.startswith(f"*late_job: it is not finished after its deadline of 5m 00s*\nRun {run_id} of late_job")
    assert "EC2 instance i-" in late
    assert verdict.startswith("*late_job: the run FAILED*")
    tasks = {task.task_id: task for task in rest.task_progress(client, "late_job", run_id, [])}
    assert tasks["run_job"].try_number == 1
    error = rest.task_error(client, "late_job", run_id, tasks["run_job"])
    assert error.startswith("DeadlineExceededError: gave up waiting for the end of job 1")
    # First the job, then its results, then the cluster.
    export = airflow.logs("late_job", run_id, "export_results")
    assert "run_job did not succeed, and job 1 still lived: it is cancelled" in export
    exported = rest.returned(client, "late_job", run_id, "export_results")
    assert exported["verified"] is True
    s3, place = airflow.region.client("s3"), {"Bucket": exported["bucket"]}
    receipt = json.load(s3.get_object(**place, Key=f"{exported['prefix']}/receipt.json")["Body"])
    assert "partial.txt" in {file["path"] for file in receipt["files"]}
    assert s3.get_object(**place, Key=f"{exported['prefix']}/partial.txt")["Body"].read() == b"half a result\n"
    assert rest.returned(client, "late_job", run_id, "delete_cluster")["leftovers"] == []
    assert is_gone(airflow, "late_job", run_id)
