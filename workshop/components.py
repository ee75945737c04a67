"""Airflow's four components, forked from one process that has imported Airflow once.

    python -P components.py LOGS [--revive]

Importing Airflow and the libraries of the operators takes several seconds of a core; four components and eight workers
of the local executor would each pay for it. Here they share it, and all is ready in half the time. What runs in each
process is Airflow's own command. When one component ends, so does this process, which leads the session; with
`--revive` it starts that component again, as whatever runs Airflow does elsewhere. LOGS has the process id of each.

It is a program of its own, run without the checkout on Python's path: Airflow must see what it sees anywhere else.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

#: What all components import. The API server goes on from there by itself: nobody else needs what it imports.
FOR_ALL = ("airflow.__main__",)
#: What the other three, and the tasks and triggers in them, import.
FOR_TASKS = (
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.executors.local_executor",
    "airflow.dag_processing.manager",
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.providers.ssh.hooks.ssh",
    "aiobotocore.session",
    "asyncssh",
    "boto3",
)


def main() -> int:
    """Import, fork the components and wait until one of them ends."""
    logs, revive = Path(sys.argv[1]), "--revive" in sys.argv[2:]
    share(FOR_ALL)
    children = {fork(logs, "api-server"): "api-server"}
    share(FOR_TASKS)
    for component in ("scheduler", "dag-processor", "triggerer"):
        children[fork(logs, component)] = component
    while True:
        pid, status = os.wait()
        component = children.pop(pid)
        print(f"{component} ended with {os.waitstatus_to_exitcode(status)}; see {component}.log", flush=True)
        if not revive:
            return 1
        children[fork(logs, component)] = component


def share(modules: tuple[str, ...]) -> None:
    """Import modules, and keep the garbage collector from touching, and so copying, their memory in the children."""
    for module in modules:
        importlib.import_module(module)
    gc.freeze()


def fork(logs: Path, component: str) -> int:
    """Run one component in a process group of its own, and return its process id."""
    options = ["--skip-serve-logs"] if component in ("scheduler", "triggerer") else []
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        log = os.open(logs / f"{component}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["airflow", component, *options]
        from airflow.__main__ import main as airflow_command

        airflow_command()  # type: ignore[no-untyped-call]
        sys.exit(0)
    (logs / f"{component}.pid").write_text(str(pid))
    return pid


if __name__ == "__main__":
    sys.exit(main())
