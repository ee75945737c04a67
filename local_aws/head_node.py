"""The head node: its sshd with a host key of its own, and what it prints on its console."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from local_aws.machine import MACHINE_PATH, Login, give

SSHD_DIRECTORY = "etc/ssh-head"


@dataclass(frozen=True)
class HeadNodeAddress:
    """Where the head node is: the same ports on both addresses."""

    private_ip: str
    public_ip: str
    ssh_port: int
    dcv_port: int

    @property
    def hostname(self) -> str:
        """The name that EC2 gives an instance."""
        return f"ip-{self.private_ip.replace('.', '-')}"


def sshd_config(address: HeadNodeAddress, login: Login) -> str:
    """Key login for `login` only, sftp, and as many sessions as a workflow opens at once."""
    listen = dict.fromkeys([address.private_ip, address.public_ip])
    return "\n".join(
        [
            *(f"ListenAddress {ip}:{address.ssh_port}" for ip in listen),
            f"HostKey /{SSHD_DIRECTORY}/ssh_host_ed25519_key",
            "PidFile /run/sshd.pid",
            f"AllowUsers {login.name}",
            "AuthorizedKeysFile .ssh/authorized_keys",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PrintMotd no",
            "MaxSessions 100",
            "MaxStartups 200:30:400",
            "Subsystem sftp internal-sftp",
            "AcceptEnv LANG LC_*",
            f"SetEnv PATH={MACHINE_PATH} LANG=C.UTF-8",
            "",
        ]
    )


def make_host_key(root: Path, address: HeadNodeAddress, login: Login) -> str:
    """Make the host key and sshd's configuration below `root`; answers the public key line."""
    directory = root / SSHD_DIRECTORY
    directory.mkdir(parents=True, exist_ok=True)
    key = directory / "ssh_host_ed25519_key"
    if not key.exists():
        comment = f"root@{address.hostname}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)], check=True)
        give(key, login)
    (directory / "sshd_config").write_text(sshd_config(address, login))
    return key.with_suffix(".pub").read_text().strip()


def authorize(root: Path, login: Login, public_key: str) -> None:
    """Let the owner of `public_key` log in, as cloud-init does with the instance's key pair."""
    directory = root / "home" / login.name / ".ssh"
    directory.mkdir(mode=0o700, exist_ok=True)
    give(directory, login)
    keys = directory / "authorized_keys"
    keys.write_text(public_key.strip() + "\n")
    keys.chmod(0o600)
    give(keys, login)


def fingerprint(public_key: str) -> str:
    """The SHA256 fingerprint line that `ssh-keygen -l` prints."""
    answer = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=public_key, capture_output=True, text=True, check=True
    )
    return answer.stdout.strip()


def console_output(hostname: str, public_key: str, fingerprint_line: str) -> str:
    """What cloud-init writes to the console of an Amazon Linux instance when it has booted."""
    return (
        "[    0.000000] Linux version 6.1.0 (local_aws)\n"
        f"[    4.000000] cloud-init[1802]: Cloud-init v. 22.2.2 running 'init' on {hostname}\n"
        "ec2: \n"
        "ec2: #############################################################\n"
        "ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----\n"
        f"ec2: {fingerprint_line}\n"
        "ec2: -----END SSH HOST KEY FINGERPRINTS-----\n"
        "ec2: #############################################################\n"
        "-----BEGIN SSH HOST KEY KEYS-----\n"
        f"{public_key}\n"
        "-----END SSH HOST KEY KEYS-----\n"
        f"[    5.000000] cloud-init[1843]: Cloud-init v. 22.2.2 finished. Datasource DataSourceEc2.\n\n"
        f"{hostname} login: "
    )
