"""The shipped lifecycle for a real Airflow that is killed, with pauses of a second, and tries for each of the kills."""

from datetime import timedelta

from chaos.lifecycle.dags import dag_of
from chaos.lifecycle.plan import WHOLE
from chaos.lifecycle.simulation import simulation_of

dag = dag_of({"simulation": simulation_of(WHOLE)})
for task in dag.tasks:
    task.retries = max(task.retries or 0, 12)
    task.retry_delay = timedelta(seconds=1)
    task.max_retry_delay = timedelta(seconds=5)
