"""The shipped single-node simulation as more Airflow DAGs for the end-to-end tests.

One on a schedule, one whose job fails, one whose job never ends, the same with a deadline, one with nothing but a
greeting to compute and no patience with leftovers, two whose results cannot be saved, one whose runs share a cluster.
"""

from datetime import timedelta
from pathlib import Path

from hpc.config import SIMULATIONS_DIR, Job, Notify, Schedule, load_simulation
from hpc.lifecycle import build_dag
from hpc.parameters import StringParameter

shipped = load_simulation(SIMULATIONS_DIR / "ising_2d.yaml").model_copy(update={"postprocess": None, "schedule": None})

every_minute = build_dag(shipped.model_copy(update={"name": "every_minute", "schedule": Schedule(cron="* * * * *")}))
every_minute.is_paused_upon_creation = True

failing_script = str(Path(__file__).with_name("failing_job.sh").resolve())
failing_job = build_dag(
    shipped.model_copy(
        update={
            "name": "failing_job",
            "job": shipped.job.model_copy(update={"script": failing_script}),
            "outputs": ("partial*.txt",),
        }
    )
)

endless_script = str(Path(__file__).with_name("endless_job.sh").resolve())
endless = shipped.model_copy(
    update={
        "name": "endless_job",
        "job": Job.model_construct(script=endless_script, parameters={}),
        "inputs": (),
        "outputs": ("partial.txt",),
    }
)
endless_job = build_dag(endless)
# Long enough for the job to begin on two cores with all other runs beside it. Its walltime ends after the run's time.
deadline = timedelta(minutes=5)
late_job = build_dag(
    endless.model_copy(
        update={
            "name": "late_job",
            "deadline": deadline,
            "resources": shipped.resources.model_copy(update={"walltime": deadline - timedelta(seconds=1)}),
            "notify": Notify(slack="people"),
        }
    )
)

greeting = StringParameter(type="string", default="Hello")
leftover = build_dag(
    shipped.model_copy(
        update={
            "name": "leftover",
            "job": Job(script="hello.sh", parameters={"greeting": greeting}),
            "inputs": (),
            "export": "discard",
        }
    )
)
without_results = shipped.model_copy(
    update={
        "job": Job(script="hello.sh", parameters={"greeting": greeting}),
        "inputs": (),
        "outputs": ("hello.txt", "missing.txt"),
        "notify": Notify(slack="people"),
    }
)
unsaved = build_dag(without_results.model_copy(update={"name": "unsaved"}))
given_up = build_dag(without_results.model_copy(update={"name": "given_up"}))
pool = {"sharing": "pooled", "name": "tests", "idle": timedelta(seconds=1), "values": {"nodes": 2}}
shared = build_dag(
    shipped.model_copy(
        update={
            "name": "shared",
            "cluster": shipped.cluster.model_copy(update=pool),
            "job": Job(script="hello.sh", parameters={"greeting": greeting}),
            "inputs": (),
            "outputs": ("hello.txt",),
        }
    )
)
for held in (unsaved, given_up):
    held.get_task("export_results").retries = 0
leftover.get_task("delete_cluster").settle_seconds = 1
leftover.get_task("delete_cluster").retries = 0
