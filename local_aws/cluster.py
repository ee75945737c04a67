"""A running cluster: its head node, its compute nodes, and what launches and ends them."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from local_aws import dcv, head_node
from local_aws.cluster_config import ClusterConfig, Node
from local_aws.errors import RegionError
from local_aws.head_node import HeadNodeAddress
from local_aws.machine import Login, Machine, Spawner
from local_aws.rootfs import EC2_PIPE, make_root, write_hosts
from local_aws.slurm import Controller, slurm_conf

LOG = logging.getLogger(__name__)
BOOT_SECONDS = 1.1
"""slurmctld ignores a slurmd that started within the same second as its own resume request, until ResumeTimeout."""

READY_SECONDS = 30.0
ERROR_METRICS = {
    "InsufficientInstanceCapacity": "InsufficientCapacityErrors",
    "InsufficientHostCapacity": "InsufficientCapacityErrors",
    "VcpuLimitExceeded": "VcpuLimitErrors",
    "UnauthorizedOperation": "IamPolicyErrors",
}
"""ParallelCluster's metric for each EC2 error code of a launch."""


class Ec2(Protocol):
    """What a cluster asks of EC2. `launch` answers (instance id, private address) or raises `LaunchError`."""

    def launch(self, cluster: str, node: Node) -> tuple[str, str]:
        """Run an instance for the node."""
        ...

    def terminate(self, instance_id: str) -> None:
        """Terminate an instance; nothing happens when it is terminated."""
        ...


class LaunchError(Exception):
    """EC2 refused an instance; `code` is its error code, such as InsufficientInstanceCapacity."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class ComputeNode:
    """A powered-up node: the instance behind it and, once it has booted, its machine."""

    node: Node
    instance_id: str
    address: str
    machine: Machine | None = None


class Cluster:
    """One cluster below `directory`. Methods may be called from any thread."""

    def __init__(
        self,
        directory: Path,
        *,
        config: ClusterConfig,
        address: HeadNodeAddress,
        controller: Controller,
        spawner: Spawner,
        ec2: Ec2,
    ) -> None:
        self.directory = directory
        self.config = config
        self.address = address
        self.login = Login.of_this_process(config.login_user)
        self.root = directory / "root"
        self._controller = controller
        self._spawner = spawner
        self._ec2 = ec2
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._nodes: dict[str, ComputeNode] = {}
        self._lost: list[str] = []
        self._events: list[str] = []
        self._errors: Counter[str] = Counter()
        self.head = Machine(address.hostname, self.root, self.directory / "machines" / address.hostname, self.login)

    def start(self, authorized_key: str) -> str:
        """Boot the head node; answers its public host key. `is_ready` tells when Slurm answers."""
        make_root(self.root, self.login, self.config.shared_directories)
        self._publish_addresses()
        self._write_slurm_conf()
        host_key = head_node.make_host_key(self.root, self.address, self.login)
        head_node.authorize(self.root, self.login, authorized_key)
        program = ["/opt/parallelcluster/scripts/head_node.sh", f"/{head_node.SSHD_DIRECTORY}/sshd_config"]
        if self.config.dcv:
            dcv.install(self.root, self.address, self.login)
            program += dcv.server_command(self.address)
        self.head.boot(self._spawner, program)
        threading.Thread(target=self._serve_slurm, name=f"ec2-{self.config.name}", daemon=True).start()
        return host_key

    def is_ready(self) -> bool:
        """True when sshd listens (it has written its process id) and slurmctld answers `scontrol ping`."""
        sshd_listens = (self.head.disks / "run/sshd.pid").exists()
        return sshd_listens and self.head.is_running and " UP" in self.scontrol("ping").stdout

    def wait_until_ready(self) -> None:
        """Wait until Slurm answers; raises `RegionError` with the head node's last words when it does not."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if not self.head.is_running or time.monotonic() > deadline:
                raise RegionError(f"The head node of {self.config.name} did not start: {self.boot_log()}")
            time.sleep(0.02)

    def scontrol(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `scontrol` on the head node as its administrator."""
        return self.head.run(["/opt/slurm/bin/scontrol", *arguments])

    def stop(self) -> None:
        """End every machine and remove the cluster's directory, as the end of the instances removes their disks."""
        self._stopped.set()
        self._end_service()
        with self._lock:
            nodes = list(self._nodes.values())
            self._nodes.clear()
        self.head.kill()
        for node in nodes:
            self._discard(node)
        shutil.rmtree(self.directory, ignore_errors=True)

    def reconfigure(self, config: ClusterConfig, controller: Controller) -> None:
        """Take over a changed configuration, as after `pcluster update-cluster`: slurmctld restarts."""
        self.config = config
        self._controller = controller
        self._write_slurm_conf()
        self.head.run(["pkill", "-x", "slurmctld"])

    @property
    def node_ports(self) -> range:
        """The ports of the compute nodes' slurmds."""
        first = self._controller.first_node_port
        return range(first, first + len(self.config.nodes))

    def boot_log(self) -> str:
        """The last line that the head node printed while it booted."""
        log = self.head.disks / "boot.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "the head node ended")

    @property
    def instances(self) -> dict[str, str]:
        """Instance id of each node that is powered up, by node name."""
        with self._lock:
            return {name: node.instance_id for name, node in self._nodes.items()}

    def take_events(self) -> list[str]:
        """What clustermgtd has logged since the last call."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def take_errors(self) -> dict[str, int]:
        """The launch errors since the last call, counted by ParallelCluster's metric names."""
        with self._lock:
            errors, self._errors = self._errors, Counter()
        return dict(errors)

    def resume(self, names: list[str]) -> None:
        """Launch an instance for each of the nodes and start its slurmd when it has booted."""
        launched = [node for name in names if (node := self._launch(name)) is not None]
        self._publish_addresses()
        for node in launched:
            self.scontrol("update", f"nodename={node.node.name}", f"nodeaddr={node.address}")
        if not self._stopped.wait(BOOT_SECONDS):
            for node in launched:
                self._boot(node)

    def suspend(self, names: list[str]) -> None:
        """Terminate the instances of the nodes."""
        for name in names:
            with self._lock:
                node = self._nodes.pop(name, None)
            if node is not None:
                self._discard(node)
        self._publish_addresses()

    def lose(self, name: str) -> None:
        """Lose the node's instance without a word to Slurm, as a spot reclaim or a broken host does."""
        self._tell(f"the instance of {name} is gone")
        self.suspend([name])
        with self._lock:
            self._lost.append(name)

    def take_lost(self) -> list[str]:
        """The nodes that have lost their instance since the last call."""
        with self._lock:
            lost, self._lost = self._lost, []
        return lost

    def _launch(self, name: str) -> ComputeNode | None:
        node = self.config.nodes[name]
        self.suspend([name])
        try:
            instance_id, address = self._ec2.launch(self.config.name, node)
        except LaunchError as error:
            self._tell(f"Failed to launch {name}: ({error.code}) {error}")
            self._errors[ERROR_METRICS.get(error.code, "OtherInstanceLaunchFailures")] += 1
            reason = f"(Code:{error.code})Failure when resuming nodes"
            self.scontrol("update", f"nodename={name}", "state=power_down_force", f"reason={reason}")
            return None
        launched = ComputeNode(node, instance_id, address)
        with self._lock:
            if not self._stopped.is_set():
                self._nodes[name] = launched
                return launched
        self._ec2.terminate(instance_id)
        return None

    def _boot(self, node: ComputeNode) -> None:
        name = node.node.name
        machine = Machine(name, self.root, self.directory / "machines" / node.instance_id, self.login)
        with self._lock:
            if self._nodes.get(name) is not node or self._stopped.is_set():
                return
            node.machine = machine
            machine.boot(self._spawner, ["/opt/parallelcluster/scripts/compute_node.sh", name])

    def _discard(self, node: ComputeNode) -> None:
        if node.machine is not None:
            node.machine.kill()
            shutil.rmtree(node.machine.disks, ignore_errors=True)
        self._ec2.terminate(node.instance_id)

    def _publish_addresses(self) -> None:
        with self._lock:
            addresses = {self.address.hostname: self.address.private_ip}
            addresses |= {name: node.address for name, node in self._nodes.items()}
            write_hosts(self.root, addresses)

    def _write_slurm_conf(self) -> None:
        (self.root / "opt/slurm/etc/slurm.conf").write_text(slurm_conf(self.config, self._controller, self.login))

    def _serve_slurm(self) -> None:
        """Do what the resume and suspend programs ask for, one line each: `resume HOSTLIST` or `suspend HOSTLIST`."""
        actions: dict[str, Callable[[list[str]], None]] = {"resume": self.resume, "suspend": self.suspend}
        pipe = os.open(self.root / EC2_PIPE, os.O_RDWR)
        with os.fdopen(pipe, "r") as requests:
            for line in requests:
                if self._stopped.is_set():
                    return
                action, hosts = line.split()
                threading.Thread(target=self._act, args=(actions[action], hosts), daemon=True).start()

    def _end_service(self) -> None:
        """Wake `_serve_slurm`, which ends when it finds the cluster stopped."""
        try:
            pipe = os.open(self.root / EC2_PIPE, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # it was never started, or has ended
        with os.fdopen(pipe, "w") as requests:
            requests.write("end of-cluster\n")

    def _act(self, action: Callable[[list[str]], None], hosts: str) -> None:
        names = self.scontrol("show", "hostnames", hosts).stdout.split()
        self._tell(f"{action.__name__} {hosts}")
        action(names)

    def _tell(self, event: str) -> None:
        LOG.info("%s: %s", self.config.name, event)
        with self._lock:
            self._events.append(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {event}")
