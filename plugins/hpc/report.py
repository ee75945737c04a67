"""What a person wants to know of a run: before it, as the DAG's page; after it, as one summary with a verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from hpc.cluster.hold import FAILED
from hpc.durations import format_duration, format_walltime
from hpc.errors import RunFailedError
from hpc.sweep import points

if TYPE_CHECKING:
    from airflow.sdk import Context

    from hpc.config import SimulationConfig
    from hpc.sweep import Sweep

_PICTURE = """\
```
 provision   install_parallelcluster > render_cluster_config > create_cluster > wait_for_stack > verify_cluster
                                                                                                     |
 compute                        connect > submit_job > wait_for_allocation > run_job                 |
                                               \\ > watch_alarms                  |
 results                        export_results > postprocess > export_pictures   |   (> send_on_premises)
                                                                     |
 release                        wait_for_empty_queue > hold_cluster > delete_cluster > report
```"""

#: The event that people are told of.
RUN_FAILED = "the run FAILED"
#: The tasks whose return values stand in the summary.
_SUMMARIZED = ("run_job", "export_results", "export_pictures", "send_on_premises", "delete_cluster")


def describe_simulation(simulation: SimulationConfig) -> str:
    """Return the Markdown page of a simulation's DAG: what it does, its steps, what it takes and what it leaves."""
    resources, tasks = simulation.resources, simulation.resources.nodes * simulation.resources.tasks_per_node
    schedule = simulation.schedule
    when = f"`{schedule.cron or schedule.timetable}` ({schedule.timezone})" if schedule else "by hand or by REST only"
    target = "nowhere: they are discarded" if simulation.export == "discard" else "S3, with a receipt that is verified"
    rows = {
        **({"Sweep": _sweep(simulation.sweep, simulation)} if simulation.sweep else {}),
        "Starts": when,
        "Cluster": f"`config/clusters/{simulation.cluster.profile}.yaml`{_shared(simulation)}",
        "Job": f"`include/job_scripts/{simulation.job.script}` on {resources.nodes} node(s), {tasks} task(s), "
        f"walltime {format_walltime(resources.walltime)}, partition `{resources.partition}`",
        "Results": f"{', '.join(f'`{pattern}`' for pattern in simulation.outputs)} to {target}",
        "Deadline": format_duration(simulation.deadline),
        "When it fails": _on_failure(simulation),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"### {simulation.description}\n\nOne run makes an HPC cluster, computes on it, saves the results and "
        f"deletes it again.\n\n{_PICTURE}\n\n| | |\n|---|---|\n{table}\n\nThe file behind it: "
        f"`config/simulations/{simulation.name}.yaml`."
    )


def _sweep(sweep: Sweep, simulation: SimulationConfig) -> str:
    running = f", {sweep.max_running} at a time" if sweep.max_running else ""
    return f"{len(points(sweep, simulation.job.parameters)):,} points{running}, {sweep.tolerate:.0%} of which may fail"


def _shared(simulation: SimulationConfig) -> str:
    if simulation.cluster.pool is None:
        return ""
    idle = format_duration(simulation.cluster.idle)
    return f", shared by the runs of pool `{simulation.cluster.pool}`, and deleted after {idle} without runs and jobs"


def _on_failure(simulation: SimulationConfig) -> str:
    if simulation.on_failure == "delete":
        return "the cluster is deleted as soon as the results are saved"
    return f"the cluster is kept for {format_duration(simulation.on_failure.keep_for)}, then deleted"


def summarize(returned: Mapping[str, Any], states: Mapping[str, str | None], cluster: str) -> list[str]:
    """Return the lines of a run's summary, from what its tasks returned and the states they ended in."""
    lines = [f"Cluster    {cluster}"]
    if job := returned.get("run_job"):
        lines.append(f"Job        {_describe_job(job)}")
    for label, task in (("Results", "export_results"), ("Pictures", "export_pictures")):
        if saved := returned.get(task):
            verified = "verified" if saved.get("verified") else "NOT verified"
            lines.append(
                f"{label:10} {saved.get('uri')}: {saved.get('files')} files, {saved.get('bytes')} bytes, {verified}"
            )
            if saved.get("left_out"):
                lines.append(f"Left out   {_describe_left_out(saved)}")
    if copied := returned.get("send_on_premises"):
        lines.append(f"On site    {copied['sftp_conn_id']}:{copied['directory']}: {copied['files']} files, verified")
    if deletion := returned.get("delete_cluster"):
        lines.append(f"Deletion   {_describe_deletion(deletion)}")
    else:
        lines.append("Deletion   NOT proven: look at delete_cluster and at the CloudFormation console")
    failed = sorted(task for task, state in states.items() if state == "failed")
    lines.append(f"Failed     {', '.join(failed)}" if failed else "Failed     nothing")
    return lines


def _describe_left_out(saved: Mapping[str, Any]) -> str:
    """Say what an export did not save, of which nobody may believe that it did. The names are a job's: any text."""
    count, first = saved["left_out"], saved.get("left_out_first", [])
    named = ", ".join(f"{entry['path']!r} is {entry['reason']}" for entry in first)
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return f"{count} NOT saved: {named}{more}; all are listed in {saved.get('receipt_uri')}"


def _describe_deletion(deletion: Mapping[str, Any]) -> str:
    if deletion.get("stack") == "shared":
        return f"not yet: the cluster is shared, and held by {', '.join(deletion['held_by'])}"
    if deletion.get("stack") == "deleting":
        return f"of the shared cluster is done, and proven, by {deletion['by']}"
    if deletion.get("stack") == "none":
        return "not needed: the run never joined its pool"
    return f"proven; left: {', '.join(map(str, deletion.get('leftovers', []))) or 'nothing'}"


def _describe_job(job: Mapping[str, Any]) -> str:
    if "points" in job:
        return f"{job['succeeded']} of {job['points']} points computed, {job['failed_count']} failed"
    return f"{job.get('job_id')} {job.get('state')} on {job.get('node_list')}, {job.get('seconds')} s"


class RunReportOperator(BaseOperator):
    """Summarize a finished run and give it its verdict: fails when any task of the run failed.

    It is the last task and runs in any case, as a teardown with `on_failure_fail_dagrun`. Without it a run whose job
    failed would count as a success, because its deletion, the task that it ends with, succeeded; and so would a run
    that somebody marked as failed and whose deletion failed.

    People are told before the task has ended: a worker that is lost then runs no callback any more.

    :param cluster_name: the cluster of the run (templated)
    :param tell: called with the context, the event and the summary when the run has failed
    """

    template_fields = ("cluster_name",)
    ui_color = "#d7e8d0"

    def __init__(
        self, *, cluster_name: str, tell: Callable[[Context, str, str], None] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.tell = tell

    def execute(self, context: Context) -> dict[str, Any]:
        """Log and return the summary. Raises RunFailedError when a task failed or could not run."""
        instance = context["ti"]
        states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id])[instance.run_id]
        others = {task: state for task, state in states.items() if task != self.task_id}
        returned = {task: instance.xcom_pull(task_ids=task) for task in _SUMMARIZED}
        lines = summarize(returned, others, self.cluster_name)
        self.log.info("Summary of this run:\n%s", "\n".join(lines))
        if any(state in FAILED for state in others.values()):
            error = RunFailedError(
                f"The run did not succeed:\n{chr(10).join(lines)}", remedy="open the log of the first failed task"
            )
            if self.tell is not None:
                self.tell(context, RUN_FAILED, str(error))
            raise error
        return {"summary": lines}
