"""The operators without the lifecycle: an Airflow DAG written by hand, to copy from.

It makes a cluster, waits for it and verifies it, runs one job with a plain `sbatch` script while alarms are watched,
saves what the job wrote, and deletes the cluster when the queue is empty.
What a simulation's YAML file adds to this is described in docs/adding-a-simulation.md.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param

from hpc.cluster.delete_operator import ParallelClusterDeleteOperator
from hpc.cluster.operators import (
    ParallelClusterCreateOperator,
    ParallelClusterInstallOperator,
    ParallelClusterVerifyOperator,
    RenderClusterConfigOperator,
)
from hpc.cluster.sensors import ParallelClusterSensor
from hpc.config import CLUSTERS_DIR, JOB_SCRIPTS_DIR
from hpc.monitoring.sensors import CloudWatchAlarmSensor
from hpc.names import cluster_name
from hpc.results.operators import ResultsToS3Operator
from hpc.retries import AWS_CALL, AWS_WAIT, DELETION, HEAD_NODE, ON_WORKER, SLURM_WAIT, STACK_WAIT, TRANSFER
from hpc.site import site
from hpc.slurm.operators import SlurmJobOperator
from hpc.slurm.sensors import SlurmQueueEmptySensor

NAME = "{{ cluster_name(dag.dag_id, run_id) }}"
DIRECTORY = "/fsx/hello"

with DAG(
    dag_id="example_by_hand",
    doc_md=__doc__,
    schedule=None,
    tags=["hpc", "example"],
    params={"greeting": Param("Hello", type="string", maxLength=80, description="What every node says")},
    default_args={"owner": "hpc"},
    user_defined_macros={"cluster_name": cluster_name, "site": site},
    is_paused_upon_creation=False,
) as dag:
    install = ParallelClusterInstallOperator(task_id="install", **ON_WORKER.arguments())

    render = RenderClusterConfigOperator(
        task_id="render",
        cluster_name=NAME,
        template=str(CLUSTERS_DIR / "cpu_ebs.yaml"),
        values={
            "nodes": 2,
            "partition": "compute",
            "region": "{{ site('region') }}",
            "key_name": "{{ site('key_name') }}",
            "bucket": "{{ site('bucket') }}",
            "head_node_subnet_id": "{{ site('head_node_subnet_id') }}",
            "compute_subnet_id": "{{ site('compute_subnet_id') }}",
        },
        **ON_WORKER.arguments(),
    ).as_setup()  # type: ignore[no-untyped-call]

    create = ParallelClusterCreateOperator(
        task_id="create",
        cluster_name=NAME,
        cluster_config="{{ ti.xcom_pull(task_ids='render') }}",
        wait_for_completion=False,
        **AWS_CALL.arguments(),
    ).as_setup()  # type: ignore[no-untyped-call]

    wait_for_stack = ParallelClusterSensor(task_id="wait_for_stack", cluster_name=NAME, **STACK_WAIT.arguments())

    verify = ParallelClusterVerifyOperator(task_id="verify", cluster_name=NAME, **HEAD_NODE.arguments())

    hello = SlurmJobOperator(
        task_id="hello",
        cluster_name=NAME,
        job_script=str(JOB_SCRIPTS_DIR / "hello.sh"),
        parameters="{{ params | tojson }}",
        directory=DIRECTORY,
        resources={"nodes": 2, "walltime": "00:05:00"},
        **SLURM_WAIT.arguments(),
    )

    watch_alarms = CloudWatchAlarmSensor(
        task_id="watch_alarms",
        cluster_name=NAME,
        alarm_names=[f"{NAME}-HeadNode"],
        until_task_ids=["hello"],
        **AWS_WAIT.arguments(),
    )

    save = ResultsToS3Operator(
        task_id="save",
        cluster_name=NAME,
        directory=DIRECTORY,
        patterns=["hello.txt"],
        bucket="{{ site('bucket') }}",
        prefix=f"example_by_hand/{NAME}",
        facts_from=["hello"],
        **TRANSFER.arguments(),
    )

    wait_for_empty_queue = SlurmQueueEmptySensor(
        task_id="wait_for_empty_queue", cluster_name=NAME, **SLURM_WAIT.arguments()
    )

    # Airflow does not judge a run by its teardown unless told so, and then no longer by what leads straight to it: so
    # the run fails when the deletion fails, and by this task when anything before it did.
    done = EmptyOperator(task_id="done", **ON_WORKER.arguments())

    delete = ParallelClusterDeleteOperator(task_id="delete", cluster_name=NAME, **DELETION.arguments()).as_teardown(
        setups=[render, create], on_failure_fail_dagrun=True
    )

    install >> render >> create >> wait_for_stack >> verify >> [hello, watch_alarms]
    hello >> save >> wait_for_empty_queue
    [wait_for_empty_queue, watch_alarms] >> done
    [wait_for_empty_queue, watch_alarms] >> delete
