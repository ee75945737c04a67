"""One Airflow DAG for each simulation in config/simulations/.

A file that cannot become a DAG is left out here, so that the others go on; check_simulations.py reports it.
"""

from airflow.sdk import DAG

from hpc.lifecycle import build_dags

for dag in build_dags():
    if isinstance(dag, DAG):
        globals()[dag.dag_id] = dag
