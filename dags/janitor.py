"""The janitor: an Airflow DAG for each AWS connection that deletes the clusters that nobody looks after any more."""

from hpc.config import SimulationConfig, load_simulations
from hpc.janitor import build_janitors, listed_connections

simulations = [found for found in load_simulations() if isinstance(found, SimulationConfig)]
globals().update(build_janitors(simulations, listed_connections()))
