"""Ephemeral HPC clusters on AWS, run by Airflow: the operators, sensors, triggers and the lifecycle DAG."""

from pathlib import Path

#: The checkout or deployment: the folder that holds plugins/, config/ and include/.
PROJECT_ROOT = Path(__file__).resolve().parents[2]
