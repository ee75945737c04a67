"""One simulation -> one DAG: the thirteen steps of an ephemeral HPC cluster, read from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import (
    DAG,
    BaseOperator,
    CronTriggerTimetable,
    TaskGroup,
    chain,
)
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert
from airflow.sdk.definitions.param import ParamsDict

from hpc import deadline, names, retries
from hpc.cluster.account import Account
from hpc.cluster.decision import other_owner
from hpc.cluster.delete_operator import ParallelClusterDeleteOperator
from hpc.cluster.fleet import start_compute_fleet
from hpc.cluster.history import cluster_history
from hpc.cluster.hold import HoldClusterOperator
from hpc.cluster.operators import (
    ParallelClusterCreateOperator,
    ParallelClusterInstallOperator,
    ParallelClusterVerifyOperator,
    RenderClusterConfigOperator,
)
from hpc.cluster.pool import PoolStore
from hpc.cluster.pool_operators import JoinPoolOperator, LeavePoolOperator, has_reached, note_reached, renew_lease
from hpc.cluster.sensors import ParallelClusterSensor
from hpc.cluster.stacks import describe_stack
from hpc.cluster.template import airflow_of
from hpc.config import (
    SIMULATIONS_DIR,
    Export,
    KeepFor,
    Resources,
    Schedule,
    SimulationConfig,
    SimulationFileError,
    load_simulations,
)
from hpc.deadline_reference import DagRunCreatedDeadline
from hpc.durations import format_duration, format_walltime
from hpc.errors import ConfigurationError, RunFailedError
from hpc.execute_hook import ExecuteHook
from hpc.form import check_form, job_parameters, sweep_of, trigger_form
from hpc.head_node.address import was_reached
from hpc.head_node.operators import HeadNodeConnectOperator
from hpc.monitoring.sensors import CloudWatchAlarmSensor
from hpc.notify import Teller
from hpc.report import RUN_FAILED, RunReportOperator, describe_simulation
from hpc.results.on_premises_operator import ResultsOnPremisesOperator
from hpc.results.operators import ResultsToS3Operator
from hpc.site import DEFAULT_CONNECTION, VARIABLE, airflow_url, site, site_connections
from hpc.slurm.operators import SlurmJobOperator
from hpc.slurm.sensors import SlurmAllocationSensor, SlurmJobSensor, SlurmQueueEmptySensor

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.timetable import BaseTimetable

#: The name of a run: of its folder, of its prefix in S3, and of its cluster if that is its own. See `hpc.names`.
RUN = "{{ cluster_name(dag.dag_id, run_id) }}"
#: The name of the cluster that a run shares; empty before it has joined. No task computes it: see `hpc.cluster.pool`.
SHARED_CLUSTER = "{{ (ti.xcom_pull(task_ids='create_cluster') or {}).get('cluster_name', '') }}"
#: The URL of the Airflow that the run's cluster is of. Another one may have a run of the same name.
MADE_BY = "{{ made_by(ti.xcom_pull(task_ids='render_cluster_config')) }}"
#: A fact of the account, from Airflow's Variable `hpc_site`. See `hpc.site.site`.
SITE = "{{ site('%s') }}"
#: What an earlier task returned, as JSON. A template and not an XComArg: it adds no arrow to the graph.
RETURNED = "{{ ti.xcom_pull(task_ids='%s') | tojson }}"
#: The configurations of `cluster.alternatives`, as JSON.
ALTERNATIVES = "{{ ti.xcom_pull(task_ids='render_cluster_config', key='alternatives') | tojson }}"
#: What Slurm and the job's wrapper leave beside the results: rendered script, record, output.
JOB_HISTORY = (".slurm/*/attempt-*/*", "*.log")
#: What Slurm's daemon wrote, as far as the SSH user may read it.
SLURM_LOGS = {"/var/log/slurmctld.log": ".slurm/slurmctld.log"}
#: And what the points of a sweep leave.
SWEEP_HISTORY = (".slurm/*/attempt-*/elements/*/end", "points/*/output.log")
#: The tasks that submit jobs.
SUBMITTING = ("submit_job", "postprocess")
#: The values of the trigger form, as JSON, so that a text reaches the job byte for byte.
PARAMETERS = "{{ job_parameters(params) | tojson }}"
#: The points of a sweep, from the trigger form or else from the file; null for a job that is no sweep.
SWEEP = "{{ sweep_of(params) | tojson }}"


def build_dags(directory: Path = SIMULATIONS_DIR, only: str | None = None) -> Iterator[DAG | SimulationFileError]:
    """Build the DAG of every simulation of a folder, or the error that says why there is none: one stops no other.

    `only` names a single simulation: a task needs no other DAG than its own.
    """
    for found in load_simulations(directory, only):
        if isinstance(found, SimulationFileError):
            yield found
            continue
        dag: DAG | SimulationFileError
        try:
            dag = build_dag(found)
        except Exception as error:
            file = next(directory.glob(f"{found.name}.y*ml"))
            dag = SimulationFileError(file, [f"cannot become a DAG: {type(error).__name__}: {error}"])
        yield dag


def build_dag(simulation: SimulationConfig) -> DAG:
    """Return the DAG of a simulation."""
    with DAG(
        dag_id=simulation.name,
        description=simulation.description,
        doc_md=describe_simulation(simulation),
        schedule=timetable(simulation.schedule),
        start_date=start_date(simulation.schedule),
        catchup=bool(simulation.schedule and simulation.schedule.catchup),
        tags=["hpc", *simulation.tags],
        default_args={"owner": simulation.owner},
        deadline=DeadlineAlert(
            reference=DagRunCreatedDeadline(),
            interval=simulation.deadline,
            callback=AsyncCallback(
                deadline.alert,
                {
                    "simulation": simulation.name,
                    "deadline": format_duration(simulation.deadline),
                    "notify": simulation.notify.model_dump(mode="json") if simulation.notify else None,
                    "aws_conn_id": simulation.connections.aws,
                    "pool": simulation.cluster.pool,
                    "seconds": simulation.deadline.total_seconds(),
                },
            ),
        ),
        user_defined_macros={
            "cluster_name": names.cluster_name,
            "tag_value": names.tag_value,
            "expiry": names.expiry,
            "site": site,
            "airflow_url": airflow_url,
            "made_by": made_by,
            "job_parameters": partial(job_parameters, simulation),
            "sweep_of": partial(sweep_of, simulation),
        },
        is_paused_upon_creation=False,
        auto_register=False,  # the DAG file does that: dags/check_simulations.py builds every DAG without having one
    ) as dag:
        add_tasks(simulation)
    # After the tasks: each would get a copy of the form, and Airflow validates every copy again and again.
    dag.params = ParamsDict(trigger_form(simulation))
    return dag


def timetable(schedule: Schedule | None) -> BaseTimetable | None:
    """Return when the simulation starts by itself; None for manual runs only."""
    if schedule is None:
        return None
    if schedule.cron is not None:
        # A cluster costs money: deploying a file must not start one for the interval before.
        return CronTriggerTimetable(schedule.cron, timezone=schedule.timezone, run_immediately=timedelta(0))
    made: BaseTimetable = schedule.make_timetable()
    return made


def start_date(schedule: Schedule | None) -> datetime | None:
    """Return the first moment for which a scheduled run may be made; None for "from now on" or no schedule."""
    if schedule is None or schedule.start is None:
        return None
    return datetime.combine(schedule.start, clock(), tzinfo=ZoneInfo(schedule.timezone)).astimezone(UTC)


def check_connection(simulation: SimulationConfig) -> None:
    """Raise ConfigurationError for a run whose cluster no janitor would find without its file, before there is one."""
    used = simulation.connections.aws
    if used != DEFAULT_CONNECTION and used not in site_connections():
        raise ConfigurationError(
            f"connections.aws = {used!r}: is not among aws_connections of the Variable {VARIABLE}, so nobody would "
            "look after the cluster of a run that was lost, once the file of this simulation is gone or broken",
            remedy=f'add "aws_connections": ["{used}"] to {VARIABLE}, or the name to the list there; a janitor then '
            "looks after the clusters of that connection, whatever becomes of the file",
        )


def check_run(simulation: SimulationConfig, context: Context) -> None:
    """Raise ConfigurationError for a run that cannot be computed or looked after, before there is a cluster."""
    check_connection(simulation)
    check_form(simulation, context)


def add_tasks(simulation: SimulationConfig) -> None:
    """Add the thirteen steps to the DAG that is being built, in their order; the chain at the bottom is the picture."""
    aws: dict[str, Any] = {"aws_conn_id": simulation.connections.aws, "region_name": SITE % "region"}
    ssh: dict[str, Any] = {"ssh_conn_id": simulation.connections.ssh}
    pool = simulation.cluster.pool
    cluster = RUN if pool is None else SHARED_CLUSTER
    on_cluster = {"cluster_name": cluster, "head_node": RETURNED % "connect", **aws, **ssh}
    directory = f"{simulation.cluster.shared_dir}/runs/{RUN}"
    life = longest_life(simulation) // timedelta(seconds=1)
    wait = waits(simulation)
    ours = {names.TAG_SIMULATION: simulation.name, names.TAG_RUN_ID: "{{ tag_value(run_id) }}"}
    if pool is not None:
        ours[names.TAG_POOL] = pool
    policy = _policies(simulation.retries)
    staging = replace(retries.STAGING, timeout=min(retries.STAGING.timeout, simulation.deadline))
    tell = Teller(simulation.notify, simulation.connections.aws, pool)
    in_time = partial(deadline.require_time, simulation.deadline)
    in_time_or_reached = partial(in_time, was_reached=partial(was_reached_before, simulation))

    with TaskGroup("provision", prefix_group_id=False, tooltip="Steps 1 to 5: from nothing to a cluster"):
        install_parallelcluster = ParallelClusterInstallOperator(
            task_id="install_parallelcluster",
            pre_execute=ExecuteHook(partial(check_run, simulation)),
            **policy(retries.ON_WORKER),
        )
        # A setup task before there is a cluster: so the teardown also runs when create_cluster fails half-way.
        render_cluster_config = RenderClusterConfigOperator(
            task_id="render_cluster_config",
            cluster_name=RUN,
            template=str(simulation.cluster.template),
            values=_template_values(simulation),
            overrides=dict(simulation.cluster.values),
            alternatives=simulation.cluster.alternatives,
            tags={
                **ours,
                names.TAG_OWNER: simulation.owner,
                names.TAG_EXPIRES: f"{{{{ expiry(dag_run.start_date, {life}) }}}}",
                names.TAG_AIRFLOW: "{{ tag_value(airflow_url()) }}",
                names.TAG_SSH: names.encode_tag(simulation.connections.ssh, otherwise=""),
                **_results_tags(simulation),
            },
            **aws,
            **policy(retries.ON_WORKER),
        ).as_setup()  # type: ignore[no-untyped-call]
        create_cluster, wait_for_stack = _make_cluster(simulation, aws)
        verify_cluster = ParallelClusterVerifyOperator(
            task_id="verify_cluster",
            cluster_name=cluster,
            shared_dir=simulation.cluster.shared_dir,
            pre_execute=ExecuteHook(in_time_or_reached),
            **aws,
            **ssh,
            **policy(retries.HEAD_NODE),
        )

    with TaskGroup("compute", prefix_group_id=False, tooltip="Steps 6 to 10: the job"):
        # A setup task: whatever comes after it, a person's mark on the run included, what the job left is saved.
        connect = HeadNodeConnectOperator(
            task_id="connect",
            cluster_name=cluster,
            directory=directory,
            pre_execute=ExecuteHook(in_time_or_reached),
            post_execute=None if pool is None else ExecuteHook(partial(note_reached_in_lease, simulation)),
            **aws,
            **ssh,
            **policy(retries.HEAD_NODE),
        ).as_setup()  # type: ignore[no-untyped-call]
        submit_job = SlurmJobOperator(
            task_id="submit_job",
            job_script=str(simulation.job.path),
            parameters=PARAMETERS,
            directory=directory,
            resources=_slurm_request(simulation.resources),
            inputs=[{"source": file.source, "name": file.name} for file in simulation.inputs],
            sweep=SWEEP if simulation.sweep is not None else None,
            checkpoint=simulation.checkpoint.model_dump() if simulation.checkpoint else None,
            wait_for_completion=False,
            pre_execute=ExecuteHook(in_time),
            **on_cluster,
            **policy(staging),
        )
        wait_for_allocation = SlurmAllocationSensor(
            task_id="wait_for_allocation",
            job=RETURNED % "submit_job",
            capacity_grace=simulation.pending.grace,
            on_no_capacity=simulation.pending.on_no_capacity,
            partitions=simulation.pending.partitions,
            on_stopped_fleet=simulation.pending.on_stopped_fleet,
            start_fleet=start_compute_fleet,
            **wait,
            **on_cluster,
            **policy(retries.SLURM_WAIT),
        )
        run_job = SlurmJobSensor(
            task_id="run_job", job=RETURNED % "submit_job", **wait, **on_cluster, **policy(retries.SLURM_WAIT)
        )
        watch_alarms = CloudWatchAlarmSensor(
            task_id="watch_alarms",
            cluster_name=cluster,
            alarm_names=[f"{cluster}-{alarm}" for alarm in simulation.monitoring.alarms],
            on_alarm=simulation.monitoring.on_alarm,
            tell=tell,
            until_task_ids=["run_job"],
            # It runs beside two waits in a row, and must not fail a job for being longer than itself.
            waiter_delay=wait["waiter_delay"],
            waiter_max_attempts=2 * wait["waiter_max_attempts"],
            **aws,
            **policy(retries.AWS_WAIT),
        )

    with TaskGroup("results", prefix_group_id=False, tooltip="Steps 11 and 12: results and pictures"):
        saved, sent = _add_results(simulation, directory=directory, on_cluster=on_cluster, ran=[connect, run_job])

    with TaskGroup("release", prefix_group_id=False, tooltip="Step 13: from a cluster to nothing"):
        wait_for_empty_queue = SlurmQueueEmptySensor(
            task_id="wait_for_empty_queue",
            jobs_of=() if pool is None else SUBMITTING,
            directory=directory,
            **wait,
            **on_cluster,
            **policy(retries.SLURM_WAIT),
        )
        hold_cluster = HoldClusterOperator(
            task_id="hold_cluster",
            cluster_name=cluster,
            created_by="create_cluster",
            reached_by="connect",
            exported_by="export_results" if isinstance(simulation.export, Export) else None,
            also_exported_by=["export_pictures"],
            regardless_of=["send_on_premises"],
            keep_for=_keep_for(simulation),
            hold_if_unverified=_hold(simulation),
            tell=tell,
            was_reached=partial(was_reached_before, simulation),
            keep_lease=None if pool is None else partial(keep_lease, simulation),
            on_failure_callback=tell.failed("whether its results are safe is NOT KNOWN, and its cluster is deleted"),
            on_retry_callback=tell.retried("whether its results are safe is not known"),
            **retries.DELETION.arguments(),
        ).as_teardown(setups=[render_cluster_config, create_cluster])
        # Not with the simulation's own number of retries: `retries: 0` is meant for the job, not for its safety net.
        delete_cluster = _make_delete_cluster(
            simulation,
            directory=directory,
            tags={**ours, names.TAG_AIRFLOW: MADE_BY},
            stack_id="{{ (ti.xcom_pull(task_ids='create_cluster') or {}).get('stack_id', '') }}",
            on_failure_callback=tell.failed("the deletion of its cluster FAILED"),
            on_retry_callback=tell.retried("the deletion of its cluster failed"),
            **on_cluster,
            **retries.DELETION.arguments(),
        ).as_teardown(setups=[render_cluster_config, create_cluster])
        # A teardown as well: who marks a run as failed skips every task but teardowns, and a run whose last task was
        # skipped would count as a success even when its deletion failed.
        report = RunReportOperator(
            task_id="report",
            cluster_name=cluster,
            tell=tell,
            on_failure_callback=tell.failed(RUN_FAILED, unless=RunFailedError),
            **policy(retries.ON_WORKER),
        ).as_teardown(on_failure_fail_dagrun=True)

    chain(install_parallelcluster, render_cluster_config, create_cluster, wait_for_stack, verify_cluster, connect)
    chain(connect, submit_job, wait_for_allocation, run_job)
    submit_job >> watch_alarms
    [run_job, watch_alarms, *saved] >> wait_for_empty_queue
    [wait_for_empty_queue, watch_alarms, *saved] >> hold_cluster >> delete_cluster >> report
    # It needs S3 and not the cluster: a site that is down delays the verdict on the run and nothing else.
    sent >> report


def _make_cluster(simulation: SimulationConfig, aws: dict[str, Any]) -> tuple[BaseOperator, BaseOperator]:
    """Return the tasks that make the run's cluster, or join the pool whose cluster it shares, and wait for it."""
    policy, until = _policies(simulation.retries), waits(simulation)["until"]
    making: dict[str, Any] = {
        "cluster_config": "{{ ti.xcom_pull(task_ids='render_cluster_config') }}",
        "evidence_uri": f"s3://{SITE % 'bucket'}/failed-creates/{RUN}",
        "rollback_on_failure": not isinstance(simulation.on_failure, KeepFor),
        "until": until,
        **aws,
    }
    create: BaseOperator
    wait: BaseOperator
    if simulation.cluster.pool is None:
        making |= {"cluster_name": RUN, "alternatives": ALTERNATIVES if simulation.cluster.alternatives else []}
        create = ParallelClusterCreateOperator(
            task_id="create_cluster", wait_for_completion=False, **making, **policy(retries.AWS_CALL)
        )
        wait = ParallelClusterCreateOperator(
            task_id="wait_for_stack", adopt_only=True, **making, **policy(retries.CREATION)
        )
    else:
        results = names.DISCARD
        if simulation.export != "discard":
            results = "s3://{}/{}".format(*_results_place(simulation, simulation.export))
        create = JoinPoolOperator(
            task_id="create_cluster",
            pool_name=simulation.cluster.pool,
            bucket=SITE % "bucket",
            lease=longest_life(simulation),
            results=results,
            wait_for_completion=False,
            **making,
            **policy(retries.AWS_CALL),
        )
        # It waits only: to make a cluster anew that others may hold is for who joins its pool.
        wait = ParallelClusterSensor(
            task_id="wait_for_stack", cluster_name=SHARED_CLUSTER, until=until, **aws, **policy(retries.STACK_WAIT)
        )
    return create.as_setup(), wait  # type: ignore[no-untyped-call]


def _make_delete_cluster(
    simulation: SimulationConfig, *, directory: str, head_node: str, ssh_conn_id: str, **arguments: Any
) -> ParallelClusterDeleteOperator:
    """Return the task that deletes the run's cluster, or leaves the pool, and deletes the shared one as the last."""
    if simulation.cluster.pool is None:
        return ParallelClusterDeleteOperator(task_id="delete_cluster", **arguments)
    return LeavePoolOperator(
        task_id="delete_cluster",
        pool_name=simulation.cluster.pool,
        bucket=SITE % "bucket",
        idle=simulation.cluster.idle,
        jobs_of=SUBMITTING,
        directory=directory,
        head_node=head_node,
        ssh_conn_id=ssh_conn_id,
        **arguments,
    )


def was_reached_before(simulation: SimulationConfig, context: Context, cluster_name: str) -> bool:
    """Say whether a run has ever connected to its cluster."""
    if simulation.cluster.pool is not None:  # of its head node's tag, nobody knows which run it is of
        return has_reached(_pool_of(simulation), context)
    account: dict[str, Any] = {"aws_conn_id": simulation.connections.aws, "region_name": site("region")}
    stack = describe_stack(Account(**account).client("cloudformation"), cluster_name)
    # Without a stack nothing can be kept, and one of the same name may be another Airflow's. EC2 shows the head node of
    # an earlier cluster of that name for an hour.
    if stack is None:
        return False
    pull = context["ti"].xcom_pull
    made_here = stack.id == (pull(task_ids="create_cluster") or {}).get("stack_id")  # as the deletion has it
    airflow = made_by(pull(task_ids="render_cluster_config"))
    is_ours = made_here or not other_owner(stack, {names.TAG_AIRFLOW: airflow})
    return is_ours and was_reached(cluster_name, since=stack.created, **account)


def made_by(configuration: str | None) -> str:
    """Return the URL of the Airflow that a run's cluster is of, as its tag has it.

    It is that of the run's configuration, for another worker may have been told another one; our own if there is none.
    """
    return airflow_of(configuration) or names.tag_value(airflow_url())


def note_reached_in_lease(simulation: SimulationConfig, context: Context, result: Any = None) -> None:
    """Note in the run's lease that it has connected to the cluster that it shares."""
    note_reached(_pool_of(simulation), context)


def _pool_of(simulation: SimulationConfig) -> PoolStore:
    account = Account(simulation.connections.aws, site("region"))
    return PoolStore(account.client("s3"), site("bucket"), str(simulation.cluster.pool))


def keep_lease(simulation: SimulationConfig, context: Context, until: datetime) -> None:
    """Let a run hold the cluster that it shares until a moment."""
    renew_lease(_pool_of(simulation), context, until)


def _add_results(
    simulation: SimulationConfig, *, directory: str, on_cluster: dict[str, Any], ran: list[BaseOperator]
) -> tuple[list[BaseOperator], list[BaseOperator]]:
    """Add what saves the results and makes the pictures.

    Returns the tasks that the deletion waits for, and those that can outlive the cluster.
    """
    if simulation.export == "discard":
        return [], []
    export, post = simulation.export, simulation.postprocess
    policy = _policies(simulation.retries)
    bucket, prefix = _results_place(simulation, export)
    target: dict[str, Any] = {"bucket": bucket, "prefix": prefix}
    receipt = f"s3://{bucket}/{prefix}/receipt.json"
    if export.through_data_repository:
        target = {"data_repository": simulation.cluster.shared_dir}
        receipt = "{{ ti.xcom_pull(task_ids='export_results')['receipt_uri'] }}"

    # A teardown of the connection: also after a failed job, for what it left often explains the failure; after a
    # submission that failed, for its answer may have been lost and the job be there; and when a person marks the run as
    # failed, which skips every task but teardowns. All it needs is a head node that was reached.
    export_results = ResultsToS3Operator(
        task_id="export_results",
        directory=directory,
        patterns=[*simulation.outputs, *JOB_HISTORY, *(SWEEP_HISTORY if simulation.sweep else ())],
        written_by="run_job",
        jobs_of="submit_job",
        facts_from=["submit_job", "run_job", "render_cluster_config", "verify_cluster", "install_parallelcluster"],
        history=cluster_history,
        logs=SLURM_LOGS,
        **target,
        **on_cluster,
        **policy(retries.TRANSFER),
    ).as_teardown(setups=[ran[0]])
    ran >> export_results
    saved: list[BaseOperator] = [export_results]
    sent: list[BaseOperator] = []
    if export.on_premises is not None:
        send_on_premises = ResultsOnPremisesOperator(
            task_id="send_on_premises",
            receipt_uri=receipt,
            sftp_conn_id=export.on_premises.sftp_conn_id,
            directory=f"{export.on_premises.directory.rstrip('/')}/{RUN}",
            aws_conn_id=on_cluster["aws_conn_id"],
            region_name=on_cluster["region_name"],
            **policy(retries.TRANSFER),
        )
        export_results >> send_on_premises
        sent.append(send_on_premises)
    if post is not None:
        postprocess = SlurmJobOperator(
            task_id="postprocess",
            job_script=str(post.path),
            parameters=PARAMETERS,
            directory=directory,
            resources=_slurm_request(Resources(walltime=post.walltime, partition=simulation.resources.partition)),
            inputs=[{"source": file.source, "name": file.name} for file in post.inputs],
            **waits(simulation),
            **on_cluster,
            **policy(retries.STAGING),
        )
        export_pictures = ResultsToS3Operator(
            task_id="export_pictures",
            directory=directory,
            patterns=list(post.pictures),
            bucket=bucket,
            prefix=f"{prefix}/pictures",
            gallery=True,
            facts_from=["postprocess"],
            **on_cluster,
            **policy(retries.TRANSFER),
        )
        [export_results, ran[-1]] >> postprocess >> export_pictures
        saved += [postprocess, export_pictures]
    return saved, sent


def _results_place(simulation: SimulationConfig, export: Export) -> tuple[str, str]:
    """Return the bucket and the prefix of a run's results."""
    return export.bucket or SITE % "bucket", f"{_prefix(simulation, export)}/{RUN}"


def _prefix(simulation: SimulationConfig, export: Export) -> str:
    return export.prefix or simulation.name


def _results_tags(simulation: SimulationConfig) -> dict[str, str]:
    """Return the tags that tell the janitor which files of a run to save, and where to.

    Of a shared cluster these are all files of all runs that have not left it: which runs those are, no tag can say.
    """
    runs = f"{simulation.cluster.shared_dir}/runs"
    if simulation.cluster.pool is not None:
        return {
            names.TAG_DIRECTORY: runs,
            names.TAG_OUTPUTS: "=2A=2A",
            names.TAG_RESULTS: f"s3://{SITE % 'bucket'}/pools/{simulation.cluster.pool}/{RUN}",
        }
    pictures = simulation.postprocess.pictures if simulation.postprocess else ()
    outputs = {
        names.TAG_DIRECTORY: f"{runs}/{RUN}",
        names.TAG_OUTPUTS: names.encode_tag(*simulation.outputs, *pictures, otherwise="=2A=2A"),
    }
    export = simulation.export
    if export == "discard":
        return {**outputs, names.TAG_RESULTS: names.DISCARD}
    # Of 256 characters, the longest names of a bucket and a cluster leave 140.
    prefix = names.encode_tag(_prefix(simulation, export), otherwise="")
    folder = prefix if 0 < len(prefix) <= 140 else simulation.name
    return {**outputs, names.TAG_RESULTS: f"s3://{export.bucket or SITE % 'bucket'}/{folder}/{RUN}"}


def waits(simulation: SimulationConfig) -> dict[str, Any]:
    """Return the limits of the waits for the job: all end at the run's deadline.

    They fail then, which stops the run in order: the export ends the job and saves what there is, and the cluster goes.
    """
    delay, seconds = 30, simulation.deadline.total_seconds()
    return {
        "waiter_delay": delay,
        "waiter_max_attempts": max(1, math.ceil(seconds / delay)),
        "until": f"{{{{ expiry(dag_run.start_date, {seconds:.0f}) }}}}",
    }


def longest_life(simulation: SimulationConfig) -> timedelta:
    """Return how long a run's cluster may live at the most: the deadline and the longest hold after it."""
    return simulation.deadline + max(_hold(simulation), _keep_for(simulation) or timedelta(0))


def _hold(simulation: SimulationConfig) -> timedelta:
    return simulation.export.hold_if_unverified if isinstance(simulation.export, Export) else timedelta(0)


def _keep_for(simulation: SimulationConfig) -> timedelta | None:
    return simulation.on_failure.keep_for if isinstance(simulation.on_failure, KeepFor) else None


def _policies(own_retries: int | None) -> Callable[[retries.TaskPolicy], dict[str, Any]]:
    """Return what turns a named policy into an operator's arguments, with the simulation's own number of retries."""
    return lambda policy: policy.with_retries(own_retries).arguments()


def _template_values(simulation: SimulationConfig) -> dict[str, Any]:
    """Return what every cluster template may use, beside the simulation's own `cluster.values`."""
    facts = ("region", "head_node_subnet_id", "compute_subnet_id", "key_name", "bucket")
    own = {"nodes": simulation.resources.nodes, "partition": simulation.resources.partition}
    if simulation.cluster.pool is not None:
        del own["nodes"]  # a shared cluster is of the size that all its simulations say, in `cluster.values`
    return {name: SITE % name for name in facts} | own


def _slurm_request(resources: Resources) -> dict[str, Any]:
    """Return the resources of a job as SlurmJobOperator takes them, walltime as Slurm writes it."""
    return resources.model_dump() | {"walltime": format_walltime(resources.walltime)}
