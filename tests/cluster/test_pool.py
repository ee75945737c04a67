"""Who may delete a shared cluster, and when: the rules, any order of them, and a race of many for one document."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpc.cluster.pool import (
    HEAD_START,
    Lease,
    Pool,
    PoolStore,
    begin_deletion,
    claim,
    deletion_done,
    held,
    join,
    leave,
    release,
    renew,
    see_ended,
)
from hpc.errors import ConfigurationError

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

NOW = datetime(2026, 11, 27, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
EMPTY = Pool(name="mesh")


def lease(run: str, expires: datetime = NOW + HOUR, dag: str = "lj_melt") -> Lease:
    return Lease(dag_id=dag, run_id=run, expires=expires)


def joined(pool: Pool, *runs: str, now: datetime = NOW, configuration: str = "c1") -> Pool:
    for run in runs:
        pool = join(pool, lease(run, now + HOUR), configuration, now)
    return pool


def left(pool: Pool, run: str, now: datetime = NOW) -> Pool:
    return leave(pool, "lj_melt", run, now, now + HOUR)


# ------------------------------------------------------------------------------------------------ the rules
def test_the_first_run_opens_a_generation_and_the_second_shares_it() -> None:
    pool = joined(EMPTY, "a", "b")
    assert (pool.state, pool.generation, pool.cluster_name, pool.made_by) == ("open", 1, "pool-mesh-1", "lj_melt")
    assert [each.run_id for each in pool.holders(NOW)] == ["a", "b"]
    assert joined(pool, "b") == pool, "joining again makes no difference"


def test_only_the_last_run_that_leaves_watches_over_the_cluster() -> None:
    pool = joined(EMPTY, "a", "b")
    pool = left(pool, "a")
    assert [each.run_id for each in pool.live(NOW)] == ["b"]
    assert begin_deletion(pool, "pool-mesh-1", "a", NOW) is pool, "b holds it"
    pool = left(pool, "b")
    assert not pool.holders(NOW)
    assert [(each.run_id, each.leaving) for each in pool.live(NOW)] == [("b", True)]
    assert pool.quiet_since == NOW
    assert left(pool, "b", NOW + HOUR / 2).quiet_since == NOW, "leaving again does not begin the idle time again"
    assert joined(pool, "c").quiet_since is None
    assert [each.run_id for each in left(joined(pool, "c"), "b").live(NOW)] == ["c"]


def test_a_run_cannot_join_a_cluster_that_is_being_deleted_and_makes_the_next_one() -> None:
    pool = left(joined(EMPTY, "a"), "a")
    pool = begin_deletion(pool, "pool-mesh-1", "run a of lj_melt", NOW)
    assert pool.state == "deleting"
    assert pool.deletion is not None
    assert pool.deletion.by == "run a of lj_melt"
    assert joined(pool, "b") is pool
    gone = deletion_done(pool, "pool-mesh-1")
    assert (gone.state, gone.leases) == ("gone", ())
    assert joined(gone, "b").cluster_name == "pool-mesh-2"


def test_who_is_late_changes_nothing_of_the_next_cluster() -> None:
    first = begin_deletion(left(joined(EMPTY, "a"), "a"), "pool-mesh-1", "a", NOW)
    second = left(joined(deletion_done(first, "pool-mesh-1"), "b"), "b")
    assert begin_deletion(second, "pool-mesh-1", "a", NOW) is second
    assert deletion_done(begin_deletion(second, "pool-mesh-2", "b", NOW), "pool-mesh-1").state == "deleting"
    assert left(second, "a") is second
    assert renew(second, "lj_melt", "a", NOW + 9 * HOUR) is second


def test_a_lease_that_has_expired_holds_nothing_and_one_that_was_renewed_does() -> None:
    pool = joined(EMPTY, "crashed", "b")
    pool = renew(left(pool, "b"), "lj_melt", "crashed", NOW + 2 * HOUR)
    late = NOW + 1.5 * HOUR
    assert begin_deletion(pool, "pool-mesh-1", "b", late) is pool
    assert renew(pool, "lj_melt", "crashed", NOW) is pool, "a renewal never shortens"
    assert begin_deletion(pool, "pool-mesh-1", "b", NOW + 2 * HOUR).state == "deleting"


def test_a_lease_whose_run_has_ended_holds_nothing_unless_it_was_taken_again_or_renewed_meanwhile() -> None:
    pool = joined(EMPTY, "a", "b")
    ended = pool.leases
    assert begin_deletion(pool, "pool-mesh-1", "janitor", NOW) is pool
    assert begin_deletion(pool, "pool-mesh-1", "janitor", NOW, ended=ended[:1]) is pool, "b holds it"
    assert begin_deletion(pool, "pool-mesh-2", "janitor", NOW, ended=ended) is pool
    closed = begin_deletion(pool, "pool-mesh-1", "janitor", NOW, ended=ended)
    assert (closed.state, closed.leases) == ("deleting", ())
    assert begin_deletion(closed, "pool-mesh-1", "janitor", NOW, ended=ended) is closed
    for changed in (
        renew(pool, "lj_melt", "a", NOW + 2 * HOUR),
        join(pool, lease("a", NOW + 1.1 * HOUR), "c1", NOW),
        joined(pool, "c"),
    ):
        assert begin_deletion(changed, "pool-mesh-1", "janitor", NOW, ended=ended) is changed


def test_nobody_holds_a_cluster_since_the_last_run_left_or_its_lease_ended_or_it_was_seen_to_be_over() -> None:
    pool = joined(EMPTY, "a", "b")
    assert pool.unheld_since(NOW) is None
    assert pool.unheld_since(NOW + 3 * HOUR) == NOW + HOUR
    assert left(pool, "b").unheld_since(NOW + HOUR / 2) is None, "a holds it"
    assert left(left(pool, "b"), "a", NOW + HOUR / 2).unheld_since(NOW + HOUR / 2) == NOW + HOUR / 2
    seen = see_ended(pool, "pool-mesh-1", NOW + HOUR / 4, pool.leases)
    assert seen.leases == pool.leases, "a run that is cleared goes on with its lease"
    assert seen.unheld_since(NOW + HOUR / 2) == NOW + HOUR / 4
    assert see_ended(seen, "pool-mesh-1", NOW + HOUR / 2, pool.leases) is seen, "since the first time"
    assert see_ended(pool, "pool-mesh-1", NOW, pool.leases[:1]) is pool, "b holds it"
    assert see_ended(pool, "pool-mesh-2", NOW, pool.leases) is pool
    assert see_ended(pool, "pool-mesh-1", NOW + HOUR, pool.leases) is pool, "the end of the lease says when"
    assert joined(seen, "c").unheld_since(NOW) is None
    assert left(left(seen, "b"), "a", NOW + HOUR / 2).quiet_since == NOW + HOUR / 2, "a has gone on until then"


def test_another_configuration_is_refused_as_long_as_there_is_the_cluster() -> None:
    pool = joined(EMPTY, "a")
    with pytest.raises(ConfigurationError, match=r"pool-mesh-1 of pool mesh was made by lj_melt from another template"):
        join(pool, lease("b", dag="ising"), "c2", NOW)
    gone = deletion_done(begin_deletion(left(pool, "a"), "pool-mesh-1", "a", NOW), "pool-mesh-1")
    assert join(gone, lease("b", dag="ising"), "c2", NOW).made_by == "ising"


def test_a_deletion_is_overdue_after_its_head_start() -> None:
    pool = begin_deletion(left(joined(EMPTY, "a"), "a"), "pool-mesh-1", "a", NOW)
    assert not pool.is_overdue(NOW + HEAD_START - timedelta(seconds=1))
    assert pool.is_overdue(NOW + HEAD_START)
    assert not joined(EMPTY, "a").is_overdue(NOW + HEAD_START)


# ------------------------------------------------------------------------------------------------ any order of them
@dataclass
class Run:
    """A run as it knows itself; it forgets everything when it crashes."""

    does: str = "nothing"
    cluster: str = ""
    expires: datetime = NOW


class AnyOrder(RuleBasedStateMachine):
    """Runs that join, work, leave and delete, stall for any time, act late, and crash anywhere; and a janitor.

    A crashed run may begin anew under its name, as a task that is retried does, knowing nothing but the document.
    """

    names = st.sampled_from(["a", "b", "c"])

    @initialize()
    def begin(self) -> None:
        self.pool = EMPTY
        self.now = NOW
        self.runs = {name: Run() for name in "abc"}
        self.stacks: set[str] = set()
        self.made: list[str] = []
        self.ended: list[Lease] = []

    @rule(name=names, dice=st.integers(0, 9), hours=st.integers(1, 4))
    def go_on(self, name: str, dice: int, hours: int) -> None:
        run = self.runs[name]
        if dice == 0:
            self.runs[name] = Run()  # it crashes
        elif run.does == "nothing":
            self.join_it(name, self.now + hours * HOUR)
        elif run.does == "work":
            self.work(name, dice, self.now + hours * HOUR)
        elif run.does == "watch" and dice < 4:
            run.does = "nothing"  # a person clears it
        elif run.does == "watch":
            self.pool = begin_deletion(self.pool, run.cluster, name, self.now)
            if self.pool.state == "deleting" and self.pool.cluster_name == run.cluster:
                run.does = "delete"
        elif dice < 6:
            self.delete(run.cluster)
        elif run.cluster not in self.stacks:
            self.pool = deletion_done(self.pool, run.cluster)
            run.does = "nothing"

    def join_it(self, name: str, expires: datetime) -> None:
        run = self.runs[name]
        moment = timedelta(microseconds=1)  # no two leases are of the same one
        self.now, expires = self.now + moment, expires + moment
        self.pool = join(self.pool, lease(name, expires), "c1", self.now)
        if self.pool.state == "open":
            run.does, run.cluster, run.expires = "work", self.pool.cluster_name, expires

    def work(self, name: str, dice: int, until: datetime) -> None:
        """Make the cluster, hold it, or leave it."""
        run = self.runs[name]
        if dice < 4 and run.expires > self.now and run.cluster not in self.stacks:
            assert run.cluster not in self.made, "a name that was deleted is made again"
            self.stacks.add(run.cluster)
        elif dice < 5 and run.expires > self.now:
            self.pool = renew(self.pool, "lj_melt", name, until)
            run.expires = max(run.expires, until)
        elif dice >= 5:
            self.pool = leave(self.pool, "lj_melt", name, self.now, self.now + HOUR)
            run.does = "watch"

    @precondition(lambda self: self.pool.is_overdue(self.now))
    @rule()
    def help_with_an_overdue_deletion(self) -> None:
        if self.pool.is_overdue(self.now):
            self.delete(self.pool.cluster_name)
            self.pool = deletion_done(self.pool, self.pool.cluster_name)

    @rule(minutes=st.sampled_from([1, 20, 60, 300]))
    def let_time_pass(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(name=names)
    def ask_which_runs_have_ended(self, name: str) -> None:
        """Ask Airflow when one more has, as the janitor does before it acts: a run may have begun anew meanwhile."""
        self.runs[name] = Run()
        self.ended = [lease for lease in self.pool.leases if self.runs[lease.run_id].does == "nothing"]

    @precondition(lambda self: self.pool.state != "gone")
    @rule()
    def clean_up(self) -> None:
        self.pool = begin_deletion(self.pool, self.pool.cluster_name, "janitor", self.now, ended=self.ended)
        if self.pool.state == "deleting":
            self.delete(self.pool.cluster_name)
            self.pool = deletion_done(self.pool, self.pool.cluster_name)

    def delete(self, cluster: str) -> None:
        self.stacks.discard(cluster)
        self.made.append(cluster)

    @invariant()
    def no_run_loses_its_cluster(self) -> None:
        for name, run in getattr(self, "runs", {}).items():
            if run.does == "work" and run.expires > self.now:
                assert self.pool.state == "open", name
                assert self.pool.cluster_name == run.cluster, name
                assert run.cluster not in self.made, name

    @invariant()
    def there_is_one_cluster_at_the_most(self) -> None:
        assert len(getattr(self, "stacks", ())) <= 1

    def teardown(self) -> None:
        """Whatever happened, and if nobody does anything any more: the janitor can delete what there is."""
        if not hasattr(self, "pool"):
            return
        self.now += 24 * HOUR
        self.clean_up()
        if self.pool.state == "deleting":
            self.help_with_an_overdue_deletion()
        assert self.pool.state == "gone"
        assert not self.stacks


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestAnyOrder = AnyOrder.TestCase


# ------------------------------------------------------------------------------------------------ in the bucket
def store(region: LocalRegion, name: str) -> PoolStore:
    return PoolStore(region.client("s3"), region.bucket, name)


@pytest.mark.region
def test_the_document_is_kept_and_read_again(region: LocalRegion) -> None:
    pool = store(region, "kept").change(lambda pool: joined(pool, "a"))
    assert store(region, "kept").read() == pool
    assert store(region, "never").read() == Pool(name="never")
    region.client("s3").put_object(Bucket=region.bucket, Key="pools/broken.json", Body=b"{}")
    with pytest.raises(ConfigurationError, match=r"pools/broken.json is no document of a pool"):
        store(region, "broken").read()


@pytest.mark.region
def test_a_document_from_before_leases_named_their_airflow_is_read(region: LocalRegion) -> None:
    old = {"dag_id": "melt", "run_id": "a", "expires": "2026-11-27T02:00:00Z", "results": "discard", "leaving": False}
    pool = {"name": "old", "generation": 3, "state": "open", "configuration": "c1", "made_by": "melt", "leases": [old]}
    region.client("s3").put_object(Bucket=region.bucket, Key="pools/old.json", Body=json.dumps(pool).encode())
    (found,) = store(region, "old").read().leases
    assert (found.airflow, found.expires) == ("", NOW + HOUR)


@pytest.mark.region
def test_no_change_is_lost_to_another_one(region: LocalRegion) -> None:
    stores = [store(region, "counted") for _ in range(8)]

    def join_six_times(number: int) -> None:
        for each in range(6):
            run = f"{number}-{each}"
            stores[number].change(lambda pool, run=run: joined(pool, run))  # type: ignore[misc]

    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(join_six_times, range(len(stores))))
    assert len(store(region, "counted").read().leases) == 48


@pytest.mark.region
def test_the_janitor_gets_a_cluster_that_nobody_sees_to_and_no_other(region: LocalRegion) -> None:
    clients, now = region.client, datetime.now(UTC)
    mesh = store(region, "janitor")
    pool = mesh.change(lambda pool: join(pool, lease("a", now + HOUR), "c1", now))
    arguments = (clients, region.bucket, "janitor")
    assert [str(each) for each in held(*arguments, pool.cluster_name, now)] == ["run a of lj_melt"]
    assert held(*arguments, "pool-janitor-0", now) == []
    assert not claim(*arguments, pool.cluster_name, "janitor")
    mesh.change(lambda pool: leave(pool, "lj_melt", "a", now, now + HOUR))
    assert not claim(*arguments, pool.cluster_name, "janitor"), "the run that leaves watches over it"
    mesh.change(lambda pool: leave(pool, "lj_melt", "a", now, now))
    assert held(*arguments, pool.cluster_name, now) == []
    assert claim(*arguments, pool.cluster_name, "janitor")
    assert claim(*arguments, pool.cluster_name, "janitor"), "again, after a crash"
    assert mesh.read().state == "deleting"
    release(*arguments, pool.cluster_name)
    assert mesh.read().state == "gone"


@pytest.mark.region
def test_the_janitor_gets_a_cluster_whose_runs_have_ended_although_their_leases_have_not(region: LocalRegion) -> None:
    clients, now = region.client, datetime.now(UTC)
    mesh = store(region, "ended")
    pool = mesh.change(lambda pool: join(pool, lease("a", now + HOUR), "c1", now))
    arguments = (clients, region.bucket, "ended", pool.cluster_name)
    ended = held(*arguments, now)
    mesh.change(lambda pool: join(pool, lease("b", now + HOUR), "c1", now))
    assert not claim(*arguments, "janitor", ended=ended), "b has joined meanwhile"
    mesh.change(lambda pool: leave(pool, "lj_melt", "b", now, now))
    mesh.change(lambda pool: renew(pool, "lj_melt", "a", now + 2 * HOUR))
    assert not claim(*arguments, "janitor", ended=ended), "a has come to life again"
    ended = held(*arguments, now)
    assert claim(*arguments, "janitor", ended=ended)
    assert claim(*arguments, "janitor", ended=ended), "again, after a crash"
    found = mesh.read()
    assert (found.state, found.leases) == ("deleting", ())


@dataclass
class World:
    """The clusters as they really are, and who works on each."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    working: dict[str, set[str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def work(self, cluster: str, run: str, seconds: float) -> None:
        with self.lock:
            self.working.setdefault(cluster, set()).add(run)
            if cluster in self.deleted:
                self.lost.append(f"{run} works on {cluster}, which is gone")
            self.counts["runs"] += 1
        time.sleep(seconds)  # the job
        with self.lock:
            self.working[cluster].discard(run)

    def delete(self, cluster: str) -> None:
        with self.lock:
            self.deleted.add(cluster)
            self.lost += [f"{run} loses {cluster}" for run in self.working.get(cluster, ())]
            self.counts["deletions"] += 1


@pytest.mark.region
def test_runs_that_race_against_the_deletion_never_lose_their_cluster_and_leave_none(region: LocalRegion) -> None:
    """Three runs at a time, fifty times each, come, work, leave, and delete as the last; some crash before they work.

    What a crashed run holds ends with its lease, after a fifth of a second; nobody else's does.
    """
    world, failures = World(), []
    stores = [store(region, "race") for _ in range(3)]

    def live(number: int) -> None:
        mesh, dice = stores[number], random.Random(number)
        for each in range(50):
            run = f"{number}-{each}"
            crashes = dice.random() < 0.05
            time.sleep(dice.uniform(0, 0.05))  # until somebody triggers the next run
            pool = enter(mesh, run, timedelta(seconds=0.2) if crashes else HOUR)
            if crashes:
                world.counts["crashes"] += 1
                continue
            world.work(pool.cluster_name, run, dice.uniform(0, 0.02))
            pool = mesh.change(lambda pool, run=run: left(pool, run, datetime.now(UTC)))  # type: ignore[misc]
            delete_as_the_last(mesh, world, run, pool)

    def guarded(number: int) -> None:
        try:
            live(number)
        except Exception as error:
            failures.append(error)

    with ThreadPoolExecutor(len(stores)) as threads:
        list(threads.map(guarded, range(len(stores))))
    assert failures == []
    assert world.lost == []
    final = stores[0].read()
    if final.state == "open":  # a run that crashed was the last
        until_expired = max((each.expires for each in final.leases), default=NOW) - datetime.now(UTC)
        assert until_expired < timedelta(seconds=1)
        time.sleep(max(0.0, until_expired.total_seconds()))  # a lease ends by the clock alone
        assert claim(region.client, region.bucket, "race", final.cluster_name, "janitor")
        world.delete(final.cluster_name)
        release(region.client, region.bucket, "race", final.cluster_name)
    final = stores[0].read()
    assert final.state == "gone"
    assert len(world.deleted) == final.generation, "every cluster that was made is gone, and each was deleted once"
    assert world.counts["deletions"] == final.generation
    assert world.counts["runs"] + world.counts["crashes"] == 150
    assert final.generation >= 20, "there was no race"


def enter(mesh: PoolStore, run: str, life: timedelta) -> Pool:
    """Join, and wait for a deletion that is going on."""
    while True:
        now = datetime.now(UTC)
        pool = mesh.change(lambda pool, now=now: join(pool, lease(run, now + life), "c1", now))  # type: ignore[misc]
        if pool.state == "open":
            return pool
        time.sleep(0.005)  # the pause of the deferred task between two looks


def delete_as_the_last(mesh: PoolStore, world: World, run: str, pool: Pool) -> None:
    now, cluster = datetime.now(UTC), pool.cluster_name
    if pool.holders(now) or pool.state != "open":
        return
    pool = mesh.change(lambda pool: begin_deletion(pool, cluster, run, datetime.now(UTC)))
    if pool.state == "deleting" and pool.deletion is not None and pool.deletion.by == run:
        world.delete(cluster)
        mesh.change(lambda pool: deletion_done(pool, cluster))
