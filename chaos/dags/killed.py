"""Two jobs whose Airflow is killed meanwhile: the triggerer waits for one of them, the worker for the other."""

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG

from hpc.slurm.operators import SlurmJobOperator

with DAG("killed", schedule=None, params={"folder": "", "seconds": 8}):
    for place in ("triggerer", "worker"):
        SlurmJobOperator(
            task_id=place,
            cluster_name="chaos-airflow",
            job_script=Path(__file__).with_name("job.sh").resolve(),
            job_name="chaos.job",
            directory="{{ params.folder }}/" + place,
            parameters={"ran": "{{ params.folder }}/" + place + "/ran", "seconds": "{{ params.seconds }}"},
            deferrable=place == "triggerer",
            waiter_delay=1,
            waiter_max_attempts=600,
            retries=10,
            retry_delay=timedelta(seconds=1),
        )
