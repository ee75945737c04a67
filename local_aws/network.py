"""Which loopback addresses and ports a region uses, so that two regions on one computer never meet.

A region owns one *slot*: two /16 blocks of 127.0.0.0/8 (private and public addresses) and a range of ports. The slot is
held by a bound socket, which the kernel frees when the region's process ends, however it ends.
"""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

from local_aws.errors import RegionError

SLOTS = 32
FIRST_PRIVATE_BLOCK = 64
FIRST_PUBLIC_BLOCK = FIRST_PRIVATE_BLOCK + SLOTS
FIRST_PORT = 12000  # all slots end below the ephemeral ports (32768)
PORTS_PER_SLOT = 600
FIXED_PORTS = 8


@dataclass(frozen=True)
class Slot:
    """Addresses and ports of one region."""

    number: int

    @property
    def vpc_cidr(self) -> str:
        """All private addresses."""
        return f"127.{FIRST_PRIVATE_BLOCK + self.number}.0.0/16"

    @property
    def head_node_cidr(self) -> str:
        """The subnet of head nodes."""
        return f"127.{FIRST_PRIVATE_BLOCK + self.number}.0.0/20"

    @property
    def compute_cidr(self) -> str:
        """The subnet of compute nodes."""
        return f"127.{FIRST_PRIVATE_BLOCK + self.number}.16.0/20"

    def public_ip(self, private_ip: str) -> str:
        """The public address of an instance: the same numbers in the public block."""
        return ".".join(["127", str(FIRST_PUBLIC_BLOCK + self.number), *private_ip.split(".")[2:]])

    @property
    def ssh_port(self) -> int:
        """Where the sshd of every head node listens, on the head node's own addresses."""
        return self._port(0)

    @property
    def slurmctld_port(self) -> int:
        """Where every slurmctld listens, on its head node's own address."""
        return self._port(1)

    @property
    def endpoint_port(self) -> int:
        """Where the AWS endpoint listens unless told otherwise."""
        return self._port(2)

    @property
    def dcv_port(self) -> int:
        """Where the DCV stand-in of every head node listens."""
        return self._port(3)

    @property
    def lock_port(self) -> int:
        """The port whose socket holds the slot."""
        return self._port(4)

    @property
    def node_ports(self) -> range:
        """The ports of all compute nodes of all clusters of the region."""
        return range(self._port(FIXED_PORTS), self._port(PORTS_PER_SLOT))

    def _port(self, offset: int) -> int:
        return FIRST_PORT + self.number * PORTS_PER_SLOT + offset


def hold_slot(directory: Path) -> tuple[Slot, socket.socket]:
    """Take a free slot, the same one for the same directory where possible; it is ours until the socket is closed."""
    preferred = int.from_bytes(hashlib.sha256(str(directory).encode()).digest()[:4], "big") % SLOTS
    for offset in range(SLOTS):
        slot = Slot((preferred + offset) % SLOTS)
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            holder.bind(("127.0.0.1", slot.lock_port))
            holder.listen(1)
        except OSError:
            holder.close()
            continue
        if all(is_free(port) for port in (slot.ssh_port, slot.slurmctld_port, slot.dcv_port)):
            return slot, holder
        holder.close()
    raise RegionError(
        f"All {SLOTS} address blocks for local regions are taken: stop one with `python -m local_aws down`."
    )


def is_free(port: int) -> bool:
    """True when `port` can be listened on, on every address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
