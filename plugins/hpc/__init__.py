"""Ephemeral HPC clusters on AWS, run by Airflow: the operators, sensors, triggers and the lifecycle DAG."""
