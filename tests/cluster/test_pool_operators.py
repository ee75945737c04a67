"""Runs that share a cluster: the real pcluster, the local region, and who deletes it in the end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hpc import errors, site
from hpc.cluster import template
from hpc.cluster.leftovers import find_leftovers
from hpc.cluster.pool import HEAD_START, Lease, Pool, PoolStore, begin_deletion, join, leave, release
from hpc.cluster.pool_operators import JoinPoolOperator, LeavePoolOperator, has_reached, note_reached, renew_lease
from hpc.cluster.pool_trigger import PoolIdleTrigger
from hpc.cluster.sensors import ParallelClusterSensor
from hpc.head_node.address import HeadNodeAddress, find_head_node
from hpc.head_node.session import Session, run_session
from hpc.janitor import SEEN, UNKNOWN, FindAbandonedOperator, release_pool
from hpc.names import TAG_POOL, TAG_RUN_ID, TAG_SIMULATION, expiry
from hpc.slurm.identity import JobPlaces
from hpc.slurm.operators import SlurmJobOperator
from tests.local_aws.conftest import until

from .conftest import TaskInstance, driver, first_event

if TYPE_CHECKING:
    from pathlib import Path

    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.region, pytest.mark.usefixtures("connections")]

QUICK: dict[str, Any] = {"waiter_delay": 1, "waiter_max_attempts": 120}
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
AIRFLOW = "https://airflow.example.org"
TOPIC = '{"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}'


class Sharing:
    """One pool, and the tasks of its runs."""

    def __init__(self, region: LocalRegion, pool: str, config: str = "") -> None:
        self.region = region
        self.pool = pool
        self.config = config
        self.store = PoolStore(region.client("s3"), region.bucket, pool)

    def join(self, run: str, **arguments: Any) -> dict[str, Any]:
        """Run the task that joins, of a run."""
        arguments = {"cluster_config": self.tagged(run), "lease": HOUR, "wait_for_completion": False} | arguments
        return self.drive(run, JoinPoolOperator, "create_cluster", **arguments)

    def leave(self, run: str, cluster_name: str = "", **arguments: Any) -> dict[str, Any]:
        """Run the task that leaves, of a run."""
        arguments = {"idle": SECOND, "tags": {TAG_POOL: self.pool}, "settle_seconds": 20} | arguments
        return self.drive(run, LeavePoolOperator, "delete_cluster", cluster_name=cluster_name, **arguments)

    def drive(self, run: str, kind: Any, task_id: str, **arguments: Any) -> dict[str, Any]:
        operator = kind(task_id=task_id, pool_name=self.pool, bucket=self.region.bucket, **{**QUICK, **arguments})
        result: dict[str, Any] = driver(self.context(run))(operator)
        return result

    def context(self, run: str) -> dict[str, Any]:
        return {"ti": TaskInstance(dag_id=f"simulation_{run}", run_id=f"manual__{run}")}

    def tagged(self, run: str) -> str:
        """The configuration as it is rendered for a run."""
        document = yaml.safe_load(self.config) if self.config else {}
        tags = {TAG_SIMULATION: f"simulation_{run}", TAG_RUN_ID: f"manual__{run}", TAG_POOL: self.pool}
        return template.add_tags(yaml.safe_dump({**document, "Tags": []}), tags)

    def hold(self, run: str, life: timedelta = HOUR) -> Pool:
        """Write a run's lease into the document, as its task does."""
        now = datetime.now(UTC)
        lease = Lease(dag_id=f"simulation_{run}", run_id=f"manual__{run}", expires=now + life, airflow=AIRFLOW)
        return self.store.change(lambda pool: join(pool, lease, template.fingerprint(self.tagged(run)), now))

    def let_go(self, run: str, by: str = "", ago: timedelta = timedelta(0), until: datetime | None = None) -> Pool:
        """Take a run's lease out of the document, and begin to delete in its name if `by` is given."""
        now = datetime.now(UTC)
        pool = self.store.change(
            lambda pool: leave(pool, f"simulation_{run}", f"manual__{run}", now, until or now + HOUR)
        )
        if by:
            pool = self.store.change(lambda pool: begin_deletion(pool, pool.cluster_name, by, now - ago))
        return pool

    def stack(self, number: int) -> str:
        """Make something in the place of the pool's cluster; return its name."""
        name = f"pool-{self.pool}-{number}"
        tags = [{"Key": TAG_POOL, "Value": self.pool}, {"Key": TAG_SIMULATION, "Value": "simulation_a"}]
        self.region.client("cloudformation").create_stack(StackName=name, TemplateBody=TOPIC, Tags=tags)
        return name

    def stacks(self) -> dict[str, str]:
        """Every cluster of the pool that is there, and its stack's status."""
        found = self.region.client("cloudformation").describe_stacks()["Stacks"]
        statuses = {each["StackName"]: each["StackStatus"] for each in found}
        return {name: status for name, status in statuses.items() if re.fullmatch(rf"pool-{self.pool}-\d+", name)}


@pytest.fixture
def sharing(region: LocalRegion, request: pytest.FixtureRequest) -> Sharing:
    """A pool that is this test's own."""
    return Sharing(region, f"p{abs(hash(request.node.name)) % 10**8}")


@pytest.fixture(autouse=True)
def no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack in the place of a cluster has no head node: its silence counts at once."""
    monkeypatch.setattr("hpc.cluster.pool_trigger.LONGEST_SILENCE", 0.0)


@pytest.fixture
def quick_faults(region: LocalRegion) -> Iterator[LocalRegion]:
    yield region
    region.fault("clear")


# ------------------------------------------------------------------------------------------------ with a real cluster
async def submit_by_hand(session: Session) -> str:
    return (await session.run("sbatch --parsable --wrap 'until [ -e ~/end ]; do sleep 0.2; done'")).stdout.strip()


@pytest.mark.timeout(600)
@pytest.mark.pcluster
@pytest.mark.slurm
@pytest.mark.usefixtures("parallelcluster")
def test_two_runs_share_one_cluster_and_a_third_that_comes_during_its_deletion_makes_the_next(
    quick_faults: LocalRegion, config: str, lines: Callable[[], str]
) -> None:
    mesh = Sharing(quick_faults, "mesh", config)
    made = mesh.join("a")
    shared = mesh.join("b")
    assert made == {**shared, "adopted": False}
    assert shared == {"cluster_name": "pool-mesh-1", "stack_id": made["stack_id"], "adopted": True, "pool": "mesh"}
    driver(mesh.context("b"))(ParallelClusterSensor(task_id="wait", cluster_name="pool-mesh-1", **QUICK))
    assert mesh.leave("a", "pool-mesh-1") == {"stack": "shared", "held_by": ["run manual__b of simulation_b"]}
    assert mesh.stacks() == {"pool-mesh-1": "CREATE_COMPLETE"}

    head_node = find_head_node("pool-mesh-1")
    assert run_session(head_node, "hpc_head_node", submit_by_hand) == "1"
    quick_faults.fault("delays", create=None, delete=6)
    with ThreadPoolExecutor(2) as threads:
        leaving = threads.submit(mesh.leave, "b", "pool-mesh-1", head_node=head_node.as_dict())
        try:
            until(lambda: "has no run, but 1 jobs: it stays" in lines(), 60)
            assert mesh.stacks() == {"pool-mesh-1": "CREATE_COMPLETE"}, "a job that was submitted by hand counts"
        finally:
            run_session(head_node, "hpc_head_node", touch_end)
        until(lambda: mesh.stacks() == {"pool-mesh-1": "DELETE_IN_PROGRESS"}, 60)
        third = mesh.join("c")
        gone = leaving.result()
    assert (gone["stack"], gone["leftovers"]) == ("gone", [])
    assert (third["cluster_name"], third["adopted"]) == ("pool-mesh-2", False)
    assert find_leftovers("pool-mesh-1", quick_faults.client).is_proof
    assert "pool-mesh-1 of pool mesh is being deleted: waiting for its end" in lines()
    last = mesh.leave("c", "pool-mesh-2")
    assert (last["stack"], last["leftovers"]) == ("gone", [])
    assert mesh.stacks() == {}
    assert mesh.store.read() == Pool(name="mesh", generation=2)


async def touch_end(session: Session) -> None:
    await session.run("touch ~/end")


@pytest.mark.pcluster
@pytest.mark.usefixtures("parallelcluster")
def test_a_cluster_that_could_not_be_made_is_made_anew_once_nobody_holds_it(
    quick_faults: LocalRegion, config: str
) -> None:
    mesh = Sharing(quick_faults, "failing", config)
    quick_faults.fault("bootstrap", reason="Failed to mount FSX")
    mesh.hold("b")
    with pytest.raises(errors.HeadNodeBootstrapError):
        mesh.join("a", wait_for_completion=True, rollback_on_failure=False)
    quick_faults.fault("clear")
    with pytest.raises(errors.ClusterError, match=r"CREATE_FAILED, and still held by run manual__b of simulation_b"):
        mesh.join("a")
    assert mesh.stacks() == {"pool-failing-1": "CREATE_FAILED"}, "b may be looking at it"
    mesh.let_go("b")
    assert mesh.join("a")["cluster_name"] == "pool-failing-2"
    assert mesh.leave("a")["leftovers"] == []
    assert mesh.stacks() == {}


# ------------------------------------------------------------------------------------------------ what can go wrong
def test_another_configuration_is_refused_before_anything_is_made(sharing: Sharing) -> None:
    sharing.hold("a")
    other = sharing.tagged("b").replace("Tags:", "Region: eu-west-1\nTags:")
    with pytest.raises(errors.ConfigurationError, match="was made by simulation_a from another template"):
        sharing.join("b", cluster_config=other)
    assert sharing.stacks() == {}
    assert [lease.run_id for lease in sharing.store.read().leases] == ["manual__a"]


def test_a_stack_of_that_name_that_is_no_pools_is_left_alone(sharing: Sharing, region: LocalRegion) -> None:
    cloudformation, name = region.client("cloudformation"), f"pool-{sharing.pool}-1"
    cloudformation.create_stack(StackName=name, TemplateBody=TOPIC)
    with pytest.raises(errors.ConfigurationError, match=f"The name {name} belongs to another cluster"):
        sharing.join("a")
    with pytest.raises(errors.ConfigurationError, match=f"The name {name} belongs to another cluster"):
        sharing.leave("a")
    assert sharing.stacks() == {name: "CREATE_COMPLETE"}
    cloudformation.delete_stack(StackName=name)


def test_who_never_joined_has_nothing_to_leave(sharing: Sharing) -> None:
    assert sharing.leave("a")["stack"] == "none"
    sharing.hold("b")
    assert sharing.leave("a")["stack"] == "none"
    assert len(sharing.store.read().holders(datetime.now(UTC))) == 1


@pytest.mark.pcluster
@pytest.mark.usefixtures("parallelcluster")
def test_a_run_that_crashed_after_it_joined_leaves_what_the_document_knows(sharing: Sharing) -> None:
    sharing.stack(1)
    sharing.hold("a")
    assert sharing.leave("a", cluster_name="", idle=timedelta(seconds=0))["stack"] == "gone"
    assert sharing.stacks() == {}
    again = sharing.leave("a", cluster_name=f"pool-{sharing.pool}-1")
    assert again["leftovers"] == [], "who clears the task gets a proof again"


@pytest.mark.pcluster
@pytest.mark.usefixtures("parallelcluster")
def test_a_deletion_that_was_begun_is_gone_on_with_by_the_next_try(sharing: Sharing) -> None:
    sharing.stack(1)
    sharing.hold("a")
    sharing.let_go("a", by="run manual__a of simulation_a")
    assert sharing.leave("a")["stack"] == "gone"
    assert sharing.store.read().state == "gone"


def test_a_deletion_of_somebody_else_is_left_to_him_until_it_is_overdue(sharing: Sharing) -> None:
    old = sharing.stack(1)
    sharing.hold("a")
    sharing.let_go("a", by="run x of y")
    assert sharing.leave("a") == {"stack": "deleting", "by": "run x of y"}
    assert sharing.stacks() == {old: "CREATE_COMPLETE"}


def test_a_run_that_waits_for_an_overdue_deletion_sees_to_it(sharing: Sharing, lines: Callable[[], str]) -> None:
    sharing.stack(1)
    new = sharing.stack(2)  # in the place of a cluster that takes long to be made
    sharing.hold("a")
    sharing.let_go("a", by="run x of y", ago=HEAD_START)
    joined = sharing.join("b")
    assert (joined["cluster_name"], joined["adopted"]) == (new, True)
    assert sharing.stacks() == {new: "CREATE_COMPLETE"}
    assert "is being deleted: waiting for its end" in lines()


def test_a_run_waits_for_the_proof_of_somebody_elses_deletion(sharing: Sharing, lines: Callable[[], str]) -> None:
    new = sharing.stack(2)
    sharing.hold("a")
    sharing.let_go("a", by="run x of y")
    with ThreadPoolExecutor(1) as threads:
        joining = threads.submit(sharing.join, "b")
        until(lambda: "is being deleted by run x of y: looking again" in lines())
        assert not joining.done()
        assert sharing.store.read().state == "deleting"
        release(sharing.region.client, sharing.region.bucket, sharing.pool, f"pool-{sharing.pool}-1")
        assert joining.result()["cluster_name"] == new


def test_a_run_waits_for_a_deletion_no_longer_than_to_its_deadline(sharing: Sharing) -> None:
    sharing.hold("a")
    sharing.let_go("a", by="run x of y")
    with pytest.raises(errors.DeadlineExceededError, match=r"is still being deleted by run x of y"):
        sharing.join("b", until=expiry(datetime.now(UTC), 2))


def test_a_run_that_comes_in_the_idle_time_keeps_the_cluster(sharing: Sharing, lines: Callable[[], str]) -> None:
    name = sharing.stack(1)
    sharing.hold("a")
    with ThreadPoolExecutor(1) as threads:
        leaving = threads.submit(sharing.leave, "a", idle=HOUR)
        until(lambda: "it is deleted after 1h 00m without runs and jobs" in lines())
        sharing.hold("b")
        assert leaving.result() == {"stack": "shared", "held_by": ["run manual__b of simulation_b"]}
    assert sharing.stacks() == {name: "CREATE_COMPLETE"}
    assert [lease.run_id for lease in sharing.store.read().leases] == ["manual__b"]


@pytest.fixture
def facts(region: LocalRegion, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The Variable `hpc_site`."""
    monkeypatch.setattr(site, "_read", lambda: {"region": region.region, "bucket": region.bucket})
    site._variable.cache_clear()
    yield
    site._variable.cache_clear()


@pytest.mark.usefixtures("facts", "at_once")
def test_a_pool_that_cannot_be_read_keeps_the_janitor_from_no_other_cluster(sharing: Sharing) -> None:
    broken, sound = sharing.stack(1), Sharing(sharing.region, f"{sharing.pool}b")
    other = sound.stack(1)
    sound.hold("a")
    sound.let_go("a", until=datetime.now(UTC))
    sharing.region.client("s3").put_object(Bucket=sharing.region.bucket, Key=sharing.store.key, Body=b"{")
    context = sharing.context("janitor") | {"params": {"dry_run": False}}
    todo = FindAbandonedOperator(task_id="find", grace=3).execute(context)
    assert broken not in [each["cluster_name"] for each in todo]
    assert [line for line in context["ti"].xcoms[UNKNOWN] if line.startswith(f"{broken}: ") and "no document" in line]
    (found,) = [each for each in todo if each["cluster_name"] == other]
    begun = sound.store.read().deletion
    assert begun is not None
    assert found["keep_until"] == (begun.begun + 3 * HOUR).isoformat(), "the grace is not that of the pool's first run"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A janitor that gives no time to a queue that it cannot see, and to runs that are missing."""
    for name in ("QUEUE_UNKNOWN", "MISSING_IS_OVER"):
        monkeypatch.setattr(f"hpc.janitor.{name}", timedelta(0))


def look(sharing: Sharing, *, dry_run: bool = False, runs: int = 1, grace: int = 24) -> tuple[bool, str]:
    """Let the janitor look at a pool's first cluster; Airflow counts so many of its runs, all of them going on."""
    context, name = sharing.context("janitor") | {"params": {"dry_run": dry_run}}, f"pool-{sharing.pool}-1"
    context["ti"].get_dr_count = lambda **_: runs
    todo = FindAbandonedOperator(task_id="find", grace=grace).execute(context)
    (seen,) = [each for each in context["ti"].xcoms[SEEN] if each["cluster_name"] == name]
    assert (name in [each["cluster_name"] for each in todo]) is (seen["abandoned"] and not dry_run)
    return seen["abandoned"], seen["why"]


@pytest.mark.usefixtures("facts", "at_once")
def test_the_janitor_leaves_a_cluster_alone_that_is_held_and_claims_one_that_is_not(sharing: Sharing) -> None:
    name = sharing.stack(1)
    sharing.hold("a")
    abandoned, why = look(sharing)
    assert not abandoned
    assert why.startswith("is held by run manual__a of simulation_a, until ")
    sharing.let_go("a", until=datetime.now(UTC))
    abandoned, why = look(sharing, dry_run=True)
    assert abandoned
    assert why.startswith(f"no run of pool {sharing.pool} holds it; ")
    assert sharing.store.read().state == "open", "a dry run claims nothing"
    assert look(sharing)[0]
    pool = sharing.store.read()
    assert pool.state == "deleting"
    assert sharing.hold("b").state == "deleting", "no run joins what the janitor deletes"
    assert look(sharing)[0], "and an hour later, if it could not be deleted"
    found: Any = SimpleNamespace(map_index=0, xcom_pull=lambda task_ids: [{"pool": sharing.pool, "cluster_name": name}])
    release_pool("aws_default", {"ti": found})  # type: ignore[typeddict-item]
    assert sharing.store.read().state == "gone"


@pytest.mark.usefixtures("facts", "at_once")
@pytest.mark.parametrize("leaving", [False, True])
def test_a_lease_of_a_run_that_was_deleted_keeps_no_cluster(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch, leaving: bool
) -> None:
    sharing.stack(1)
    sharing.hold("a")
    if leaving:
        sharing.let_go("a")
    assert look(sharing, runs=0)[1].startswith("is held by run manual__a of simulation_a"), "of some other Airflow"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", AIRFLOW)
    assert not look(sharing)[0], "its run goes on"
    before = sharing.store.read()
    abandoned, why = look(sharing, runs=0, dry_run=True)
    assert abandoned
    assert "but its run no longer exists: run manual__a of simulation_a" in why
    assert sharing.store.read() == before, "a dry run writes nothing"
    assert look(sharing, runs=0)[0]
    pool = sharing.store.read()
    assert (pool.state, pool.leases) == ("deleting", ())


async def submit_ours(session: Session) -> str:
    name = JobPlaces("/fsx/runs/a", "0123456789ab", "melt.submit_job").job_name
    return (await session.run(f"sbatch --parsable --job-name {name}1 --wrap 'sleep 300'")).stdout.strip()


@pytest.mark.slurm
@pytest.mark.usefixtures("facts")
def test_a_job_by_hand_keeps_a_shared_cluster_from_the_janitor_until_the_grace_is_over(
    sharing: Sharing, head_node: HeadNodeAddress
) -> None:
    sharing.stack(1)
    sharing.hold("a")
    ended = sharing.let_go("a", until=datetime.now(UTC)).unheld_since(datetime.now(UTC))
    assert ended is not None
    run_session(head_node, "hpc_head_node", submit_ours)
    assert look(sharing, dry_run=True) == (True, f"no run of pool {sharing.pool} holds it"), "a run's job is no reason"
    by_hand = run_session(head_node, "hpc_head_node", submit_by_hand)
    abandoned, why = look(sharing)
    assert not abandoned
    assert re.search(
        rf"no run of pool {sharing.pool} holds it; by hand it was given job {by_hand} \(wrap, [A-Z]+\)", why
    )
    assert why.endswith(f"until {ended + 24 * HOUR:%Y-%m-%d %H:%M} UTC at most")
    assert sharing.store.read().state == "open"
    assert look(sharing, grace=0, dry_run=True)[0], "the grace is over"
    run_session(head_node, "hpc_head_node", lambda session: session.run(f"scancel {by_hand}"))
    until(lambda: look(sharing, dry_run=True)[0], 60)
    assert look(sharing)[0]
    assert sharing.store.read().state == "deleting"


@pytest.mark.slurm
@pytest.mark.usefixtures("facts", "at_once")
def test_the_grace_of_a_job_by_hand_begins_when_the_runs_were_seen_to_have_ended(
    sharing: Sharing, head_node: HeadNodeAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", AIRFLOW)
    sharing.stack(1)
    sharing.hold("a", 48 * HOUR)
    run_session(head_node, "hpc_head_node", submit_by_hand)
    assert not look(sharing, runs=0)[0]
    seen = sharing.store.read()
    assert seen.quiet_since is not None
    assert seen.quiet_since > datetime.now(UTC) - HOUR, "and not when its lease ends"
    abandoned, why = look(sharing, runs=0, grace=1)
    assert not abandoned
    assert f"until {seen.quiet_since + HOUR:%Y-%m-%d %H:%M} UTC at most" in why
    assert sharing.store.read() == seen


@pytest.mark.usefixtures("facts")
def test_one_look_in_vain_at_the_queue_deletes_no_shared_cluster(sharing: Sharing) -> None:
    name = sharing.stack(1)
    sharing.hold("a")
    sharing.let_go("a", until=datetime.now(UTC))
    context: Any = sharing.context("janitor") | {"params": {"dry_run": False}}
    context["ti"].get_dr_count = lambda **_: 1
    todo = FindAbandonedOperator(task_id="find").execute(context)
    assert name not in [each["cluster_name"] for each in [*todo, *context["ti"].xcoms[SEEN]]]
    (unknown,) = [line for line in context["ti"].xcoms[UNKNOWN] if line.startswith(f"{name}: ")]
    assert f"no run of pool {sharing.pool} holds it; whether jobs by hand are in its queue is NOT known" in unknown
    assert sharing.store.read().state == "open"


@pytest.mark.usefixtures("facts")
def test_a_run_that_airflow_does_not_know_ends_its_lease_at_a_later_visit(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", AIRFLOW)
    sharing.stack(1)
    sharing.hold("a")
    abandoned, why = look(sharing, runs=0)
    assert not abandoned
    assert why.endswith("it is deleted at one of the next visits, should nobody return")
    assert sharing.store.read().quiet_since is not None, "from now on its time runs"
    assert not look(sharing, runs=1)[0]


@pytest.mark.usefixtures("facts", "at_once")
def test_a_head_node_that_cannot_be_asked_keeps_no_shared_cluster(sharing: Sharing) -> None:
    sharing.stack(1)
    sharing.hold("a")
    sharing.let_go("a", until=datetime.now(UTC))
    abandoned, why = look(sharing)
    assert abandoned
    assert "whether jobs by hand are in its queue is NOT known: cluster " in why
    assert sharing.store.read().state == "deleting"


def test_a_lease_names_its_airflow(sharing: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    sharing.stack(1)
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", AIRFLOW)
    assert sharing.join("a")["adopted"]
    assert [lease.airflow for lease in sharing.store.read().leases] == [AIRFLOW]


def test_a_hold_renews_the_lease(sharing: Sharing) -> None:
    sharing.hold("a")
    end = datetime.now(UTC) + 24 * HOUR
    renew_lease(sharing.store, sharing.context("a"), end)
    assert sharing.store.read().holders(end)


def test_a_hold_without_a_lease_says_so(sharing: Sharing) -> None:
    sharing.hold("a")
    with pytest.raises(errors.ClusterError, match=f"this run does not hold cluster pool-{sharing.pool}-1"):
        renew_lease(sharing.store, sharing.context("b"), datetime.now(UTC) + HOUR)


def test_each_run_of_a_pool_knows_whether_it_has_reached_the_head_node(sharing: Sharing) -> None:
    note_reached(sharing.store, sharing.context("a"))
    assert not has_reached(sharing.store, sharing.context("a")), "it holds nothing"
    for run in "ab":
        sharing.hold(run)
    note_reached(sharing.store, sharing.context("a"))
    sharing.hold("a")  # its creation was cleared
    renew_lease(sharing.store, sharing.context("a"), datetime.now(UTC) + 48 * HOUR)
    assert has_reached(sharing.store, sharing.context("a"))
    assert not has_reached(sharing.store, sharing.context("b"))
    sharing.let_go("b")
    sharing.let_go("a")
    assert has_reached(sharing.store, sharing.context("a"))


# ------------------------------------------------------------------------------------------------ the idle time
@pytest.fixture
def head_node(sharing: Sharing, region: LocalRegion) -> Iterator[HeadNodeAddress]:
    """A head node with a real Slurm in the place of the pool's cluster."""
    name = f"pool-{sharing.pool}-1"
    region.start_cluster(name, nodes=1)
    yield find_head_node(name)
    region.stop_cluster(name)


def watch(sharing: Sharing, head_node: HeadNodeAddress | None, **arguments: Any) -> dict[str, Any]:
    """Wait for the end of the idle time, and return the trigger's event."""
    trigger = PoolIdleTrigger(
        pool=sharing.pool,
        bucket=sharing.region.bucket,
        cluster_name=f"pool-{sharing.pool}-1",
        head_node=head_node.as_dict() if head_node else None,
        ssh_conn_id="hpc_head_node",
        aws_conn_id="aws_default",
        region_name=None,
        **{"idle": 1.0, "until": time.time() + 60, "quiet_since": 0.0, "waiter_delay": 1, **arguments},
    )
    event: dict[str, Any] = first_event(trigger)
    return event


@pytest.mark.slurm
def test_the_idle_time_begins_anew_when_a_job_was_there(sharing: Sharing, head_node: HeadNodeAddress) -> None:
    sharing.hold("a")
    sharing.let_go("a")
    assert watch(sharing, head_node)["status"] == "idle"
    run_session(head_node, "hpc_head_node", submit_by_hand)
    watched = watch(sharing, head_node, until=time.time() + 3)
    assert watched["status"] == "watching"
    busy = time.time()
    assert busy - watched["quiet_since"] < 3
    run_session(head_node, "hpc_head_node", touch_end)
    idle = watch(sharing, head_node, idle=4.0, quiet_since=watched["quiet_since"])
    assert idle["status"] == "idle"
    assert time.time() >= watched["quiet_since"] + 4


def test_a_head_node_that_does_not_answer_is_not_waited_for_forever(
    sharing: Sharing, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharing.hold("a")
    sharing.let_go("a")
    monkeypatch.setattr("hpc.cluster.pool_trigger.LONGEST_SILENCE", 60.0)
    assert watch(sharing, None, until=time.time() + 3)["status"] == "watching"
    monkeypatch.setattr("hpc.cluster.pool_trigger.LONGEST_SILENCE", 2.0)
    assert watch(sharing, None)["status"] == "idle"


def test_a_cluster_that_is_held_or_is_another_one_is_not_for_the_watcher_to_delete(sharing: Sharing) -> None:
    sharing.hold("a")
    assert watch(sharing, None)["status"] == "used"
    sharing.let_go("a", by="run x of y")
    assert watch(sharing, None)["status"] == "used"


@pytest.mark.slurm
def test_what_lives_of_a_runs_own_jobs_ends_when_it_leaves_and_nobody_elses(
    sharing: Sharing, head_node: HeadNodeAddress, tmp_path: Path, lines: Callable[[], str]
) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\nsleep 300\n")
    for run in ("a", "b"):
        sharing.hold(run)
        context = sharing.context(run)
        context["ti"].task_id, context["ti"].max_tries = "submit_job", 1
        SlurmJobOperator(
            task_id="submit_job",
            cluster_name=head_node.cluster_name,
            head_node=head_node.as_dict(),
            job_script=script,
            directory=f"/fsx/runs/{run}",
            wait_for_completion=False,
        ).execute(context)
    jobs = {"jobs_of": ["submit_job", "postprocess"], "directory": "/fsx/runs/a", "head_node": head_node.as_dict()}
    assert sharing.leave("a", **jobs)["stack"] == "shared"
    assert "Job 1 of this run still lived: it is cancelled" in lines()

    async def names(session: Session) -> list[str]:
        return (await session.run("squeue --noheader --format=%j")).stdout.split()

    (left,) = run_session(head_node, "hpc_head_node", names)
    assert left.startswith("simulation_b.submit_job.")
