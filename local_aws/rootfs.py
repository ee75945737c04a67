"""What all machines of one cluster see: the host's programs, an `/etc` of their own, shared home and `/fsx`.

It is a directory tree whose empty places are filled by bind mounts when a machine boots (`programs/boot.sh`), so
nothing outside the region's directory is ever created or changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from local_aws.machine import PROGRAMS, Login, give

HOST_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
MOUNT_POINTS = ("usr", "dev", "proc", "sys", "tmp", "run", "var", ".host/etc")
OWN_ETC = {
    "passwd",
    "group",
    "shadow",
    "gshadow",
    "hosts",
    "hostname",
    "resolv.conf",
    "slurm",
    "munge",
    "openmpi",
    "mtab",
}
EC2_PIPE = "opt/parallelcluster/shared/ec2"
#: The folders that a machine mounts as shared storage, one a line.
SHARED_STORAGE = ".host/shared-storage"
#: The Python environment that machines have as /opt/software, if somebody made it: numpy and the like.
SOFTWARE = Path(__file__).resolve().parents[1] / ".local" / "software"
SLURM_COMMANDS = (
    "sacct", "sacctmgr", "salloc", "sattach", "sbatch", "sbcast", "scancel", "scontrol", "sdiag", "sinfo", "sprio",
    "squeue", "srun", "sshare", "sstat", "strigger",
)  # fmt: skip
OPENMPI_PARAMETERS = """\
# Every machine of the region is on the loopback interface, and they share this computer's cores.
btl_tcp_if_include = lo
oob_tcp_if_include = lo
hwloc_base_binding_policy = none
mpi_yield_when_idle = 1
"""


def make_root(root: Path, login: Login, shared_directories: Iterable[str]) -> None:
    """Make the tree `root`; `shared_directories` are the configuration's shared storage (`/fsx`)."""
    for name in MOUNT_POINTS:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in HOST_DIRECTORIES:
        mirror_host_directory(root, name)
    make_etc(root / "etc", login)
    make_slurm(root / "opt/slurm", login)
    make_parallelcluster(root / "opt/parallelcluster", login)
    home = root / "home" / login.name
    home.mkdir(parents=True, exist_ok=True)
    give(home, login)
    shared = [directory.lstrip("/") for directory in shared_directories]
    for directory in shared:
        (root / directory).mkdir(parents=True, exist_ok=True)
        (root / directory).chmod(0o1777)
    if SOFTWARE.is_dir():
        (root / "opt/software").mkdir(exist_ok=True)
        (root / ".host/software").unlink(missing_ok=True)
        (root / ".host/software").symlink_to(SOFTWARE)
    (root / SHARED_STORAGE).write_text("".join(f"{directory}\n" for directory in shared))


def mirror_host_directory(root: Path, name: str) -> None:
    """Repeat the host's `/bin` and the like: a link where it is one (merged /usr), otherwise a place to mount it on."""
    host = Path("/") / name
    if host.is_symlink():
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(host.readlink())
    elif host.is_dir():
        (root / name).mkdir(exist_ok=True)


def make_etc(etc: Path, login: Login) -> None:
    """Make an `/etc` that is the host's, by links, except for what tells one machine from another."""
    etc.mkdir(parents=True, exist_ok=True)
    for entry in Path("/etc").iterdir():
        link = etc / entry.name
        if entry.name not in OWN_ETC and not link.is_symlink():
            link.symlink_to(f"/.host/etc/{entry.name}")
    (etc / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\n"
        f"{login.name}:x:{login.uid}:{login.gid}:EC2 Default User:/home/{login.name}:/bin/bash\n"
        "sshd:x:74:74:Privilege-separated SSH:/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
    )
    (etc / "group").write_text(f"root:x:0:\n{login.name}:x:{login.gid}:\ntty:x:5:\nsshd:x:74:\nnogroup:x:65534:\n")
    resolver = Path("/etc/resolv.conf")
    (etc / "resolv.conf").write_text(resolver.read_text() if resolver.exists() else "")
    openmpi = etc / "openmpi"
    openmpi.mkdir(exist_ok=True)
    if Path("/etc/openmpi").is_dir():
        for entry in Path("/etc/openmpi").iterdir():
            if entry.name != "openmpi-mca-params.conf" and not (openmpi / entry.name).is_symlink():
                (openmpi / entry.name).symlink_to(f"/.host/etc/openmpi/{entry.name}")
    (openmpi / "openmpi-mca-params.conf").write_text(OPENMPI_PARAMETERS)
    if not (etc / "slurm").is_symlink():
        (etc / "slurm").symlink_to("/opt/slurm/etc")


def make_slurm(prefix: Path, login: Login) -> None:
    """Make `/opt/slurm` as ParallelCluster's image has it, with links to the distribution's programs."""
    for name in ("bin", "etc"):
        (prefix / name).mkdir(parents=True, exist_ok=True)
    give(prefix / "etc", login)
    for command in SLURM_COMMANDS:
        link = prefix / "bin" / command
        if Path("/usr/bin", command).exists() and not link.is_symlink():
            link.symlink_to(f"/usr/bin/{command}")
    key = prefix / "etc/munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        give(key, login)


def make_parallelcluster(prefix: Path, login: Login) -> None:
    """Make `/opt/parallelcluster`: the programs of head node and compute nodes, and the pipe to whoever plays EC2."""
    scripts = prefix / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    for program in ("head_node.sh", "slurmctld.sh", "compute_node.sh", "prolog.sh"):
        shutil.copy(PROGRAMS / program, scripts / program)
    for program in ("resume", "suspend"):
        shutil.copy(PROGRAMS / "tell_ec2.sh", scripts / f"{program}.sh")
    (prefix / "shared").mkdir(exist_ok=True)
    pipe = prefix.parent.parent / EC2_PIPE
    if not pipe.exists():
        os.mkfifo(pipe, mode=0o600)
        give(pipe, login)


def write_hosts(root: Path, addresses: dict[str, str]) -> None:
    """Publish `addresses` (host name to address) to every machine, as the cluster's private DNS zone does on AWS."""
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
    fresh = root / "etc/.hosts.fresh"
    fresh.write_text("\n".join(lines) + "\n")
    fresh.rename(root / "etc/hosts")
