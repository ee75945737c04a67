"""One Airflow DAG for each simulation in config/simulations/.

A file that cannot become a DAG is left out here, so that the others go on; check_simulations.py reports it.
"""

from hpc.config import SimulationConfig, load_simulations
from hpc.lifecycle import build_dag

for simulation in load_simulations():
    if isinstance(simulation, SimulationConfig):
        globals()[simulation.name] = build_dag(simulation)
