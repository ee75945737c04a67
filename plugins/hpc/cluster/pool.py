"""Which runs share a cluster, and who may delete it: a JSON document for each pool, in the bucket of the site.

`pools/<name>.json` is changed only by conditional writes of S3 (`If-Match`, `If-None-Match`), one after the other:

    gone --join--> open --begin_deletion, without a holder--> deleting --deletion_done--> gone
                   join, renew, leave

Nobody can join a cluster that is being deleted, and a deletion cannot begin while a run holds the cluster: both are
changes of the same document, of which one comes first. There is no way back from `deleting`: who took a claim back
after its holder stalled would lose the new cluster to him when he goes on. The next cluster has another name instead.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, ValidationError

from hpc.aws_errors import aws_errors, error_code
from hpc.errors import ConfigurationError, TransientError
from hpc.names import pool_cluster_name
from hpc.parameters import Model

#: How long a deletion that somebody has begun is left to him alone; then whoever waits for its end helps.
HEAD_START = timedelta(minutes=10)
#: Tries to write the document before it is given up: each loses to somebody who succeeds.
TRIES = 100
#: The longest pause between two tries, in seconds.
LONGEST_PAUSE = 1.0


#: A worker of another version may have written more than this one knows.
_OF_ANY_VERSION = ConfigDict(frozen=True, extra="ignore")


# ------------------------------------------------------------------------------------------------ the document, pure
class Lease(Model):
    """A run's hold on the cluster of its pool. It outlives a crash, and ends at `expires` at the latest.

    `results` is the S3 URI that they go to, or `discard`. A run that is `leaving` holds the cluster no longer: it
    watches over it until the idle time has passed. `airflow` is the URL of the Airflow that knows the run, as a tag has
    it; empty if it has none. A run that has `reached` the head node may have left results there.
    """

    model_config = _OF_ANY_VERSION

    dag_id: str
    run_id: str
    expires: AwareDatetime
    results: str = "discard"
    leaving: bool = False
    airflow: str = ""
    reached: bool = False

    def __str__(self) -> str:
        return f"run {self.run_id} of {self.dag_id}"


class Deletion(Model):
    """Who deletes a pool's cluster, since when, and how long that is left to him alone."""

    by: str
    begun: AwareDatetime
    alone_until: AwareDatetime


class Pool(Model):
    """A pool as its document says. `configuration` is the fingerprint of the cluster's, by `made_by`, a DAG id.

    `generation` counts the pool's clusters; `quiet_since` is when the last run left, or was seen to have ended.
    """

    model_config = _OF_ANY_VERSION

    name: str
    generation: int = 0
    state: Literal["gone", "open", "deleting"] = "gone"
    configuration: str = ""
    made_by: str = ""
    leases: tuple[Lease, ...] = ()
    quiet_since: AwareDatetime | None = None
    deletion: Deletion | None = None

    @property
    def cluster_name(self) -> str:
        """The name of its present cluster, or of the last one."""
        return pool_cluster_name(self.name, self.generation)

    def lease_of(self, dag_id: str, run_id: str) -> Lease | None:
        """Return a run's lease, expired or not."""
        return next((lease for lease in self.leases if (lease.dag_id, lease.run_id) == (dag_id, run_id)), None)

    def live(self, now: datetime) -> tuple[Lease, ...]:
        """Return the leases that have not expired, of runs that are leaving too."""
        return tuple(lease for lease in self.leases if lease.expires > now)

    def holders(self, now: datetime) -> tuple[Lease, ...]:
        """Return the leases that keep the cluster from being deleted."""
        return tuple(lease for lease in self.live(now) if not lease.leaving)

    def unheld_since(self, now: datetime) -> datetime | None:
        """Return since when no run holds the cluster: none has left, and no lease has ended, after that moment."""
        ends = [lease.expires for lease in self.leases if lease.expires <= now]
        return max([*ends, self.quiet_since] if self.quiet_since else ends, default=None)

    def is_overdue(self, now: datetime) -> bool:
        """Whether a deletion takes so long that somebody else should see to it."""
        return self.deletion is not None and now >= self.deletion.alone_until

    def is_settled(self, now: datetime) -> bool:
        """Whether a cluster without a stack counts as gone, for whoever deletes it has had his time to prove it."""
        return self.deletion is not None and now >= self.deletion.begun + HEAD_START


def join(pool: Pool, lease: Lease, configuration: str, now: datetime) -> Pool:
    """Return the pool with a run in it, again or anew; unchanged while its cluster is being deleted.

    Raises ConfigurationError when the pool's cluster was made from another configuration.
    """
    if pool.state == "deleting":
        return pool
    if pool.state == "gone":
        return Pool(
            name=pool.name,
            generation=pool.generation + 1,
            state="open",
            configuration=configuration,
            made_by=lease.dag_id,
            leases=(lease,),
        )
    if pool.configuration != configuration:
        raise ConfigurationError(
            f"the cluster {pool.cluster_name} of pool {pool.name} was made by {pool.made_by} from another template, or "
            f"with other values, than {lease.dag_id} asks for",
            remedy="give all simulations of a pool the same cluster.profile and cluster.values, or this one a pool of "
            "its own; after a change of both, wait until the old cluster is gone",
        )
    others, before = _without(pool.live(now), lease), pool.lease_of(lease.dag_id, lease.run_id)
    lease = lease.model_copy(update={"reached": before is not None and before.reached})
    return pool.model_copy(update={"leases": (*others, lease), "quiet_since": None})


def reach(pool: Pool, dag_id: str, run_id: str) -> Pool:
    """Return the pool that knows that a run has reached its head node; unchanged when it has no lease."""
    lease = pool.lease_of(dag_id, run_id)
    if lease is None or lease.reached:
        return pool
    reached = lease.model_copy(update={"reached": True})
    return pool.model_copy(update={"leases": (*_without(pool.leases, lease), reached)})


def renew(pool: Pool, dag_id: str, run_id: str, until: datetime) -> Pool:
    """Return the pool with a run's lease that lasts until `until` at least; unchanged when it has none."""
    lease = pool.lease_of(dag_id, run_id)
    if lease is None or lease.expires >= until:
        return pool
    longer = lease.model_copy(update={"expires": until})
    return pool.model_copy(update={"leases": (*_without(pool.leases, lease), longer)})


def leave(pool: Pool, dag_id: str, run_id: str, now: datetime, until: datetime) -> Pool:
    """Return the pool that a run holds no longer. The last one stays in it as `leaving` until `until` at most.

    Only who leaves again does not begin the idle time again.
    """
    lease = pool.lease_of(dag_id, run_id)
    if lease is None or pool.state != "open":
        return pool
    others = _without(pool.live(now), lease)
    if any(not other.leaving for other in others):
        return pool.model_copy(update={"leases": others, "quiet_since": None})
    leaving = lease.model_copy(update={"expires": until, "leaving": True})
    quiet_since = pool.quiet_since if lease.leaving and pool.quiet_since else now
    return pool.model_copy(update={"leases": (*others, leaving), "quiet_since": quiet_since})


def see_ended(pool: Pool, cluster_name: str, now: datetime, ended: Collection[Lease]) -> Pool:
    """Return the pool that says since when its runs are known to have ended, whose leases are `ended`.

    The leases stay: a run that is cleared goes on with its own. Unchanged when another run holds the cluster, the
    pool has another one, or it says so already.
    """
    live = pool.live(now)
    is_known = pool.quiet_since is not None or not live
    if pool.state != "open" or pool.cluster_name != cluster_name or is_known or not set(live) <= set(ended):
        return pool
    return pool.model_copy(update={"quiet_since": now})


def begin_deletion(
    pool: Pool,
    cluster_name: str,
    by: str,
    now: datetime,
    *,
    alone: timedelta | None = None,
    ended: Collection[Lease] = (),
) -> Pool:
    """Return the pool whose cluster may be deleted from now on; unchanged when a run holds it, or it is another one.

    `ended` are leases of runs that go on no longer, which end here. One that was taken again or renewed meanwhile is
    another one, and holds the cluster. The deletion is left to whoever begins it for as long as `alone`, HEAD_START if
    left out.
    """
    leases = tuple(lease for lease in pool.live(now) if lease not in ended)
    is_held = any(not lease.leaving for lease in leases)
    if pool.state != "open" or pool.cluster_name != cluster_name or is_held:
        return pool
    return pool.model_copy(
        update={
            "state": "deleting",
            "leases": leases,
            "deletion": Deletion(by=by, begun=now, alone_until=now + (alone or HEAD_START)),
        }
    )


def deletion_done(pool: Pool, cluster_name: str) -> Pool:
    """Return the pool without a cluster; unchanged when another one has been made since."""
    if pool.state != "deleting" or pool.cluster_name != cluster_name:
        return pool
    return Pool(name=pool.name, generation=pool.generation)


def _without(leases: tuple[Lease, ...], own: Lease) -> tuple[Lease, ...]:
    return tuple(lease for lease in leases if (lease.dag_id, lease.run_id) != (own.dag_id, own.run_id))


# ------------------------------------------------------------------------------------------------ in the bucket
class PoolStore:
    """The document of one pool.

    :param s3: a boto3 client
    :param bucket: the site's
    :param name: the pool's
    """

    def __init__(self, s3: Any, bucket: str, name: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.name = name
        self.key = f"pools/{name}.json"

    def read(self) -> Pool:
        """Return the pool as it is now."""
        return self._read()[0]

    def change(self, transition: Callable[[Pool], Pool]) -> Pool:
        """Write what `transition` makes of the pool as it is then, and return that.

        It is called again whenever somebody else was quicker, or an answer was lost: a change that is there already
        must make no difference. Raises what it raises, and TransientError when somebody always is quicker.
        """
        for tried in range(TRIES):
            pool, condition = self._read()
            changed = transition(pool)
            if changed == pool or self._write(changed, condition):
                return changed
            time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.02 * 2.0**tried)))
        raise TransientError(f"s3://{self.bucket}/{self.key} was changed by somebody else {TRIES} times in a row")

    def _read(self) -> tuple[Pool, dict[str, str]]:
        """Return the pool, and on which condition it may be written."""
        from botocore.exceptions import ClientError

        with aws_errors():
            try:
                answer = self.s3.get_object(Bucket=self.bucket, Key=self.key)
                text = answer["Body"].read()
            except ClientError as error:
                if error_code(error) != "NoSuchKey":
                    raise
                return Pool(name=self.name), {"IfNoneMatch": "*"}
        try:
            return Pool.model_validate_json(text), {"IfMatch": answer["ETag"]}
        except ValidationError as error:
            raise ConfigurationError(
                f"s3://{self.bucket}/{self.key} is no document of a pool: {error}",
                remedy="delete the pool's cluster if there is one, then this object",
            ) from error

    def _write(self, pool: Pool, condition: dict[str, str]) -> bool:
        """Write the pool, and say whether it was still as it had been read."""
        from botocore.exceptions import ClientError

        body = pool.model_dump_json(indent=1).encode()
        with aws_errors():
            try:
                self.s3.put_object(
                    Bucket=self.bucket, Key=self.key, Body=body, ContentType="application/json", **condition
                )
            except ClientError as error:
                if error_code(error) in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"}:
                    return False
                raise
        return True


# ------------------------------------------------------------------------------------------------ for the janitor
def held(clients: Callable[[str], Any], bucket: str, pool: str, cluster_name: str, now: datetime) -> list[Lease]:
    """Return the live leases of a pool's cluster, of runs that are leaving too: somebody sees to it as long as one is.

    None when the pool has another cluster by now.
    """
    found = PoolStore(clients("s3"), bucket, pool).read()
    return list(found.live(now)) if found.cluster_name == cluster_name and found.state != "gone" else []


def unheld_since(
    clients: Callable[[str], Any],
    bucket: str,
    pool: str,
    cluster_name: str,
    now: datetime,
    *,
    ended: Collection[Lease] = (),
    is_dry: bool = False,
) -> datetime | None:
    """Return since when no run holds a pool's cluster; None if nobody knows, it is being deleted or is another one.

    That the runs of `ended` leases hold it no longer is written down, unless it `is_dry`.
    """
    store = PoolStore(clients("s3"), bucket, pool)

    def seen(found: Pool) -> Pool:
        return see_ended(found, cluster_name, now, ended)

    found = seen(store.read()) if is_dry else store.change(seen)
    return found.unheld_since(now) if found.state == "open" and found.cluster_name == cluster_name else None


def claim(
    clients: Callable[[str], Any],
    bucket: str,
    pool: str,
    cluster_name: str,
    by: str,
    *,
    alone: timedelta = HEAD_START,
    ended: Collection[Lease] = (),
) -> bool:
    """Say whether a pool's cluster may be deleted now: nobody sees to it, and from now on no run joins it.

    Every run of the pool waits until `release` is called. After `alone` one of them deletes what is still there.
    `ended` are leases, as `held` returned them, of runs that go on no longer.
    """

    def close(found: Pool) -> Pool:
        now = datetime.now(UTC)
        if any(lease not in ended for lease in found.live(now)):
            return found
        return begin_deletion(found, cluster_name, by, now, alone=alone, ended=ended)

    found = PoolStore(clients("s3"), bucket, pool).change(close)
    return found.cluster_name != cluster_name or found.state != "open"


def deletion_begun(clients: Callable[[str], Any], bucket: str, pool: str, cluster_name: str) -> datetime | None:
    """Return since when a pool's cluster is being deleted; None if it is not, or the pool has another one."""
    found = PoolStore(clients("s3"), bucket, pool).read()
    return found.deletion.begun if found.cluster_name == cluster_name and found.deletion else None


def release(clients: Callable[[str], Any], bucket: str, pool: str, cluster_name: str) -> None:
    """Let the next run make a new cluster, now that this one is gone."""
    PoolStore(clients("s3"), bucket, pool).change(lambda found: deletion_done(found, cluster_name))
