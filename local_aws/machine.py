"""One machine of the region: a process tree with its own host name, process ids, mounts and file system view.

A machine is what an EC2 instance stands for. It is made by util-linux's `unshare`: as root directly, otherwise
inside an unprivileged user namespace with a single user. Killing it is the loss of an instance: nothing of it survives.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local_aws.errors import NamespacesUnavailableError

PROGRAMS = Path(__file__).parent / "programs"
MACHINE_PATH = "/opt/slurm/bin:/opt/software/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
DISKS = ("tmp", "run", "var")


@dataclass(frozen=True)
class Login:
    """The user that a machine's programs run as: `uid` and `gid` are real ids of this computer."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of_this_process(cls, name: str) -> Login:
        """Give the login `name` our own ids, or 1000 where we are root: MPI and sbatch refuse to serve root."""
        if os.geteuid() == 0:
            return cls(name, 1000, 1000)
        return cls(name, os.geteuid(), os.getegid())


class Spawner:
    """Starts processes that die with this one.

    The parent-death signal is sent when the *thread* that forked ends, so every fork happens on one thread that
    lives as long as the spawner does.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start `command`; its output is appended to `log`."""
        return self._thread.submit(_start, command, environment, log).result()


def _start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


class Machine:
    """A machine: `root` is the tree that it shares with its cluster, `disks` what it has for itself."""

    def __init__(self, hostname: str, root: Path, disks: Path, login: Login) -> None:
        self.hostname = hostname
        self.root = root
        self.disks = disks
        self.login = login
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self, spawner: Spawner, program: Sequence[str]) -> None:
        """Start the machine with `program`, a command inside it, as its first process. Returns at once."""
        prepare_disks(self.disks, self.login)
        command = [
            *unshare_command(),
            "/bin/sh",
            str(PROGRAMS / "boot.sh"),
            str(self.root),
            str(self.disks),
            self.hostname,
        ]
        command += [str(self.login.uid), str(self.login.gid), *program]
        self._process = spawner.start(command, machine_environment(self.login), self.disks / "boot.log")

    @property
    def is_running(self) -> bool:
        """True until its first process has ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def process_id(self) -> int | None:
        """The process that all others of the machine descend from; None when it is down."""
        return self._process.pid if self._process is not None and self.is_running else None

    def run(self, command: Sequence[str], timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run `command` inside the machine as the login user; a machine that is gone answers with a nonzero exit code.

        So does one that has not answered within `timeout` seconds.
        """
        if self._process is None:
            return subprocess.CompletedProcess(list(command), 255, "", f"{self.hostname} is not running")
        try:
            return subprocess.run(
                [*enter_command(self._process.pid, self.login), *command],
                env=machine_environment(self.login),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(list(command), 255, "", f"no answer from {self.hostname} in {timeout} s")

    def kill(self) -> None:
        """End every process of the machine at once and wait until all are gone."""
        if self._process is None:
            return
        for pid in first_processes(self._process.pid):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        if not first_processes(self._process.pid):
            self._process.kill()
        self._process.wait()


def prepare_disks(disks: Path, login: Login) -> None:
    """Make the directories that a machine has for itself, as an image's first boot finds them."""
    for name in (
        *DISKS,
        "run/munge",
        "run/sshd",
        "var/log",
        "var/spool/slurmd",
        "var/spool/slurmctld",
        "var/tmp",
        "var/lib/munge",
    ):
        directory = disks / name
        directory.mkdir(parents=True, exist_ok=True)
        give(directory, login)
    for name in ("tmp", "var/tmp"):
        (disks / name).chmod(0o1777)
    (disks / "run/munge").chmod(0o755)


def give(path: Path, login: Login) -> None:
    """Make `login` the owner of `path` (nothing to do unless we are root)."""
    if os.geteuid() == 0:
        os.chown(path, login.uid, login.gid)


def unshare_command() -> list[str]:
    """The command that puts its arguments into namespaces of their own, and kills them when it dies."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL"]


def enter_command(pid: int, login: Login) -> list[str]:
    """The command that runs its arguments in the namespaces that the `unshare` with process id `pid` made."""
    namespaces = ["--mount", "--uts", "--ipc", f"--pid=/proc/{pid}/ns/pid_for_children"]
    if os.geteuid() == 0:
        drop = ["setpriv", f"--reuid={login.uid}", f"--regid={login.gid}", "--clear-groups", "--no-new-privs"]
        return ["nsenter", f"--target={pid}", *namespaces, *drop]
    drop = ["unshare", "--user", f"--map-user={login.uid}", f"--map-group={login.gid}"]
    return ["nsenter", f"--target={pid}", "--user", "--preserve-credentials", *namespaces, *drop]


def machine_environment(login: Login) -> dict[str, str]:
    """The environment of a machine's first process; nothing of ours leaks into it."""
    return {"PATH": MACHINE_PATH, "HOME": f"/home/{login.name}", "USER": login.name, "LANG": "C.UTF-8"}


def first_processes(unshare_pid: int) -> list[int]:
    """The children of an `unshare` process: the first process of the namespaces that it made."""
    try:
        children = Path(f"/proc/{unshare_pid}/task/{unshare_pid}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in children.split()]


def check_namespaces() -> None:
    """Raise `NamespacesUnavailableError` unless machines can be made here."""
    probe = [
        *unshare_command(),
        "/bin/sh",
        "-c",
        "hostname probe && mount -t tmpfs tmpfs /mnt && mount -t proc proc /proc",
    ]
    answer = subprocess.run(probe, capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode != 0:
        raise NamespacesUnavailableError(
            "Machines are made of Linux namespaces, and this computer refuses them: "
            f"{answer.stderr.strip() or answer.returncode}. In Docker, run the container with --privileged (or with "
            "--cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--security-opt systempaths=unconfined). On Ubuntu 24.04 as an ordinary user: "
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0; on an old Debian: "
            "sudo sysctl kernel.unprivileged_userns_clone=1."
        )
