"""The region's own interface, on the same port as the AWS endpoint: `POST /local-aws/<verb>` with a JSON body.

The command line and the fixture use it; AWS clients never meet it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from local_aws.errors import RegionError
from local_aws.faults import DeletionFault

if TYPE_CHECKING:
    from local_aws.supervisor import Supervisor

LOG = logging.getLogger(__name__)
PREFIX = "/local-aws/"


class Control:
    """Answers the control interface and passes everything else on to moto."""

    def __init__(self, supervisor: Supervisor, aws: Callable[..., Iterable[bytes]]) -> None:
        self._supervisor = supervisor
        self._aws = aws
        self.subnet_ids = ("", "")
        self._verbs: dict[str, Callable[..., Any]] = {
            "status": self.status,
            "start-cluster": self.start_cluster,
            "stop-cluster": self.stop_cluster,
            "fault-bootstrap": self.fault_bootstrap,
            "fault-capacity": self.fault_capacity,
            "fault-node": self.fault_node,
            "fault-metric": self.fault_metric,
            "fault-delays": self.fault_delays,
            "fault-deletion": self.fault_deletion,
            "fault-clear": self.fault_clear,
        }

    def application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application."""
        path = environ["PATH_INFO"]
        if not path.startswith(PREFIX):
            return self._aws(environ, start_response)
        status, answer = self._answer(path.removeprefix(PREFIX), _body(environ))
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def _answer(self, verb: str, arguments: dict[str, Any]) -> tuple[str, Any]:
        if verb not in self._verbs:
            return "404 Not Found", {"message": f"There is no verb {verb}."}
        try:
            return "200 OK", self._verbs[verb](**arguments)
        except (RegionError, TypeError) as error:
            return "400 Bad Request", {"message": str(error)}

    def status(self) -> dict[str, Any]:
        """What runs, and which faults are in force."""
        clusters = {
            name: {
                "head_node": cluster.address.public_ip,
                "private_ip": cluster.address.private_ip,
                "instances": cluster.instances,
            }
            for name, cluster in list(self._supervisor.clusters.items())
        }
        return {"clusters": clusters, "faults": self._supervisor.faults.as_dict()}

    def start_cluster(self, name: str, nodes: int, cpus: int, settings: dict[str, str]) -> dict[str, str]:
        """Start a cluster without a stack."""
        instance_id, address = self._supervisor.start_cluster(name, nodes, cpus, self.subnet_ids, settings)
        return {"instance_id": instance_id, "address": address}

    def stop_cluster(self, name: str) -> None:
        """Terminate a cluster that was started without a stack."""
        self._supervisor.stop_cluster(name)

    def fault_bootstrap(self, reason: str, cluster: str = "*") -> None:
        """Head nodes fail to start from now on: all, or those of one cluster."""
        self._supervisor.faults.fail_bootstrap(cluster, reason)

    def fault_capacity(self, target: str, code: str) -> None:
        """EC2 refuses compute instances from now on."""
        self._supervisor.faults.fail_launches(target, code)

    def fault_node(self, cluster: str, node: str) -> None:
        """Lose the instance of a compute node, now."""
        self._supervisor.cluster(cluster).lose(node)

    def fault_metric(self, alarm: str, value: float) -> None:
        """Publish a value for an alarm's metric from now on."""
        self._supervisor.force_metric(alarm, value)

    def fault_delays(self, create: float | None, delete: float | None) -> None:
        """Make stacks take longer from now on."""
        if create is not None:
            self._supervisor.faults.create_delay = create
        if delete is not None:
            self._supervisor.faults.delete_delay = delete

    def fault_deletion(self, target: str, reason: str, times: int | None) -> None:
        """Keep resources from being deleted with their stack from now on; without a reason they stay silently."""
        self._supervisor.faults.fail_deletions(target, DeletionFault(reason, times))

    def fault_clear(self) -> None:
        """Take back every fault."""
        self._supervisor.faults.clear()


def _body(environ: dict[str, Any]) -> dict[str, Any]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    document: dict[str, Any] = json.loads(environ["wsgi.input"].read(length) or b"{}")
    return document
