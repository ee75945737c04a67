"""Step 6 for people: the one-time URL of a DCV session, made by `pcluster dcv-connect --show-url`.

That command lets a shell run `ssh <default user>@<address>`, which would read the ssh_config of whoever runs Airflow,
ask port 22, and believe the first host key it sees. So the command gets a PATH with one program in it: an `ssh` of
ours that calls the real one with the head node's pinned keys and with user, port and key of the Airflow connection.
Were that program not runnable, no other `ssh` would be found and the command would fail: the pin cannot be lost.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hpc.cluster.account import Account
from hpc.cluster.cli import Completed, Pcluster
from hpc.cluster.install import require_installed
from hpc.errors import (
    ClusterError,
    ConfigurationError,
    ConnectionLostError,
    HostKeyError,
    HpcError,
    PermissionDeniedError,
)
from hpc.head_node.address import HeadNodeAddress, find_head_node
from hpc.head_node.shell import quote

#: Seconds for the whole command. It tries `ssh` four times, which gives up on a silent host after CONNECT_TIMEOUT.
TIMEOUT = 60
CONNECT_TIMEOUT = 10
#: The name under which ssh looks up the pinned keys, whatever address ParallelCluster dials.
_PINNED_NAME = "head-node"

_URL = re.compile(r"^https://\S+$", re.MULTILINE)
_SAID = re.compile(r"^ERROR: (?P<message>.*?)(?=^\d{4}-\d\d-\d\d |\Z)", re.MULTILINE | re.DOTALL)
_REASONS: tuple[tuple[str, type[HpcError], str], ...] = (
    (
        r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED",
        HostKeyError,
        "somebody may be in between, or the instance was replaced: look at the head node in the EC2 console",
    ),
    (r"Permission denied", PermissionDeniedError, "check user and key of the Airflow connection {ssh_conn_id}"),
    (
        r"Connection (refused|timed out|reset|closed)|No route to host|Network is unreachable|not responding",
        ConnectionLostError,
        "check that the instance runs and that its security group lets Airflow's API server in on the SSH port",
    ),
)
_NO_SESSION = (
    "DCV has to be enabled in the cluster template (HeadNode: Dcv: Enabled: true); the head node's own account of it"
    " stands in /var/log/parallelcluster/"
)


@dataclass(frozen=True)
class Login:
    """What an SSH connection of Airflow says: `user` is None for the image's default one; the key is unlocked PEM."""

    user: str | None
    port: int
    private_key: bytes


def session_url(
    cluster_name: str,
    *,
    aws_conn_id: str | None = "aws_default",
    region_name: str | None = None,
    ssh_conn_id: str = "hpc_head_node",
) -> str:
    """Open a DCV session on a cluster's head node and return its URL: a secret, good for one visit within 30 s.

    Takes some seconds and at most about TIMEOUT. Raises ClusterError without a running head node or without DCV on it,
    and HostKeyError, PermissionDeniedError or ConnectionLostError when the way there fails.
    """
    variables = Account(aws_conn_id, region_name).variables()
    environment = require_installed()
    login = read_login(ssh_conn_id)
    address = find_head_node(cluster_name, aws_conn_id=aws_conn_id, region_name=region_name)
    with pinned_ssh(address, login) as path:
        pcluster = Pcluster(environment, {**variables, "PATH": str(path)})
        completed = pcluster.run("dcv-connect", ["--cluster-name", cluster_name, "--show-url"], timeout=TIMEOUT)
    return parse_session_url(completed, address, ssh_conn_id)


def read_login(ssh_conn_id: str) -> Login:
    """Read an SSH connection. Raises ConfigurationError if there is none, or it has no private key that can be used."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = BaseHook.get_connection(ssh_conn_id)
    except AirflowNotFoundException as error:
        raise ConfigurationError(
            f"there is no Airflow connection {ssh_conn_id}",
            remedy="make it: type SSH, the user, and the private key of the key pair that the cluster was made with",
        ) from error
    return Login(connection.login, connection.port or 22, _private_key(connection.extra_dejson, ssh_conn_id))


def _private_key(extra: Mapping[str, Any], ssh_conn_id: str) -> bytes:
    import asyncssh

    passphrase = extra.get("private_key_passphrase") or extra.get("passphrase") or None
    try:
        text = extra.get("private_key") or Path(extra["key_file"]).expanduser().read_text(encoding="ascii")
        return asyncssh.import_private_key(text, passphrase).export_private_key()
    except KeyError as error:
        raise ConfigurationError(
            f"the Airflow connection {ssh_conn_id} has no private key, and DCV sessions cannot be made by password",
            remedy="set key_file or private_key in its extra fields: the key pair that the cluster was made with",
        ) from error
    except (asyncssh.KeyImportError, OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the private key of the Airflow connection {ssh_conn_id} cannot be used here: {error}",
            remedy="correct key_file or private_key (and its passphrase); the API server's host has to have the file",
        ) from error


@contextmanager
def pinned_ssh(address: HeadNodeAddress, login: Login) -> Iterator[Path]:
    """Make a private folder whose only program is an `ssh` that reaches this head node and no other; then remove it."""
    ssh = shutil.which("ssh")
    if ssh is None:
        raise ConfigurationError(
            "there is no ssh program on the host of Airflow's API server",
            remedy="install the OpenSSH client there (Debian: openssh-client)",
        )
    with tempfile.TemporaryDirectory(prefix="dcv-ssh-") as folder:
        directory = Path(folder)
        known_hosts, key, config = (directory / name for name in ("known_hosts", "key", "config"))
        known_hosts.write_text(format_known_hosts(address))
        key.touch(mode=0o600)
        key.write_bytes(login.private_key)
        config.write_text(format_ssh_config(login.port, known_hosts=known_hosts, key=key))
        programs = directory / "bin"
        programs.mkdir()
        program = programs / "ssh"
        program.write_text(format_ssh_program(ssh, config, login.user))
        program.chmod(0o700)
        yield programs


def format_known_hosts(address: HeadNodeAddress) -> str:
    """Return a known_hosts file with the keys that AWS told, and no others."""
    return "".join(f"{_PINNED_NAME} {key}\n" for key in address.host_keys)


def format_ssh_config(port: int, *, known_hosts: Path, key: Path) -> str:
    """Return the whole configuration of `ssh`, which with `-F` reads no other: see ssh_config(5)."""
    options: dict[str, object] = {
        "Port": port,
        "HostKeyAlias": _PINNED_NAME,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        "GlobalKnownHostsFile": os.devnull,
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "IdentityFile": f'"{key}"',
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_TIMEOUT,
        "ServerAliveInterval": 5,
        "ServerAliveCountMax": 3,
        "LogLevel": "ERROR",
    }
    return "".join(f"{name} {value}\n" for name, value in options.items())


def format_ssh_program(ssh: str, config: Path, user: str | None) -> str:
    """Return the program that stands in for `ssh`. A user given first wins over ParallelCluster's `user@`."""
    return f'#!/bin/sh\nexec {quote([ssh, "-F", str(config), *(["-l", user] if user else [])])} "$@"\n'


def parse_session_url(completed: Completed, address: HeadNodeAddress, ssh_conn_id: str) -> str:
    """Return the URL that `dcv-connect` printed; it has to lead to the head node. Raises a typed error otherwise."""
    found = _URL.search(completed.stdout) if completed.exit_status == 0 else None
    if found is not None and urlsplit(found[0]).hostname == address.host:
        return found[0]
    said = _SAID.search(completed.log_tail)
    message = (said["message"] if said else completed.log_tail).strip()[-1500:] or "it printed no URL"
    whole = f"no DCV session on the head node of cluster {address.cluster_name}: {message}"
    for pattern, kind, remedy in _REASONS:
        if re.search(pattern, message):
            raise kind(whole, remedy=remedy.format(ssh_conn_id=ssh_conn_id))
    raise ClusterError(whole, remedy=_NO_SESSION)
