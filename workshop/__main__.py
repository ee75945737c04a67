"""`python -m workshop up | down | clean`: a local region and an Airflow in the background."""

from __future__ import annotations

import argparse
import sys

from workshop import LOCAL, demo, processes, region, scratch
from workshop.airflow import USER, AirflowDownError, LocalAirflow
from workshop.stopwatch import Stopwatch

AIRFLOW = LOCAL / "airflow"
REGION = LOCAL / "region"


def up() -> None:
    """Start what does not run, and print how to use it. Runs, clusters and logs of earlier times are still there."""
    watch = Stopwatch()
    airflow = LocalAirflow(AIRFLOW)
    airflow.start()
    with watch.part("region"):
        account = region.up(REGION)
    with watch.part("airflow"):
        airflow.wait_until_ready()
        airflow.connect(account)
    print(f"Airflow    {airflow.access.url}  user {USER}  password {airflow.access.password}")
    print(f"AWS        {account.facts['endpoint_url']}  region {account.facts['region']}")
    print(f"Logs       {airflow.logs}")
    print("Stop both with: make down")


def down() -> None:
    """Stop Airflow, and then the region with its clusters."""
    processes.stop_all(AIRFLOW)
    region.down(REGION)


def clean() -> None:
    """Stop everything, also what a killed demo or test left, and remove all that was ever made here."""
    down()
    demo.stop(demo.DIRECTORY)
    scratch.stop(scratch.DIRECTORY)
    region.remove_tree(LOCAL)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m workshop", description=__doc__)
    parser.add_argument("verb", choices=("up", "down", "clean"))
    try:
        {"up": up, "down": down, "clean": clean}[parser.parse_args().verb]()
    except (AirflowDownError, region.RegionError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
