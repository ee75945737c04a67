"""One simulation becomes one DAG: its tasks, their order, their policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, CronTriggerTimetable, RetryAction
from airflow.sdk.definitions.deadline import DeadlineAlert
from airflow.sdk.definitions.timetables.simple import NullTimetable
from airflow.sdk.module_loading import qualname
from airflow.serialization.encoders import encode_deadline_reference
from airflow.serialization.serialized_objects import DagSerialization

from hpc import lifecycle, retries
from hpc.cluster.abandoned import Sighting
from hpc.cluster.history import cluster_history
from hpc.cluster.stacks import Stack
from hpc.config import SIMULATIONS_DIR, SimulationConfig, load_simulation, load_simulations
from hpc.errors import ConfigurationError, DeadlineExceededError
from hpc.form import check_form, job_parameters, sweep_of, trigger_form
from hpc.lifecycle import RUN, build_dag, longest_life
from hpc.names import (
    LONGEST_TAG,
    TAG_AIRFLOW,
    TAG_ALTERNATIVE,
    TAG_DIRECTORY,
    TAG_OUTPUTS,
    TAG_POOL,
    TAG_RESULTS,
    TAG_RUN_ID,
    TAG_SIMULATION,
    TAG_SSH,
    decode_tag,
)
from hpc_plugin import HpcPlugin

STEPS = [
    *("install_parallelcluster", "render_cluster_config", "create_cluster", "wait_for_stack", "verify_cluster"),
    *("connect", "submit_job", "wait_for_allocation", "run_job", "watch_alarms"),
    *("export_results", "postprocess", "export_pictures"),
    *("wait_for_empty_queue", "hold_cluster", "delete_cluster", "report"),
]


def simulation(**changes: Any) -> SimulationConfig:
    """The shipped melt, with changes."""
    shipped = load_simulation(SIMULATIONS_DIR / "lj_melt.yaml").model_dump(exclude_unset=True)
    return SimulationConfig.model_validate({**shipped, **changes})


@pytest.fixture(scope="module")
def dag() -> DAG:
    return build_dag(simulation())


def test_the_thirteen_steps_are_the_tasks(dag: DAG) -> None:
    assert sorted(dag.task_ids) == sorted(STEPS)
    order = [task.task_id for task in dag.topological_sort()]
    chain = [step for step in STEPS if step != "watch_alarms"]
    assert sorted(chain, key=order.index) == chain


def test_the_groups_are_the_stages(dag: DAG) -> None:
    groups = dag.task_group.get_task_group_dict()
    assert {name for name in groups if name} == {"provision", "compute", "results", "release"}


def test_every_task_declares_its_policy(dag: DAG) -> None:
    for task in dag.tasks:
        assert task.retries is not None, task.task_id
        assert task.retries > 0, task.task_id
        assert task.retry_delay > timedelta(0), task.task_id
        assert task.execution_timeout is not None, task.task_id
        assert task.retry_policy is not None, task.task_id


def test_a_half_made_cluster_is_deleted_too(dag: DAG) -> None:
    delete = dag.get_task("delete_cluster")
    assert delete.is_teardown
    setups = {task.task_id for task in delete.upstream_list if task.is_setup}
    assert setups == {"render_cluster_config", "create_cluster"}


def test_the_verdict_is_the_last_task(dag: DAG) -> None:
    assert [task.task_id for task in dag.leaves] == ["report"]


def test_marking_a_run_as_failed_skips_neither_export_nor_deletion_nor_verdict(dag: DAG) -> None:
    teardowns = {"export_results", "hold_cluster", "delete_cluster", "report"}
    assert {task.task_id for task in dag.tasks if task.is_teardown} == teardowns
    assert dag.get_task("report").on_failure_fail_dagrun, "else a failed deletion would leave a run green"


def test_the_deletion_waits_for_everything_that_saves_results(dag: DAG) -> None:
    before = dag.get_task("hold_cluster").upstream_task_ids
    assert before >= {"export_results", "postprocess", "export_pictures", "watch_alarms", "wait_for_empty_queue"}


def test_waits_are_deferred(dag: DAG) -> None:
    waits = {"wait_for_stack", "wait_for_allocation", "run_job", "watch_alarms", "wait_for_empty_queue"}
    assert all(dag.get_task(task).deferrable for task in (*waits, "delete_cluster", "postprocess", "export_results"))


def test_the_alarms_are_watched_as_long_as_a_job_may_take(dag: DAG) -> None:
    limits = {
        task: dag.get_task(task).waiter_delay * dag.get_task(task).waiter_max_attempts
        for task in dag.task_ids
        if task in {"watch_alarms", "wait_for_allocation", "run_job"}
    }
    assert limits["watch_alarms"] >= limits["wait_for_allocation"] + limits["run_job"]


def test_no_wait_for_slurm_is_longer_than_the_deadline() -> None:
    dag = build_dag(simulation(deadline="90m"))
    for task in ("wait_for_allocation", "run_job", "postprocess", "wait_for_empty_queue"):
        assert dag.get_task(task).waiter_delay * dag.get_task(task).waiter_max_attempts == 90 * 60, task


def test_at_the_runs_deadline_every_wait_fails_and_the_job_is_no_longer_submitted() -> None:
    dag = build_dag(simulation(deadline="90m"))
    waits = ("wait_for_stack", "wait_for_allocation", "run_job", "postprocess", "wait_for_empty_queue")
    assert {dag.get_task(task).until for task in waits} == {"{{ expiry(dag_run.start_date, 5400) }}"}
    assert all("until" in dag.get_task(task).template_fields for task in waits)
    assert dag.get_task("submit_job").execution_timeout == timedelta(minutes=90)


def late(task_id: str, *, by: timedelta) -> Any:
    """What Airflow calls a task's `pre_execute` with, in a run that is past its deadline of 90 minutes by so long."""
    task = SimpleNamespace(task_id=task_id, cluster_name="melt-1")
    return {"dag_run": SimpleNamespace(start_date=datetime.now(UTC) - timedelta(minutes=90) - by), "task": task}


def test_past_the_deadline_no_step_towards_a_job_begins_and_all_that_saves_and_deletes_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lifecycle, "was_reached_before", lambda *_: False)
    dag = build_dag(simulation(deadline="90m"))
    for task_id in ("verify_cluster", "connect", "submit_job"):
        task = dag.get_task(task_id)
        task._pre_execute_hook(late(task_id, by=timedelta(minutes=-1)))
        with pytest.raises(DeadlineExceededError, match=rf"{task_id} does not begin .* deadline of 1h 30m") as caught:
            task._pre_execute_hook(late(task_id, by=timedelta(seconds=1)))
        assert task.retry_policy.evaluate(caught.value, 1, 9).action is RetryAction.FAIL, task_id
    ending = ("export_results", "wait_for_empty_queue", "hold_cluster", "delete_cluster", "report")
    assert all(dag.get_task(task_id)._pre_execute_hook is None for task_id in ending)


def test_airflow_knows_since_when_the_deadline_counts(dag: DAG) -> None:
    """By a reference of our own: with Airflow's DAGRUN_QUEUED_AT nobody could clear a task of the run."""
    (alert,) = [dag.deadline] if isinstance(dag.deadline, DeadlineAlert) else (dag.deadline or [])
    reference = encode_deadline_reference(alert.reference)
    assert reference["reference_type"] != "DagRunQueuedAtDeadline"
    assert reference["__class_path"] in {qualname(known) for known in HpcPlugin.deadline_references}
    now = datetime.now(UTC)
    assert now <= alert.reference._evaluate_with(session=None, dag_id="x", run_id="y") <= now + timedelta(minutes=1)


def test_a_task_that_comes_back_from_the_triggerer_is_not_asked_for_the_deadline(dag: DAG) -> None:
    """Airflow calls `pre_execute` again then: a job that has ended in time is not to be lost by that."""
    asked = [task for task in dag.tasks if task._pre_execute_hook is not None]
    assert {task.task_id for task in asked} == {"install_parallelcluster", "verify_cluster", "connect", "submit_job"}
    assert dag.get_task("submit_job").wait_for_completion is False


def test_the_source_of_what_is_asked_first_stays_out_of_the_stored_dag(pooled: DAG) -> None:
    """Airflow stores a hook's source with each DAG. To find a long one takes the DAG processor a while, every time."""
    stored = [task["__var"] for task in DagSerialization.to_dict(pooled)["dag"]["tasks"]]
    hooks = [source for task in stored for name, source in task.items() if name.endswith("_execute_hook")]
    assert len(hooks) == 5
    assert {len(source.splitlines()) for source in hooks} == {3}


def test_whoever_clears_the_connection_to_save_results_of_a_late_run_is_let_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def was_reached_before(_simulation: SimulationConfig, _context: Any, cluster: str) -> bool:
        asked.append(cluster)
        return True

    monkeypatch.setattr(lifecycle, "was_reached_before", was_reached_before)
    dag = build_dag(simulation(deadline="90m"))
    for task_id in ("verify_cluster", "connect"):
        dag.get_task(task_id)._pre_execute_hook(late(task_id, by=timedelta(hours=1)))
    assert asked == ["melt-1", "melt-1"]
    with pytest.raises(DeadlineExceededError):
        dag.get_task("submit_job")._pre_execute_hook(late("submit_job", by=timedelta(hours=1)))


def test_the_steps_are_refused_at_the_moment_at_which_the_waits_end(dag: DAG) -> None:
    start = datetime(2020, 1, 1, 12, 0, 0, 900_000, tzinfo=UTC)
    context: Any = {"dag_run": SimpleNamespace(start_date=start), "task": SimpleNamespace(task_id="submit_job")}
    end = dag.get_task("run_job").render_template(dag.get_task("run_job").until, context, dag.get_template_env())
    with pytest.raises(DeadlineExceededError) as caught:
        dag.get_task("submit_job")._pre_execute_hook(context)
    assert end == "2020-01-01T14:00:00Z"
    assert f"({end})" in str(caught.value)


def test_the_creation_ends_at_that_moment_too(dag: DAG, pooled: DAG) -> None:
    for each in (dag, pooled):
        ends = {each.get_task(task_id).until for task_id in ("create_cluster", "wait_for_stack", "run_job")}
        assert len(ends) == 1


def test_the_log_of_the_connection_tells_how_to_copy_the_folder_that_is_exported(dag: DAG, pooled: DAG) -> None:
    for each in (dag, pooled):
        connect = each.get_task("connect")
        assert connect.directory == each.get_task("export_results").directory
        assert "directory" in connect.template_fields


def test_the_tags_are_all_that_the_janitor_needs() -> None:
    found = simulation(outputs=["out/*.vtk", "log file"], export={"bucket": "my-bucket", "prefix": "a"})
    tags = build_dag(found).get_task("render_cluster_config").tags
    assert decode_tag(tags[TAG_OUTPUTS]) == ["out/*.vtk", "log file", "*.png"]
    assert tags[TAG_RESULTS] == f"s3://my-bucket/a/{RUN}"
    assert tags[TAG_DIRECTORY] == f"/fsx/runs/{RUN}"
    assert tags[TAG_AIRFLOW] == "{{ tag_value(airflow_url()) }}"
    assert decode_tag(tags[TAG_SSH]) == ["hpc_head_node"]
    discarded = build_dag(simulation(export="discard", postprocess=None, outputs=["x" * 255, "y" * 255]))
    tags = discarded.get_task("render_cluster_config").tags
    assert tags[TAG_RESULTS] == "discard"
    assert decode_tag(tags[TAG_OUTPUTS]) == ["**"]


def test_the_ssh_connection_of_a_cluster_fits_in_its_tag() -> None:
    own = "lab:head.node-" + "x" * 186
    tags = build_dag(simulation(connections={"ssh": own})).get_task("render_cluster_config").tags
    assert Sighting("melt-1", "CREATE_COMPLETE", tags).ssh_conn_id == own
    assert len(tags[TAG_SSH]) <= LONGEST_TAG
    # pcluster/constants.py of aws-parallelcluster 3.16.1: MAX_TAGS_COUNT, of AWS's 50.
    assert len(tags) + len([TAG_ALTERNATIVE, TAG_POOL]) <= 40


def test_a_run_by_a_connection_that_has_no_janitor_of_its_own_fails_its_first_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dag = build_dag(simulation(connections={"aws": "aws_lab"}))
    look = dag.get_task("install_parallelcluster")._pre_execute_hook
    context: Any = {"params": dag.params.dump()}
    monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", '{"aws_connections": ["aws_site"]}')
    with pytest.raises(ConfigurationError) as caught:
        look(context)
    assert "connections.aws = 'aws_lab': is not among aws_connections of the Variable hpc_site" in str(caught.value)
    assert 'add "aws_connections": ["aws_lab"] to hpc_site' in str(caught.value)
    monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", '{"aws_connections": ["aws_site", "aws_lab"]}')
    look(context)


def test_people_are_told_of_what_goes_wrong(dag: DAG) -> None:
    delete, report = dag.get_task("delete_cluster"), dag.get_task("report")
    assert delete.on_failure_callback
    assert delete.on_retry_callback
    assert report.on_failure_callback
    assert dag.get_task("hold_cluster").tell is not None
    assert dag.get_task("watch_alarms").tell is not None
    notify = {"slack": "lab"}
    (late,) = build_dag(simulation(notify=notify)).deadline
    assert late.callback.kwargs["notify"] == {"slack": "lab", "mail": None, "sns": None}


def test_parameters_are_the_trigger_form(dag: DAG) -> None:
    steps = dag.params.get_param("steps")
    assert steps.schema["type"] == "integer"
    assert steps.schema["minimum"] >= 1


def test_no_task_has_a_copy_of_the_trigger_form(dag: DAG) -> None:
    """Airflow validates each copy twice whenever it reads the file: it took 0.6 s of a core for a DAG of 17 tasks."""
    assert all(not task.params for task in dag.tasks)


def test_a_misspelled_parameter_fails_the_first_task(dag: DAG) -> None:
    first = dag.get_task("install_parallelcluster")
    assert {task.task_id for task in dag.roots} == {first.task_id}
    look = first._pre_execute_hook
    given = dag.params.dump()
    look({"params": given})
    with pytest.raises(ConfigurationError) as caught:
        look({"params": {**given, "stepz": 5, "Temperature": 2}})
    assert "no such parameter: stepz; did you mean steps?, Temperature; did you mean temperature?" in str(caught.value)
    assert "parameters that it has: steps, temperature, density, scale" in str(caught.value)


def test_the_schedule_is_the_files(dag: DAG) -> None:
    assert isinstance(dag.timetable, CronTriggerTimetable)
    assert dag.timetable.expression == simulation().schedule.cron  # type: ignore[union-attr]
    assert dag.catchup is False
    assert dag.start_date is None, "a start in the past would start a cluster as soon as the file is deployed"
    late = simulation(schedule={"cron": "@daily", "timezone": "Asia/Tokyo", "catchup": True, "start": "2026-01-02"})
    assert build_dag(late).start_date == datetime(2026, 1, 1, 15, tzinfo=UTC)
    assert isinstance(build_dag(simulation(schedule=None)).timetable, NullTimetable)


def test_discarded_results_are_neither_saved_nor_waited_for() -> None:
    dag = build_dag(simulation(export="discard", postprocess=None))
    assert not {"export_results", "export_pictures", "postprocess"} & set(dag.task_ids)
    assert dag.get_task("hold_cluster").exported_by is None


def test_the_history_of_the_cluster_goes_with_the_results(dag: DAG) -> None:
    export = dag.get_task("export_results")
    assert export.history is cluster_history
    assert export.logs == {"/var/log/slurmctld.log": ".slurm/slurmctld.log"}


def test_a_site_gets_its_copy() -> None:
    export = {"on_premises": {"sftp_conn_id": "site", "directory": "/results"}}
    dag = build_dag(simulation(export=export))
    assert dag.get_task("send_on_premises").upstream_task_ids == {"export_results"}
    assert dag.get_task("send_on_premises").downstream_task_ids == {"report"}, "no deletion waits for a site"
    assert dag.get_task("hold_cluster").regardless_of == ["send_on_premises"]


def test_a_kept_cluster_is_not_rolled_back() -> None:
    kept = simulation(on_failure={"keep_for": "4h"})
    dag = build_dag(kept)
    assert dag.get_task("create_cluster").rollback_on_failure is False
    assert dag.get_task("hold_cluster").keep_for == timedelta(hours=4)
    assert longest_life(kept) == kept.deadline + timedelta(hours=24)


def test_alternatives_are_rendered_once_and_known_to_whoever_makes_the_cluster() -> None:
    cluster = simulation().cluster.model_dump(exclude_unset=True)
    others = ({"head_node_instance_type": "t3.medium"}, {"head_node_subnet_id": "subnet-0a"})
    dag = build_dag(simulation(cluster=cluster | {"alternatives": others}))
    assert dag.get_task("render_cluster_config").alternatives == [*map(dict, others)]
    for task in ("create_cluster", "wait_for_stack"):
        assert "render_cluster_config" in dag.get_task(task).alternatives
        assert dag.get_task(task).evidence_uri.endswith("/failed-creates/" + dag.get_task(task).cluster_name)
    assert dag.get_task("wait_for_stack").adopt_only
    assert not dag.get_task("create_cluster").adopt_only
    with pytest.raises(ValueError, match="at least 1 item"):
        simulation(cluster=cluster | {"alternatives": [{}]})


def test_own_retries_hold_for_every_task_but_the_safety_net() -> None:
    retried = {task.task_id: task.retries for task in build_dag(simulation(retries=0)).tasks}
    assert retried.pop("hold_cluster") == retried.pop("delete_cluster") == retries.DELETION.retries
    assert set(retried.values()) == {0}


@pytest.fixture(scope="module")
def pooled() -> DAG:
    cluster = {"profile": "cpu_fsx", "sharing": "pooled", "name": "mesh", "idle": "20m", "values": {"nodes": 4}}
    return build_dag(simulation(cluster=cluster))


def test_a_shared_cluster_takes_the_same_steps(pooled: DAG, dag: DAG) -> None:
    assert sorted(pooled.task_ids) == sorted(STEPS)
    for task in dag.tasks:
        assert pooled.get_task(task.task_id).upstream_task_ids == task.upstream_task_ids, task.task_id
        assert pooled.get_task(task.task_id).is_teardown == task.is_teardown, task.task_id


def test_what_is_a_runs_own_stays_its_own_on_a_shared_cluster(pooled: DAG, dag: DAG) -> None:
    for own, name in (("submit_job", "directory"), ("export_results", "directory"), ("export_results", "prefix")):
        assert getattr(pooled.get_task(own), name) == getattr(dag.get_task(own), name)
    for task in ("wait_for_stack", "verify_cluster", "connect", "submit_job", "export_results", "watch_alarms"):
        assert "xcom_pull(task_ids='create_cluster')" in pooled.get_task(task).cluster_name, task
    assert pooled.get_task("wait_for_empty_queue").jobs_of == ("submit_job", "postprocess")
    assert dag.get_task("wait_for_empty_queue").jobs_of == ()


def test_every_task_finds_the_shared_cluster_by_what_the_run_has_joined(pooled: DAG) -> None:
    def rendered(field: Any, joined: Any) -> Any:
        context: Any = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: joined)}
        return pooled.get_task("connect").render_template(field, context, pooled.get_template_env())

    alarms = pooled.get_task("watch_alarms").alarm_names
    assert rendered(alarms, {"cluster_name": "pool-mesh-3"}) == ["pool-mesh-3-HeadNode"]
    assert rendered(pooled.get_task("delete_cluster").cluster_name, None) == "", "the run may not have come that far"


def test_airflow_can_store_it(pooled: DAG) -> None:
    stored = DagSerialization.to_dict(pooled)
    assert len(stored["dag"]["tasks"]) == len(STEPS)


def test_a_run_joins_its_pool_for_as_long_as_it_may_live_and_leaves_it(pooled: DAG) -> None:
    join, leave = pooled.get_task("create_cluster"), pooled.get_task("delete_cluster")
    assert (join.pool_name, leave.pool_name) == ("mesh", "mesh")
    assert {task.pool for task in pooled.tasks} == {"default_pool"}, "Airflow's pools are something else"
    assert join.lease == longest_life(simulation())
    assert join.results.startswith("s3://{{ site('bucket') }}/lj_melt/")
    assert leave.idle == timedelta(minutes=20)
    assert leave.tags[TAG_POOL] == pooled.get_task("render_cluster_config").tags[TAG_POOL] == "mesh"
    assert "nodes" not in pooled.get_task("render_cluster_config").values
    assert pooled.get_task("hold_cluster").keep_lease is not None
    assert pooled.get_task("connect")._post_execute_hook is not None


@pytest.fixture(scope="module")
def swept() -> SimulationConfig:
    return load_simulation(SIMULATIONS_DIR / "ising_sweep.yaml")


def test_a_sweep_is_the_files_unless_the_form_has_another(swept: SimulationConfig) -> None:
    params = {name: param.value for name, param in trigger_form(swept).items()}
    assert params["sweep"] is None
    own = sweep_of(swept, params)
    assert own is not None
    assert (len(own["points"]), own["max_running"], own["tolerate"]) == (100, 50, 0.05)
    another = sweep_of(swept, params | {"sweep": {"list": [{"size": 8}, {"size": 16}]}})
    assert another == {"points": [{"size": 8}, {"size": 16}], "max_running": None, "tolerate": 0.0}
    assert "sweep" not in job_parameters(swept, params), "it is no parameter of the job"


def test_a_sweep_that_the_forms_schema_cannot_refuse_fails_the_first_task(swept: SimulationConfig) -> None:
    params = {name: param.value for name, param in trigger_form(swept).items()}
    twins: Any = {"params": params | {"sweep": {"list": [{"size": 8}, {"size": 8}]}}}
    with pytest.raises(ConfigurationError, match=r"point 1 .* is point 0 again"):
        check_form(swept, twins)
    assert build_dag(swept).get_task("install_parallelcluster")._pre_execute_hook is not None


def test_a_simulation_without_a_sweep_has_no_field_for_one(dag: DAG) -> None:
    assert "sweep" not in dag.params
    assert dag.get_task("submit_job").sweep is None


def test_every_shipped_simulation_becomes_a_dag() -> None:
    shipped = list(load_simulations())
    assert all(isinstance(each, SimulationConfig) for each in shipped)
    dags = [build_dag(each) for each in shipped if isinstance(each, SimulationConfig)]
    assert len({dag.dag_id for dag in dags}) == len(dags) >= 3
    assert all(dag.doc_md and "hpc" in dag.tags for dag in dags)


def test_only_a_head_node_of_the_present_stack_may_hold_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "site", lambda name: "eu-west-1")
    monkeypatch.setattr(lifecycle, "Account", lambda **_: SimpleNamespace(client=lambda service: service))
    asked: list[Any] = []

    def was_reached(name: str, **where: Any) -> bool:
        asked.append((name, where["since"]))
        return True

    monkeypatch.setattr(lifecycle, "was_reached", was_reached)
    now = datetime.now(UTC)
    rendered: dict[str, str | None] = {
        "ours": "Tags: [{Key: airflow-parallelcluster:airflow, Value: https://airflow.example.org}]",
        "forgotten": None,
        "theirs": "Tags: [{Key: airflow-parallelcluster:airflow, Value: https://staging.example.org}]",
    }
    stack = Stack("melt-1", "arn", "CREATE_FAILED", "", {TAG_AIRFLOW: "https://airflow.example.org"}, now)
    monkeypatch.setattr(lifecycle, "describe_stack", lambda client, name: stack if name == "melt-1" else None)

    def context_of(configuration: str | None, created: dict[str, str] | None = None) -> Any:
        returned = {"render_cluster_config": configuration, "create_cluster": created}
        return {"ti": SimpleNamespace(xcom_pull=lambda task_ids: returned[task_ids])}

    for whose, configuration in rendered.items():
        context = context_of(configuration)
        monkeypatch.setattr(lifecycle, "airflow_url", lambda: "https://airflow.example.org")
        assert lifecycle.was_reached_before(simulation(), context, "melt-1") == (whose != "theirs")
        monkeypatch.setattr(lifecycle, "airflow_url", lambda: "https://another.example.org")
        assert lifecycle.was_reached_before(simulation(), context, "melt-1") == (whose == "ours")
        assert not lifecycle.was_reached_before(simulation(), context, "gone-1")
    assert lifecycle.was_reached_before(simulation(), context_of(None, {"stack_id": "arn"}), "melt-1"), "it made it"
    assert asked == [("melt-1", now)] * 4


def test_the_deletion_knows_which_airflow_the_cluster_is_of(dag: DAG, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "airflow_url", lambda: "https://airflow.example.org")
    tags = dag.get_task("delete_cluster").tags
    for configuration, url in {
        "Tags: [{Key: airflow-parallelcluster:airflow, Value: https://of.the.run}]": "https://of.the.run",
        None: "https://airflow.example.org",
    }.items():
        context: Any = {"ti": SimpleNamespace(xcom_pull=lambda task_ids, found=configuration: found), "run_id": "x"}
        assert dag.get_task("delete_cluster").render_template(tags, context, dag.get_template_env()) == {
            TAG_SIMULATION: dag.dag_id,
            TAG_RUN_ID: "x",
            TAG_AIRFLOW: url,
        }
