"""The wait of the last run of a pool: until nobody has used the cluster for the idle time, or somebody does again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from hpc.cluster.account import Account
from hpc.cluster.pool import Pool, PoolStore
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.poller import ONE_ROUND, ask
from hpc.pacing import pause
from hpc.slurm.parse import parse_squeue
from hpc.slurm.triggers import ACTIVE

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds in which the head node may not answer, beyond the idle time, before its queue counts as empty.
LONGEST_SILENCE = 1800.0


class PoolIdleTrigger(BaseTrigger):
    """Wait until a pool's cluster has been without runs and jobs for `idle` seconds. A job of anybody counts.

    The event is `{"status": "idle" | "used" | "watching", "quiet_since": …}`: `used` when a run holds the cluster, or
    it is not this one any more; `watching` at `until`, for the lease of the run that waits has to be renewed.

    :param pool: the pool's name
    :param bucket: where its document is
    :param cluster_name: the cluster that is watched
    :param idle: in seconds
    :param until: when to answer `watching`, in seconds since 1970
    :param quiet_since: since when no job is known to be there, in seconds since 1970; the document's if that is later
    :param head_node: where the queue is; None when there is none to be found
    :param waiter_delay: the longest pause between two looks, in seconds
    """

    def __init__(
        self,
        *,
        pool: str,
        bucket: str,
        cluster_name: str,
        idle: float,
        until: float,
        quiet_since: float,
        head_node: Mapping[str, Any] | None,
        ssh_conn_id: str,
        aws_conn_id: str | None,
        region_name: str | None,
        waiter_delay: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pool = pool
        self.bucket = bucket
        self.cluster_name = cluster_name
        self.idle = idle
        self.until = until
        self.quiet_since = quiet_since
        self.head_node = dict(head_node) if head_node else None
        self.ssh_conn_id = ssh_conn_id
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.waiter_delay = waiter_delay
        self._store: PoolStore | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        names = ["pool", "bucket", "cluster_name", "idle", "until", "quiet_since", "head_node", "ssh_conn_id"]
        names += ["aws_conn_id", "region_name", "waiter_delay"]
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at the document, and at the queue once the idle time is over, until one of them decides."""
        began = time.time()
        while True:
            status = await self._look()
            if status is None and time.time() >= self.until:
                status = "watching"
            if status is not None:
                yield TriggerEvent(  # type: ignore[no-untyped-call]
                    {"status": status, "quiet_since": self.quiet_since}
                )
                return
            await asyncio.sleep(pause(time.time() - began, self.waiter_delay))

    async def _look(self) -> str | None:
        try:
            found = await asyncio.to_thread(self._read)
        except Exception as error:  # S3's, the connection's: whatever it is, nothing is known now
            self.log.warning("The document of pool %s cannot be read, asking again: %s", self.pool, error)
            self._store = None  # it may be its client's credentials that have run out
            return None
        if is_used(found, self.cluster_name, datetime.now(UTC)):
            return "used"
        if found.quiet_since is not None:
            self.quiet_since = max(self.quiet_since, found.quiet_since.timestamp())
        if time.time() < self.quiet_since + self.idle:
            return None
        return await self._look_at_queue()

    async def _look_at_queue(self) -> str | None:
        jobs = await self._count_jobs()
        if jobs is None:
            silence = time.time() - self.quiet_since - self.idle
            if silence < LONGEST_SILENCE:
                return None
            self.log.warning("The head node of %s has not answered for %.0f s: no queue", self.cluster_name, silence)
        if jobs:
            self.log.info("Cluster %s has no run, but %d jobs: it stays", self.cluster_name, jobs)
            self.quiet_since = time.time()
            return None
        return "idle"

    def _read(self) -> Pool:
        self._store = self._store or PoolStore(
            Account(self.aws_conn_id, self.region_name).client("s3"), self.bucket, self.pool
        )
        return self._store.read()

    async def _count_jobs(self) -> int | None:
        """Return how many jobs are in the queue, whoever sent them; None when nobody knows."""
        if self.head_node is None:
            return None
        address = HeadNodeAddress.from_dict(self.head_node)
        try:
            async with asyncio.timeout(ONE_ROUND), aclosing(ask(address, self.ssh_conn_id, [ACTIVE])) as rounds:
                async for answers in rounds:
                    if answers["active"].exit_status == 0:
                        return len(parse_squeue(answers["active"].stdout))
        except Exception as error:  # the connection's, Airflow's about it: whatever it is, nothing is known now
            self.log.warning("The head node of %s does not say what is in its queue: %r", self.cluster_name, error)
        return None


def is_used(pool: Pool, cluster_name: str, now: datetime) -> bool:
    """Say whether it is not for the watching run to delete the cluster: a run holds it, or it is not the pool's now."""
    return pool.state != "open" or pool.cluster_name != cluster_name or bool(pool.holders(now))
