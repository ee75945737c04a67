"""What a person types to reach a head node: lines for a POSIX shell, which accept the pinned host key and no other."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.shell import quote

#: What the person puts in: the private half of the cluster's key pair.
KEY = "<your key>"


def log_in_line(address: HeadNodeAddress, user: str, port: int) -> str:
    """Return the line that opens a shell on the head node."""
    return _ssh(address, user, port)


def copy_line(address: HeadNodeAddress, user: str, port: int, directory: str) -> str:
    """Return the line that copies a folder of the head node into the current one, its links as links.

    By tar, for it is everywhere: whether scp follows a link, or fails at it, depends on its version and on what the
    link leads to. Raises ConfigurationError for a NUL in the folder's name.
    """
    folder = PurePosixPath(directory)
    packed = quote(["tar", "-C", str(folder.parent), "--no-unquote", "-cf", "-", f"./{folder.name}"])
    return f"{_ssh(address, user, port, packed)} | tar -xf -"


def _ssh(address: HeadNodeAddress, user: str, port: int, *command: str) -> str:
    """Return a line that writes the pinned key into a file, under the cluster's name, and has ssh look there only.

    The shortest key is enough, which is the ed25519 one if there is one.
    """
    known = f"{address.cluster_name}.known_hosts"
    key = f"{address.cluster_name} {min(address.host_keys, key=len)}"
    options = [f"HostKeyAlias={address.cluster_name}", f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes"]
    pinned = [word for option in options for word in ("-o", option)]
    where = f"{user}@{address.host}" if user else address.host
    line = quote(["ssh", "-i", KEY, "-p", str(port), *pinned, where, *command])
    return f"echo {shlex.quote(key)} >{shlex.quote(known)} && {line}"
