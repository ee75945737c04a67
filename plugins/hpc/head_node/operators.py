"""Step 6: connect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from hpc.head_node.address import HeadNodeAddress, find_head_node, mark_reached
from hpc.head_node.by_hand import copy_line, log_in_line
from hpc.head_node.links import DcvLink
from hpc.head_node.session import Session, run_session

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Three lines: who and where, the kernel, Slurm's version.
GREETING = 'printf "%s@%s\\n" "$(id -un)" "$(hostname)" && uname -sr && sbatch --version'


class HeadNodeConnectOperator(BaseOperator):
    """Find a cluster's head node, pin its host key as AWS tells it, and prove that one SSH session works.

    Returns `HeadNodeAddress.as_dict()`, which every other task of the cluster takes as `head_node`. The head node is
    tagged (`hpc.names.TAG_REACHED`), so that nobody deletes it for unused when the run's tasks are cleared later.

    The log says by which line a person logs in, and copies a folder straight from the head node.

    :param ssh_conn_id: an SSH connection that carries user, key and port; its host is not used.
    :param directory: that folder, which need not be there yet; None for no such line (templated)
    """

    template_fields: Sequence[str] = ("cluster_name", "directory", "aws_conn_id", "region_name", "ssh_conn_id")
    operator_extra_links = (DcvLink(),)
    ui_color = "#dcefdc"

    def __init__(
        self,
        *,
        cluster_name: str,
        directory: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        ssh_conn_id: str = "hpc_head_node",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.directory = directory
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.ssh_conn_id = ssh_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the address. Raises ClusterError, HostKeyError, PermissionDeniedError or ConnectionLostError."""
        address = find_head_node(self.cluster_name, aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        for fingerprint in fingerprints(address):
            self.log.info("EC2 console of %s shows the host key %s", address.instance_id, fingerprint)
        who, system, slurm = run_session(address, self.ssh_conn_id, _greet)
        self.log.info("Connected as %s at %s: %s, %s", who, address.host, system, slurm)
        mark_reached(address, aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        user, port = self._log_in()
        self.log.info("By hand, with this host key only: %s", log_in_line(address, user, port))
        if self.directory:
            line = copy_line(address, user, port, self.directory)
            self.log.info("To copy %s from there, while the cluster exists: %s", self.directory, line)
        return address.as_dict()

    def _log_in(self) -> tuple[str, int]:
        from airflow.sdk.bases.hook import BaseHook

        connection = BaseHook.get_connection(self.ssh_conn_id)
        return connection.login or "", connection.port or 22


async def _greet(session: Session) -> list[str]:
    return (await session.run(GREETING)).stdout.splitlines()


def fingerprints(address: HeadNodeAddress) -> list[str]:
    """Return `type SHA256:…` of every pinned key, as ssh shows it to a person who connects by hand."""
    import asyncssh

    keys = [asyncssh.import_public_key(key) for key in address.host_keys]
    return [f"{key.get_algorithm()} {key.get_fingerprint()}" for key in keys]
