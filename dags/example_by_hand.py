"""The operators without the lifecycle: an Airflow DAG written by hand, to copy from.

It makes a cluster, runs one job with a plain `sbatch` script on it, saves what the job wrote, and deletes the cluster.
What a simulation's YAML file adds to this is described in docs/adding-a-simulation.md.
"""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param

from hpc.cluster.operators import (
    ParallelClusterCreateOperator,
    ParallelClusterDeleteOperator,
    ParallelClusterInstallOperator,
    RenderClusterConfigOperator,
)
from hpc.config import CLUSTERS_DIR, JOB_SCRIPTS_DIR
from hpc.names import cluster_name
from hpc.results.operators import ResultsToS3Operator
from hpc.retries import AWS_CALL, DELETION, ON_WORKER, SLURM_WAIT, TRANSFER
from hpc.site import site
from hpc.slurm.operators import SlurmJobOperator

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
        **AWS_CALL.arguments(),
    ).as_setup()  # type: ignore[no-untyped-call]

    hello = SlurmJobOperator(
        task_id="hello",
        cluster_name=NAME,
        job_script=str(JOB_SCRIPTS_DIR / "hello.sh"),
        parameters="{{ params | tojson }}",
        directory=DIRECTORY,
        resources={"nodes": 2, "walltime": "00:05:00"},
        **SLURM_WAIT.arguments(),
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

    # Airflow does not judge a run by its teardown unless told so, and then no longer by what leads straight to it: so
    # the run fails when the deletion fails, and by this task when anything before it did.
    saved = EmptyOperator(task_id="saved", **ON_WORKER.arguments())

    delete = ParallelClusterDeleteOperator(task_id="delete", cluster_name=NAME, **DELETION.arguments()).as_teardown(
        setups=[render, create], on_failure_fail_dagrun=True
    )

    install >> render >> create >> hello >> save >> [saved, delete]
