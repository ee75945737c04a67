"""Steps 3 and 13 of a run that shares its cluster: join the pool, which may mean to make it; leave it, or delete it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

from hpc.aws_errors import aws_errors
from hpc.cluster import leftovers, template
from hpc.cluster.base import ClusterTask
from hpc.cluster.decision import Action, decide_creation, require_same_owner
from hpc.cluster.delete_operator import ParallelClusterDeleteOperator
from hpc.cluster.operators import ParallelClusterCreateOperator
from hpc.cluster.pool import Lease, Pool, PoolStore, begin_deletion, deletion_done, join, leave, reach, renew
from hpc.cluster.pool_trigger import PoolIdleTrigger
from hpc.cluster.sensors import diagnose
from hpc.cluster.stacks import Progress, Stack, progress
from hpc.durations import format_duration
from hpc.errors import ClusterError, DeadlineExceededError, HpcError, LeftoversError
from hpc.head_node.address import HeadNodeAddress, head_node_of
from hpc.head_node.session import Session, run_session
from hpc.names import TAG_POOL, tag_value
from hpc.site import airflow_url
from hpc.slurm.identity import JobPlaces
from hpc.slurm.submission import cancel_attempt
from hpc.waiting import end_of_wait, run_trigger

if TYPE_CHECKING:
    from airflow.sdk import Context

#: How long a run that watches over an idle cluster is believed to do so without a sign, beyond the idle time.
WATCH = timedelta(hours=1)
#: How often it gives that sign.
SIGN = timedelta(minutes=20)


class _PoolTask(ClusterTask):
    """What both operators have: the pool's name, and where its document is."""

    pool_name: str
    bucket: str

    @cached_property
    def store(self) -> PoolStore:
        """The pool's document."""
        return PoolStore(self.account.client("s3"), self.bucket, self.pool_name)

    def end_deletion(self) -> None:
        """Let the next run make a new cluster, now that this one is gone."""
        self.store.change(lambda pool: deletion_done(pool, self.cluster_name))


def _run_of(context: Context) -> str:
    return f"run {context['ti'].run_id} of {context['ti'].dag_id}"


class JoinPoolOperator(_PoolTask, ParallelClusterCreateOperator):
    """Take a lease of a pool's cluster, then create it, or share the one that another run has created.

    While the pool's cluster is being deleted it waits, and makes a new one. A cluster that could not be made is deleted
    and made anew, unless another run still holds it. Returns `{"cluster_name", "stack_id", "adopted", "pool"}`. Raises
    ConfigurationError when the pool's cluster was made from another configuration.

    :param pool_name: the pool's name; an operator's `pool` is Airflow's (templated)
    :param bucket: where the pool's document is (templated)
    :param lease: how long the run holds the cluster at the most, whatever becomes of it
    :param results: the S3 URI that the run's results go to, or `discard` (templated)
    :param cluster_config: as for `ParallelClusterCreateOperator`, and so are all others but `alternatives`
    """

    template_fields: Sequence[str] = (
        *("pool_name", "bucket", "results", "until", "cluster_config", "evidence_uri", "region_name"),
    )

    def __init__(
        self,
        *,
        pool_name: str,
        bucket: str,
        lease: timedelta,
        results: str = "discard",
        **kwargs: Any,
    ) -> None:
        super().__init__(cluster_name="", **kwargs)
        self.pool_name = pool_name
        self.bucket = bucket
        self.lease = lease
        self.results = results

    def execute(self, context: Context) -> dict[str, Any]:
        """Join, then create or adopt; or wait until the pool's old cluster is gone."""
        return self.join(context)

    def join(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Do what `execute` does, also after a pause."""
        pool = self._take_lease(context)
        if pool.state == "deleting":
            return self._wait_for_the_end(context, pool)
        runs = ", ".join(map(str, pool.holders(datetime.now(UTC))))
        self.log.info("Cluster %s of pool %s is held by %s.", self.cluster_name, self.pool_name, runs)
        stack = self.find_stack()
        action = decide_creation(stack, self._tags(context))
        if stack is None or action is Action.CREATE:
            return self._create_when_name_is_free(context, 0)
        self.show_link(context, stack.id)
        if action is Action.ADOPT:
            self.log.info("It is %s already: shared.", stack.status)
            return self._created(context, stack.id, adopted=True, number=0)
        return self._give_up(context, stack)

    def create_now(self, context: Context, event: Any = None, number: int = 0) -> dict[str, Any]:
        """Create the cluster now that its log group can have a name of its own."""
        self._know_cluster()
        return super().create_now(context, number=number)

    def execute_complete(
        self, context: Context, event: dict[str, Any] | None, adopted: bool = False, number: int = 0
    ) -> dict[str, Any]:
        """Return the created cluster, or raise why it was not created."""
        self._know_cluster()
        return super().execute_complete(context, event, adopted, number)

    def join_after_deletion(self, context: Context, event: dict[str, Any] | None) -> dict[str, Any]:
        """Join now that the old cluster's stack is gone, or raise why it is not, unless somebody still sees to it."""
        pool = self._know_cluster()
        gone = self.require_success(
            event, f"the deletion of the old cluster {self.cluster_name} of pool {self.pool_name}"
        )
        if gone["status"] != "success" and not self._is_for_us(context, pool):
            return self._join_later(context, pool)
        if gone["status"] != "success":
            raise diagnose(self, gone, "DELETE_COMPLETE")
        return self.join(context)

    def _take_lease(self, context: Context) -> Pool:
        task, configuration = context["ti"], template.fingerprint(self.cluster_config)
        airflow = tag_value(airflow_url())

        def joined(pool: Pool) -> Pool:
            now = datetime.now(UTC)
            lease = Lease(
                dag_id=task.dag_id,
                run_id=task.run_id,
                expires=now + self.lease,
                results=self.results,
                airflow=airflow,
            )
            return join(pool, lease, configuration, now)

        pool = self.store.change(joined)
        self.cluster_name = pool.cluster_name
        return pool

    def _know_cluster(self) -> Pool:
        """Find the cluster's name again, in a task that goes on after a deferral."""
        pool = self.store.read()
        self.cluster_name = pool.cluster_name
        return pool

    def _is_for_us(self, context: Context, pool: Pool) -> bool:
        """Say whether this run has to see to a deletion: it has begun it, or nobody else does."""
        is_ours = pool.deletion is not None and pool.deletion.by == _run_of(context)
        return is_ours or pool.is_overdue(datetime.now(UTC))

    def _give_up(self, context: Context, stack: Stack) -> dict[str, Any]:
        """Delete a cluster that cannot be used, unless another run holds it, and make the next one."""
        task, by = context["ti"], _run_of(context)

        def given_up(pool: Pool) -> Pool:
            now = datetime.now(UTC)
            return begin_deletion(leave(pool, task.dag_id, task.run_id, now, now), self.cluster_name, by, now)

        pool = self.store.change(given_up)
        if pool.state == "open" and pool.cluster_name == self.cluster_name:
            holders = ", ".join(map(str, pool.holders(datetime.now(UTC))))
            raise ClusterError(
                f"cluster {self.cluster_name} of pool {self.pool_name} is {stack.status}, and still held by {holders}",
                remedy="clear this task once they have left it; a run that keeps a failed cluster for a look lets it "
                "go when its task hold_cluster is marked as success",
            )
        self.log.warning("Cluster %s is %s: it is deleted, and a new one made.", self.cluster_name, stack.status)
        return self.join(context)

    def _wait_for_the_end(self, context: Context, pool: Pool) -> dict[str, Any]:
        """Wait for whoever deletes the pool's cluster, and see to it if he does not."""
        stack = self.find_stack()
        if stack is None or stack.status == "DELETE_COMPLETE":
            if not self._is_for_us(context, pool) and not pool.is_settled(datetime.now(UTC)):
                return self._join_later(context, pool)
            left = leftovers.find_leftovers(self.cluster_name, self.account.client)
            if not left.is_proof:
                # The next cluster has another name: it need not wait until the janitor has removed them.
                lines = "\n".join(map(str, [*left.found, *left.unknown]))
                self.log.error("Cluster %s is gone, but perhaps not all of it:\n%s", self.cluster_name, lines)
            self.end_deletion()
            return self.join(context)
        require_same_owner(stack, {TAG_POOL: self.pool_name})
        self.show_link(context, stack.id)
        if stack.status != "DELETE_IN_PROGRESS":
            if not self._is_for_us(context, pool):
                return self._join_later(context, pool)
            with aws_errors():
                self.account.client("cloudformation").delete_stack(StackName=stack.id)
        self.log.info("Cluster %s of pool %s is being deleted: waiting for its end.", self.cluster_name, self.pool_name)
        event = self.wait_for_stack(stack.id, "DELETE_COMPLETE", "join_after_deletion")
        return self.join_after_deletion(context, event)

    def _join_later(self, context: Context, pool: Pool) -> dict[str, Any]:
        deleter = pool.deletion.by if pool.deletion else "nobody"
        if time.time() >= end_of_wait(self.waiter_delay, 1, self.until):
            raise DeadlineExceededError(
                f"cluster {self.cluster_name} of pool {self.pool_name} is still being deleted by {deleter}",
                remedy="look at its log; the next run of the pool makes a new cluster once this one is gone",
            )
        self.log.info("Cluster %s is being deleted by %s: looking again.", self.cluster_name, deleter)
        if self.deferrable:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=self.waiter_delay)), method_name="join")
        time.sleep(self.waiter_delay)
        return self.join(context)

    def _result(self, stack_id: str, adopted: bool, number: int) -> dict[str, Any]:
        return {
            "cluster_name": self.cluster_name,
            "stack_id": stack_id,
            "adopted": adopted,
            "pool": self.pool_name,
        }


class LeavePoolOperator(_PoolTask, ParallelClusterDeleteOperator):
    """Give a run's lease back; the last run waits for the idle time, then deletes the cluster and proves it.

    What still lives of the run's own jobs is cancelled first. A teardown: safe to run twice, and when nothing was
    joined. Returns what `ParallelClusterDeleteOperator` does, or `{"stack": "shared", "held_by": runs}`, or `{"stack":
    "deleting", "by": run}`, or `{"stack": "none"}` when the run never joined.

    :param pool_name: the pool's name; an operator's `pool` is Airflow's (templated)
    :param bucket: where the pool's document is (templated)
    :param cluster_name: that of `JoinPoolOperator`'s result; empty when it returned nothing (templated)
    :param idle: how long the cluster has to be without runs and jobs before it is deleted
    :param jobs_of: ids of the tasks of this run that submit jobs
    :param directory: the folder of their jobs (templated)
    :param head_node: what `HeadNodeConnectOperator` returned, or its JSON text; None when it returned nothing
        (templated)
    """

    template_fields: Sequence[str] = (
        "pool_name",
        "bucket",
        "cluster_name",
        "directory",
        "head_node",
        "tags",
        "stack_id",
        "region_name",
    )

    def __init__(
        self,
        *,
        pool_name: str,
        bucket: str,
        idle: timedelta,
        jobs_of: Sequence[str] = (),
        directory: str = "",
        head_node: Mapping[str, Any] | str | None = None,
        ssh_conn_id: str = "hpc_head_node",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pool_name = pool_name
        self.bucket = bucket
        self.idle = idle
        self.jobs_of = jobs_of
        self.directory = directory
        self.head_node = head_node
        self.ssh_conn_id = ssh_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Leave; delete the cluster if nobody else uses it."""
        if self._find_cluster(context):
            return self.leave(context)
        # A task that joins and was ended a moment ago may still get through.
        self.log.info("Run %s is not in pool %s: looking again.", context["ti"].run_id, self.pool_name)
        if self.deferrable:
            self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=self.waiter_delay)), method_name="leave_late")
        time.sleep(self.waiter_delay)
        return self.leave_late(context)

    def leave_late(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Leave what was joined after all."""
        if self._find_cluster(context):
            return self.leave(context)
        return self._nothing(context)

    def leave(self, context: Context, quiet_since: float = 0.0) -> dict[str, Any]:
        """Give the lease back, and do what is left to do for the last one."""
        task = context["ti"]
        self._end_own_jobs(context)

        def left(pool: Pool) -> Pool:
            now = datetime.now(UTC)
            return leave(pool, task.dag_id, task.run_id, now, now + self.idle + WATCH)

        return self._see_to(context, self.store.change(left), quiet_since)

    def look_after_idle(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Delete the cluster if it was idle for long enough and still is; otherwise look what became of it."""
        self._find_cluster(context)
        if event["status"] == "idle":
            return self._see_to(context, self._claim(context))
        return self.leave(context, event["quiet_since"])

    def look_again(self, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Go on deleting."""
        return self._go_on(context, partial(super().look_again, context, *args, **kwargs))

    def execute_complete(self, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Go on now that the stack is gone, or delete it again."""
        return self._go_on(context, partial(super().execute_complete, context, *args, **kwargs))

    def delete_again(self, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Delete a stack that could not be deleted once more."""
        return self._go_on(context, partial(super().delete_again, context, *args, **kwargs))

    def prove_again(self, context: Context, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Look for leftovers again."""
        return self._go_on(context, partial(super().prove_again, context, *args, **kwargs))

    def _nothing(self, context: Context) -> dict[str, Any]:
        self.log.info("Run %s is not in pool %s, and deletes nothing.", context["ti"].run_id, self.pool_name)
        return {"stack": "none", "leftovers": []}

    def _see_to(self, context: Context, pool: Pool, quiet_since: float = 0.0) -> dict[str, Any]:
        """Do what the pool's document says is to be done with the cluster that this run has left."""
        if pool.cluster_name != self.cluster_name or pool.state == "gone":
            self.log.info("Cluster %s of pool %s was deleted: looking for what may be left.", *self._names())
            return self._go_on(context, partial(self.begin, context))
        if pool.state == "deleting":
            deleter = pool.deletion.by if pool.deletion else ""
            if deleter == _run_of(context) or pool.is_overdue(datetime.now(UTC)):
                return self._go_on(context, partial(self.begin, context))
            self.log.info("Cluster %s of pool %s is being deleted by %s.", *self._names(), deleter)
            return {"stack": "deleting", "by": deleter}
        if holders := [str(lease) for lease in pool.holders(datetime.now(UTC))]:
            self.log.info("Cluster %s of pool %s stays: it is held by %s.", *self._names(), ", ".join(holders))
            return {"stack": "shared", "held_by": holders}
        stack = self.find_stack()
        if stack is None or progress(stack.status, "CREATE_COMPLETE") is Progress.FAILED:
            return self._see_to(context, self._claim(context))
        return self._wait_until_idle(context, pool, quiet_since)

    def _wait_until_idle(self, context: Context, pool: Pool, quiet_since: float) -> dict[str, Any]:
        since = max(quiet_since, pool.quiet_since.timestamp() if pool.quiet_since else time.time())
        self.log.info(
            "Nobody holds cluster %s of pool %s: it is deleted after %s without runs and jobs.",
            *self._names(),
            format_duration(self.idle),
        )
        address = self._address()
        trigger = PoolIdleTrigger(
            pool=self.pool_name,
            bucket=self.bucket,
            cluster_name=self.cluster_name,
            idle=self.idle.total_seconds(),
            until=time.time() + SIGN.total_seconds(),
            quiet_since=since,
            head_node=address.as_dict() if address else None,
            ssh_conn_id=self.ssh_conn_id,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            waiter_delay=self.waiter_delay,
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="look_after_idle")
        return self.look_after_idle(context, run_trigger(trigger))

    def _claim(self, context: Context) -> Pool:
        """Begin the deletion of the cluster in this run's name, unless somebody holds it."""
        by = _run_of(context)
        return self.store.change(lambda pool: begin_deletion(pool, self.cluster_name, by, datetime.now(UTC)))

    def _go_on(self, context: Context, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Take a step of the deletion; when it was the last, let the next run make a new cluster."""
        if not self._find_cluster(context):
            return self._nothing(context)
        try:
            proof = step()
        except LeftoversError:
            # The stack is gone, and the next cluster has another name: nobody has to wait for what is left of this one.
            self.end_deletion()
            raise
        self.end_deletion()
        return proof

    def _find_cluster(self, context: Context) -> str:
        """Know the name of the cluster that this run is or was in; return it, empty if there is none."""
        pool, task = self.store.read(), context["ti"]
        is_deleter = pool.deletion is not None and pool.deletion.by == _run_of(context)
        if is_deleter or pool.lease_of(task.dag_id, task.run_id) is not None:
            self.cluster_name = pool.cluster_name
        return self.cluster_name

    def _names(self) -> tuple[str, str]:
        return self.cluster_name, self.pool_name

    def _end_own_jobs(self, context: Context) -> None:
        """Cancel what still lives of this run's jobs: in a cluster that stays, nothing else would."""
        given = json.loads(self.head_node or "null") if isinstance(self.head_node, str) else self.head_node
        pool = self.store.read()
        if not given or pool.state != "open" or pool.cluster_name != self.cluster_name:
            return
        jobs = [JobPlaces.of_task(context["ti"], directory=self.directory, task_id=task) for task in self.jobs_of]

        async def cancel(session: Session) -> list[int]:
            cancelled = [await cancel_attempt(session, places) for places in jobs]
            return [job_id for job_id in cancelled if job_id is not None]

        try:
            for job_id in run_session(HeadNodeAddress.from_dict(given), self.ssh_conn_id, cancel):
                self.log.warning("Job %s of this run still lived: it is cancelled.", job_id)
        except HpcError as error:
            self.log.warning("Jobs of this run may live on in cluster %s: %s", self.cluster_name, error)

    def _address(self) -> HeadNodeAddress | None:
        try:
            return head_node_of(
                self.cluster_name,
                self.head_node,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name or None,
            )
        except HpcError as error:
            self.log.warning("Nobody can look into the queue of cluster %s: %s", self.cluster_name, error)
            return None


def renew_lease(store: PoolStore, context: Context, until: datetime) -> None:
    """Let a run hold its pool's cluster until a moment, and an hour longer, in which it is to leave.

    Raises ClusterError when the run has no lease any more, or its cluster is being deleted.
    """
    task = context["ti"]
    found = store.change(lambda pool: renew(pool, task.dag_id, task.run_id, until + WATCH))
    if found.state != "open" or found.lease_of(task.dag_id, task.run_id) is None:
        by = f", which is being deleted by {found.deletion.by}" if found.deletion else ""
        raise ClusterError(
            f"this run does not hold cluster {found.cluster_name} of pool {store.name}{by}",
            remedy="look at who deletes it; results that are not in S3 go with it",
        )


def note_reached(store: PoolStore, context: Context) -> None:
    """Note in a run's lease that it has reached the head node: from now on a job may leave results there."""
    task = context["ti"]
    store.change(lambda pool: reach(pool, task.dag_id, task.run_id))


def has_reached(store: PoolStore, context: Context) -> bool:
    """Say whether a run has reached the head node of the cluster that it holds or watches over."""
    task = context["ti"]
    lease = store.read().lease_of(task.dag_id, task.run_id)
    return lease is not None and lease.reached
