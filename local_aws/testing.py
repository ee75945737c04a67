"""The region as a fixture.

with LocalRegion(tmp_path / "region") as region:
    instance_id, address = region.start_cluster("demo")
    region.client("ec2").describe_instances(InstanceIds=[instance_id])
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from local_aws.region import RegionFacts, ask, down, up


class LocalRegion:
    """A running region: the facts of `region.json` are attributes, and it stops at the end of the `with` block."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._facts: RegionFacts | None = None

    def __enter__(self) -> LocalRegion:
        self._facts = up(self.directory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        down(self.directory)
        self._facts = None

    @property
    def facts(self) -> RegionFacts:
        """What `region.json` says."""
        if self._facts is None:
            raise RuntimeError("the region is not running: use it in a `with` block")
        return self._facts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in RegionFacts.__dataclass_fields__:
            raise AttributeError(name)
        return getattr(self.facts, name)

    def client(self, service: str) -> Any:
        """A boto3 client of the region, with connections for many threads."""
        import boto3
        from botocore.config import Config

        make_client: Any = boto3.client
        return make_client(
            service,
            region_name=self.facts.region,
            endpoint_url=self.facts.endpoint_url,
            aws_access_key_id=self.facts.access_key_id,
            aws_secret_access_key=self.facts.secret_access_key,
            config=Config(max_pool_connections=32),
        )

    def environment(self) -> dict[str, str]:
        """Our own environment with the variables by which AWS clients find the region, and no other AWS variables."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return ours | self.facts.environment()

    def fault(self, kind: str, **arguments: Any) -> None:
        """Order a fault.

        `bootstrap` (reason, cluster: `*` if left out), `capacity` (target, code), `node` (cluster, node), `metric`
        (alarm, value), `delays` (create, delete: seconds or None), `deletion` (target: logical id or type, also with
        `<stack name>/` before it, reason: empty to stay silently, times: number or None for always), `clear`. They are
        those of the command line.
        """
        ask(self.facts, f"fault-{kind}", **arguments)

    def start_cluster(
        self, name: str, nodes: int = 4, cpus: int = 2, settings: Mapping[str, str] | None = None
    ) -> tuple[str, str]:
        """Start a head node without a stack and wait until its Slurm answers; answers (instance id, address).

        `settings` are those of slurm.conf, as CustomSlurmSettings has them.
        """
        answer = ask(self.facts, "start-cluster", name=name, nodes=nodes, cpus=cpus, settings=dict(settings or {}))
        return answer["instance_id"], answer["address"]

    def stop_cluster(self, name: str) -> None:
        """Terminate all instances of a cluster that `start_cluster` made."""
        ask(self.facts, "stop-cluster", name=name)

    def status(self) -> dict[str, Any]:
        """The running clusters, their instances by node name, and the faults in force."""
        answer: dict[str, Any] = ask(self.facts, "status")
        return answer
