"""Pages inside Airflow's own UI, served by its API server and protected by its log-in."""
