"""The second line of defence: every hour, find the clusters that nobody looks after, save their results, delete them.

It needs nothing but the clusters' tags, so it also works for runs that Airflow has forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable, Param, task_group
from airflow.sdk.exceptions import AirflowSkipException

from hpc import names, retries
from hpc.cluster.abandoned import (
    Run,
    Sighting,
    Verdict,
    ended_of,
    find_ours,
    judge,
    judge_shared,
    state_of,
    state_of_lease,
)
from hpc.cluster.account import Account
from hpc.cluster.by_hand import describe_jobs, jobs_by_hand
from hpc.cluster.delete_operator import ParallelClusterDeleteOperator
from hpc.cluster.leftovers import find_leftovers
from hpc.cluster.operators import ParallelClusterInstallOperator
from hpc.cluster.pool import claim, deletion_begun, held, release, unheld_since
from hpc.config import SimulationConfig
from hpc.errors import HpcError, RunFailedError
from hpc.execute_hook import ExecuteHook
from hpc.lifecycle import JOB_HISTORY, SITE, SWEEP_HISTORY
from hpc.notify import Message, send
from hpc.results.operators import ResultsToS3Operator
from hpc.site import DEFAULT_CONNECTION, airflow_url, site, site_connections
from hpc.slurm.sensors import SlurmEndJobsSensor

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

FIND, EACH = "find", "cluster"
#: The key under which `find` keeps all that it saw, beside what is to be done.
SEEN = "seen"
#: The key of what could not be found out, and why.
UNKNOWN = "unknown"
#: How long results that cannot be saved keep a cluster past its expiry, in hours.
GRACE = 24
#: How long a shared cluster is left alone whose queue cannot be seen: one look in vain says little.
QUEUE_UNKNOWN = timedelta(hours=2)
#: And one whose runs Airflow does not know (any more): its database may be another's, or just be restored.
MISSING_IS_OVER = timedelta(minutes=50)
_DELETION = retries.DELETION.with_retries(2).arguments()  # it comes again in an hour


@dataclass(frozen=True)
class Janitor:
    """Which clusters a janitor looks for: those of one AWS connection."""

    dag_id: str
    aws_conn_id: str


def listed_connections() -> tuple[str, ...]:
    """Return the AWS connections that the Variable `hpc_site` lists; none, and why in the log, if it cannot be read.

    A mistake there takes no other janitor away than those that it was to add.
    """
    try:
        return site_connections()
    except Exception:
        log.exception("There are janitors for %s and for the connections of simulations only", DEFAULT_CONNECTION)
        return ()


def janitors(simulations: Iterable[SimulationConfig], listed: Iterable[str] = ()) -> list[Janitor]:
    """Return one janitor for `aws_default`, which is called `janitor`, for each listed connection, and those in use."""
    used = (simulation.connections.aws for simulation in simulations)
    return [Janitor(_dag_id(conn_id), conn_id) for conn_id in dict.fromkeys([DEFAULT_CONNECTION, *listed, *used])]


def _dag_id(conn_id: str) -> str:
    """Return the name of a connection's janitor: a colon may be in a connection's name, and in no DAG's."""
    if conn_id == DEFAULT_CONNECTION:
        return "janitor"
    name = conn_id.replace(":", "-")
    return f"janitor_{name}" if name == conn_id else f"janitor_{name}-{sha256(conn_id.encode()).hexdigest()[:6]}"


def build_janitor(janitor: Janitor) -> DAG:
    """Return the DAG of a janitor."""
    aws: dict[str, Any] = {"aws_conn_id": janitor.aws_conn_id, "region_name": SITE % "region"}
    with DAG(
        dag_id=janitor.dag_id,
        description="Saves the results of abandoned clusters, deletes them, and proves it",
        doc_md=_PAGE,
        schedule=CronTriggerTimetable("17 * * * *", timezone="UTC", run_immediately=timedelta(0)),
        catchup=False,
        max_active_runs=1,
        tags=["hpc", "janitor"],
        params={
            "dry_run": Param(False, type="boolean", description="Only list what would be done."),
            "grace": Param(
                GRACE,
                type="integer",
                minimum=0,
                description="Hours past its expiry for which a cluster is kept when its results cannot be saved, and "
                "a shared one, after its last run, for jobs that were submitted by hand.",
            ),
        },
        default_args={"owner": "hpc"},
        user_defined_macros={"site": site},
        render_template_as_native_obj=True,
        is_paused_upon_creation=False,
        auto_register=False,
    ) as dag:
        install = ParallelClusterInstallOperator(task_id="install_parallelcluster", **retries.ON_WORKER.arguments())
        find = FindAbandonedOperator(task_id=FIND, grace="{{ params.grace }}", **aws, **retries.AWS_CALL.arguments())
        cleaned = _cleaning(aws).expand(number=find.output)
        report = JanitorReportOperator(
            task_id="report", trigger_rule="all_done", aws_conn_id=janitor.aws_conn_id, **retries.ON_WORKER.arguments()
        )
        install >> find >> cleaned >> report
    return dag


def _cleaning(aws: Mapping[str, Any]) -> Any:
    """Return the tasks for one cluster, a task group that is mapped over what `find` returns."""

    def of_this(key: str) -> str:
        return f"{{{{ ti.xcom_pull(task_ids='{FIND}')[ti.map_index]['{key}'] }}}}"

    on_cluster = {"cluster_name": of_this("cluster_name"), "ssh_conn_id": of_this("ssh_conn_id"), **aws}

    @task_group(group_id=EACH, tooltip="One abandoned cluster")
    def cleaning(number: Any) -> None:
        end_jobs = SlurmEndJobsSensor(
            task_id="end_jobs",
            pre_execute=ExecuteHook(skip_unless_saving),
            waiter_delay=10,
            waiter_max_attempts=60,
            **on_cluster,
            **retries.SLURM_WAIT.with_retries(1).arguments(),
        )
        export_results = ResultsToS3Operator(
            task_id="export_results",
            pre_execute=ExecuteHook(skip_unless_saving),
            trigger_rule="all_done",
            directory=of_this("directory"),
            patterns=of_this("patterns"),  # rendered as a list
            may_be_missing=True,
            bucket=of_this("bucket"),
            prefix=of_this("prefix"),
            # The run's own receipt, if there is one, tells more than this one can.
            receipt_key="receipt-janitor.json",
            facts={"why": of_this("why"), "tags": of_this("tags")},
            **on_cluster,
            **retries.TRANSFER.with_retries(2).arguments(),
        )
        delete_cluster = ParallelClusterDeleteOperator(
            task_id="delete_cluster",
            pre_execute=ExecuteHook(require_saved),
            post_execute=ExecuteHook(partial(release_pool, aws["aws_conn_id"])),
            trigger_rule="all_done",
            cluster_name=of_this("cluster_name"),
            tags=of_this("owner"),
            settle_seconds=60,
            **aws,
            **_DELETION,
        )
        end_jobs >> export_results >> delete_cluster

    return cleaning


def release_pool(aws_conn_id: str, context: Context, result: Any = None) -> None:
    """Let the runs of a pool make a new cluster, now that the abandoned one is gone."""
    if pool := _this(context)["pool"]:
        clients = Account(aws_conn_id, site("region")).client
        release(clients, site("bucket"), pool, _this(context)["cluster_name"])


def _this(context: Context) -> dict[str, Any]:
    """Return what `find` said about the cluster of a mapped task."""
    found: dict[str, Any] = context["ti"].xcom_pull(task_ids=FIND)[context["ti"].map_index]
    return found


def skip_unless_saving(context: Context) -> None:
    """Skip what saves results if there are none to save, or no head node to save them from."""
    cluster = _this(context)
    if not cluster["saves"]:
        raise AirflowSkipException(f"Nothing is saved of {cluster['cluster_name']}: {cluster['saves_not_because']}")


def require_saved(context: Context) -> None:
    """Skip the deletion of a cluster whose results could not be saved, until its grace is over."""
    instance, cluster = context["ti"], _this(context)
    if not cluster["saves"]:
        return
    export = f"{EACH}.export_results"
    states = instance.get_task_states(
        dag_id=instance.dag_id, map_index=instance.map_index, task_ids=[export], run_ids=[instance.run_id]
    )
    if "success" in states.get(instance.run_id, {}).values():
        return
    if cluster["keep_until"] and datetime.now(UTC) < datetime.fromisoformat(cluster["keep_until"]):
        raise AirflowSkipException(
            f"{cluster['cluster_name']} is kept until {cluster['keep_until']}, and costs money: its results could not "
            f"be saved; the log of {export} says why"
        )


class FindAbandonedOperator(BaseOperator):
    """Find the clusters of ours that nobody looks after, and what is left of clusters without a stack.

    Returns a list with what the tasks after it need to know of each abandoned one: empty on a dry run. The XCom `seen`
    has one entry for every cluster of ours, abandoned or left alone, with the reason. What cannot be found out about
    one cluster, or from one service, is in the XCom `unknown` and hinders nothing else. Raises what AWS raises when
    the stacks cannot be listed.

    :param grace: hours past a cluster's expiry for which results that cannot be saved keep it, and after the last run
        of a shared one for which jobs by hand do (templated)
    :param aws_conn_id: Airflow connection with AWS credentials, region and endpoint
    :param region_name: AWS region instead of the connection's (templated)
    """

    template_fields = ("region_name", "grace")
    ui_color = "#f3e2b3"

    def __init__(
        self,
        *,
        grace: int | str = GRACE,
        aws_conn_id: str | None = DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.grace = grace
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Look and judge."""
        account = Account(self.aws_conn_id, self.region_name)
        instance = context["ti"]
        seen: list[dict[str, Any]] = []
        todo: list[dict[str, Any]] = []
        unknown: list[str] = []

        def note(what: str, error: HpcError) -> None:
            unknown.append(f"{what}: {error}")
            self.log.error("Not known: %s", unknown[-1])

        for sighting in find_ours(account.client, note):
            try:
                entry, work = self._look_at(context, account, sighting)
            except HpcError as error:
                note(sighting.cluster_name, error)
                continue
            if entry:
                seen.append(entry)
                self.log.info("%s", describe(entry))
                if work:
                    todo.append({**entry, **work})
        instance.xcom_push(SEEN, seen)
        instance.xcom_push(UNKNOWN, unknown)
        if context["params"]["dry_run"]:
            self.log.info("A dry run: nothing is done.")
            return []
        return todo

    def _look_at(self, context: Context, account: Account, sighting: Sighting) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what is to be said about a cluster, and the work for it: empty if there is none."""
        if sighting.pool:
            verdict = self._judge_shared(context, account, sighting)
        else:
            run = state_of(sighting, names.tag_value(airflow_url()), context["ti"].get_dr_count)
            verdict = judge(sighting, run, datetime.now(UTC))
        if not verdict.abandoned and not sighting.has_stack:
            return {}, {}  # its run sees to what is left, or it has to expire first
        left = find_leftovers(sighting.cluster_name, account.client) if verdict.abandoned else None
        if left is not None and not sighting.has_stack and left.is_proof:
            return {}, {}  # only what AWS still shows of something that is gone
        entry = {
            "cluster_name": sighting.cluster_name,
            "pool": sighting.pool,
            "status": sighting.status,
            "simulation": sighting.simulation,
            "run_id": sighting.run_id,
            "why": verdict.why,
            "abandoned": verdict.abandoned,
            "cost": left.cost if left else "",
        }
        return entry, self._work(account, sighting) if verdict.abandoned else {}

    def _judge_shared(self, context: Context, account: Account, sighting: Sighting) -> Verdict:
        """Ask a shared cluster's pool, and Airflow about its runs; from now on no run joins what is abandoned."""
        place = (account.client, site("bucket"), sighting.pool, sighting.cluster_name)
        airflow, count_runs = names.tag_value(airflow_url()), context["ti"].get_dr_count
        leases = {lease: state_of_lease(lease, airflow, count_runs) for lease in held(*place, datetime.now(UTC))}
        verdict, ended, is_dry = judge_shared(sighting, leases), ended_of(leases), bool(context["params"]["dry_run"])
        if verdict.abandoned:
            since = unheld_since(*place, datetime.now(UTC), ended=ended, is_dry=is_dry)
            if Run.MISSING in leases.values() and since and datetime.now(UTC) < since + MISSING_IS_OVER:
                return Verdict(False, f"{verdict.why}; it is deleted at one of the next visits, should nobody return")
            verdict = self._judge_queue(sighting, verdict, since)
            # That took its time: a run that was cleared meanwhile goes on with the lease that it has.
            ended = ended_of({lease: state_of_lease(lease, airflow, count_runs) for lease in ended})
        alone = timedelta(hours=max(1, int(self.grace)))
        if verdict.abandoned and not is_dry and not claim(*place, "the janitor", alone=alone, ended=ended):
            return Verdict(False, f"a run of pool {sighting.pool} has just joined it")
        return verdict

    def _judge_queue(self, sighting: Sighting, verdict: Verdict, since: datetime | None) -> Verdict:
        """Leave a shared cluster alone that no run holds `since` then, while it has jobs that a person has submitted.

        That is for `grace` hours at the most, and for QUEUE_UNKNOWN while the head node cannot be asked: HpcError is
        raised then.
        """
        if since is None or not sighting.has_head_node:
            return verdict
        now, until = datetime.now(UTC), since + timedelta(hours=int(self.grace))
        if until <= now:
            return verdict
        connections = {"aws_conn_id": self.aws_conn_id, "region_name": self.region_name}
        try:
            jobs = jobs_by_hand(sighting.cluster_name, sighting.ssh_conn_id, **connections)
        except Exception as error:  # AWS's, the connection's, Airflow's about it: whatever it is, nothing is known
            self.log.warning("The queue of %s cannot be seen: %r", sighting.cluster_name, error)
            reason = " ".join(str(error.args[0] if error.args else error).split())
            unknown = f"{verdict.why}; whether jobs by hand are in its queue is NOT known: {reason}"
            if now < since + QUEUE_UNKNOWN:
                raise HpcError(unknown, remedy="see why its head node does not answer") from error
            return Verdict(True, unknown)
        if not jobs:
            return verdict
        what = (
            f"by hand it was given {describe_jobs(jobs)}: for these it stays until {until:%Y-%m-%d %H:%M} UTC at most"
        )
        return Verdict(False, f"{verdict.why}; {what}")

    def _work(self, account: Account, sighting: Sighting) -> dict[str, Any]:
        """Return what the tasks need to know about an abandoned cluster."""
        tags = sighting.tags
        results = "".join(names.decode_tag(tags.get(names.TAG_RESULTS, "")))
        why_not = ""
        if results == names.DISCARD:
            why_not = "its simulation says discard"
        elif not sighting.has_head_node:
            why_not = f"it has no head node to save them from (stack: {sighting.status})"
        elif not tags.get(names.TAG_DIRECTORY):
            why_not = f"it has no tag {names.TAG_DIRECTORY}"
        if not results.startswith("s3://"):
            results = (
                f"s3://{site('bucket')}/{sighting.simulation}/{sighting.cluster_name}" if not why_not else "s3:///"
            )
        bucket, _, prefix = results.removeprefix("s3://").partition("/")
        # A shared cluster's own expiry is that of its first run: the grace begins when nobody holds it any more.
        place = (account.client, site("bucket"), sighting.pool, sighting.cluster_name)
        expires = deletion_begun(*place) if sighting.pool else sighting.expires
        return {
            "ssh_conn_id": sighting.ssh_conn_id,
            "saves": not why_not,
            "saves_not_because": why_not,
            "directory": tags.get(names.TAG_DIRECTORY, ""),
            "patterns": [*names.decode_tag(tags.get(names.TAG_OUTPUTS, "")), *JOB_HISTORY, *SWEEP_HISTORY],
            "bucket": bucket,
            "prefix": prefix,
            "keep_until": (expires + timedelta(hours=int(self.grace))).isoformat() if expires else "",
            "owner": {key: tags[key] for key in (names.TAG_SIMULATION, names.TAG_RUN_ID) if key in tags},
            "tags": dict(tags),
        }


def describe(entry: Mapping[str, Any]) -> str:
    """Return one line about a cluster that was seen."""
    verdict = "abandoned" if entry["abandoned"] else "left alone"
    cost = f", costs {entry['cost']}" if entry["cost"] else ""
    return (
        f"{entry['cluster_name']} ({entry['simulation']}, run {entry['run_id'] or 'unknown'}, stack {entry['status']}"
        f"{cost}): {verdict}: {entry['why']}"
    )


def summarize(
    seen: Iterable[Mapping[str, Any]], unknown: Sequence[str], outcome: Callable[[int, str], str | None]
) -> tuple[list[str], bool]:
    """Return the lines of the report, and whether everything abandoned is gone.

    `outcome` takes the number of an abandoned cluster and the name of a task, and returns the state that it ended in.
    """
    lines, well, number = [f"{'NOT KNOWN':11} {line}" for line in unknown], not unknown, 0
    for entry in seen:
        if not entry["abandoned"]:
            lines.append(f"{'LEFT':11} {describe(entry)}")
            continue
        deleted, saved = outcome(number, "delete_cluster"), outcome(number, "export_results")
        number += 1
        results = {"success": "results saved", "skipped": "no results to save"}.get(saved or "", "results NOT saved")
        gone = deleted == "success"
        well = well and gone and saved in ("success", "skipped")
        lines.append(f"{'DELETED' if gone else 'NOT DELETED':11} {describe(entry)}; {results}")
    return lines, well


class JanitorReportOperator(BaseOperator):
    """Say what was deleted, what was left, and why, and tell people when there was anything to do.

    Raises RunFailedError when the look, an export or a deletion failed.

    :param aws_conn_id: for a message by SNS
    """

    ui_color = "#d7e8d0"

    def __init__(self, *, aws_conn_id: str | None = DEFAULT_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> list[str]:
        """Summarize and tell."""
        instance = context["ti"]
        seen: list[dict[str, Any]] | None = instance.xcom_pull(task_ids=FIND, key=SEEN)
        unknown: list[str] = instance.xcom_pull(task_ids=FIND, key=UNKNOWN) or []
        states = instance.get_task_states(dag_id=instance.dag_id, run_ids=[instance.run_id])[instance.run_id]
        if states.get(FIND) != "success" or seen is None:
            lines, well = [f"{FIND} did not succeed: whether there are abandoned clusters is not known"], False
        elif context["params"]["dry_run"]:
            lines, well = [*(f"NOT KNOWN {line}" for line in unknown), *map(describe, seen)], not unknown
        else:
            lines, well = summarize(seen, unknown, lambda number, task: states.get(f"{EACH}.{task}_{number}"))
        self.log.info("Clusters of ours:\n%s", "\n".join(lines) or "none")
        if not well or any(entry["abandoned"] for entry in seen or []):
            subject = "The janitor deleted abandoned clusters" if well else "The janitor could not delete everything"
            send(Message(subject, "\n".join(lines), instance.log_url), None, self.aws_conn_id)
        if not well:
            raise RunFailedError(
                "Not everything that was abandoned is gone:\n" + "\n".join(lines),
                remedy="open the log of the first failed task; the janitor tries again at the next hour",
            )
        return lines


_PAGE = f"""\
### The janitor

Every hour it looks at each cluster that bears the tag `{names.TAG_SIMULATION}`, in the account of one
AWS connection, and at what is left of clusters without a stack. There is one more for each connection that the
Variable `hpc_site` lists as `aws_connections`, or a simulation names.

It **deletes** those whose run is over or no longer exists and those past their expiry, and saves first what the
simulation keeps. It **leaves alone** everything without that tag, whose run goes on, or that bears the tag
`{names.TAG_KEEP}` with any value. The log of `report` lists what it deleted, what it left, and why.

Of runs that share a cluster, each counts that goes on; then jobs that were submitted by hand do, for `grace` hours.

Trigger it with `dry_run` to see what it would do. `grace` is also for how many hours past its expiry a cluster is kept
when its results cannot be saved.
"""


def build_janitors(simulations: Iterable[SimulationConfig], listed: Iterable[str] = ()) -> dict[str, DAG]:
    """Return the DAG of every janitor by its id. `listed` are AWS connections beside those of the simulations."""
    return {janitor.dag_id: build_janitor(janitor) for janitor in janitors(simulations, listed)}
