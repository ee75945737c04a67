"""A real sshd without a cluster behind it: enough for sessions, keys and files."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpc.head_node.address import HeadNodeAddress

CONNECTION = "sshd_alone"


@dataclass(frozen=True)
class Sshd:
    address: HeadNodeAddress
    port: int
    directory: Path
    process: subprocess.Popen[bytes]

    def sessions(self) -> list[int]:
        """Process ids of the connections that are open now."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def keygen(path: Path) -> str:
    """Make an ed25519 key pair and return its public half without the comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    directory = tmp_path_factory.mktemp("sshd")
    host_key = keygen(directory / "host_key")
    user_key = keygen(directory / "id_user")
    (directory / "authorized_keys").write_text(user_key + "\n")
    port = _free_port()
    (directory / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {directory}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        "Subsystem sftp internal-sftp\nMaxSessions 100\nMaxStartups 100:30:200\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd", path="/usr/sbin:/sbin") or "sshd"
    with_us = ["setpriv", "--pdeathsig", "KILL", "--"]  # it ends with the tests, also where they are killed
    command = [*with_us, program, "-D", "-e", "-f", str(directory / "sshd_config")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if b"Server listening" in line:
            break
    yield Sshd(HeadNodeAddress("alone", "i-0", "127.0.0.1", (host_key,)), port, directory, process)
    process.terminate()
    process.wait()


@pytest.fixture
def connection(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of an Airflow connection that may log in."""
    set_connection(monkeypatch, sshd, {"key_file": str(sshd.directory / "id_user")})
    return CONNECTION


def set_connection(monkeypatch: pytest.MonkeyPatch, sshd: Sshd, extra: dict[str, object]) -> None:
    import json

    value = {"conn_type": "ssh", "login": pwd.getpwuid(os.geteuid()).pw_name, "port": sshd.port, "extra": extra}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(value))
