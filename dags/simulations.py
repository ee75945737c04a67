"""One Airflow DAG for each simulation in config/simulations/.

A file that cannot become a DAG is left out here, so that the others go on; check_simulations.py reports it.
A task's process reads only the file of its own DAG.
"""

from airflow.sdk import DAG, get_parsing_context

from hpc.checked import fingerprint, remember
from hpc.lifecycle import build_dags

only = get_parsing_context().dag_id
files = fingerprint() if only is None else ""
problems = []
for dag in build_dags(only=only):
    if isinstance(dag, DAG):
        globals()[dag.dag_id] = dag
    else:
        problems.append(str(dag))
if only is None:
    remember(files=files, problems=problems)
