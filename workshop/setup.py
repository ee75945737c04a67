"""Make all that the demo and the tests need: `python3 -m workshop.setup [--tests]`.

It runs with nothing but the system's Python. Everything except Debian packages goes below `.local/`; what is there
already is left alone, so a second run takes a second. Exit code 2: only a person can install what is missing.
"""

from __future__ import annotations

import argparse
import ast
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from workshop import LOCAL, ROOT

PYTHONS = ((3, 11), (3, 13))
REGION_PACKAGES = (
    *("slurmctld", "slurmd", "slurm-client", "munge", "openssh-server"),
    *("curl", "openmpi-bin", "libpmix-dev", "lammps", "python3"),
)
TEST_PACKAGES = ("chromium", "fonts-dejavu-core", "postgresql")
NO_CHROMIUM = (
    "Ubuntu has Chromium as a snap alone, which the browser test cannot start. The other tests, after `make setup`:\n"
    "  .local/venvs/airflow/bin/python -m pytest -p workshop.marks -m 'not browser'"
)
#: What these packages start by themselves on a whole machine, and we do not want: package, service.
SERVICES = {
    **{name: name for name in ("slurmctld", "slurmd", "munge", "postgresql")},
    "openssh-server": "ssh",
}

TOOLS = LOCAL / "tools"
UV = TOOLS / "bin" / "uv"
AIRFLOW = LOCAL / "venvs" / "airflow"
#: What the local region's machines have as /opt/software, as a site's own image would.
SOFTWARE = LOCAL / "software"
MACHINES_PYTHON = "/usr/bin/python3"
LOGS = LOCAL / "logs"
#: What pip calls a setting, and how uv wants to be told.
UV_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "timeout": "UV_HTTP_TIMEOUT",
}


class SetupError(Exception):
    """A part could not be set up; the message says what to do."""

    exit_code = 1


class OnlyAPersonCanError(SetupError):
    """Something has to be installed that this user is not allowed to install."""

    exit_code = 2


# ------------------------------------------------------------------------------------------------ Debian packages
def missing_packages(wanted: Iterable[str]) -> list[str]:
    """Return those of the Debian packages that are not installed."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    installed = {line.split()[0] for line in answer.splitlines() if line.endswith(" installed")}
    return [package for package in wanted if package not in installed]


def without_candidate(packages: Iterable[str]) -> list[str]:
    """Return those of the packages that no configured repository has."""

    def has_candidate(package: str) -> bool:
        policy = ["env", "LC_ALL=C", "apt-cache", "policy", package]
        answer = subprocess.run(policy, capture_output=True, text=True, check=False).stdout
        return "Candidate:" in answer and "Candidate: (none)" not in answer

    return [package for package in packages if not has_candidate(package)]


def install_packages(wanted: Sequence[str]) -> None:
    """Install Debian packages that are missing, and leave none of their services running.

    Raises OnlyAPersonCanError naming those that this distribution does not have, after all others are installed.
    """
    if shutil.which("apt-get") is None:
        raise OnlyAPersonCanError(f"This is no Debian or Ubuntu. Install what these packages hold: {' '.join(wanted)}")
    missing = missing_packages(wanted)
    if not missing:
        return
    become_root = root_prefix(missing)
    apt = [*become_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=300"]
    # A third-party repository that does not answer must not stop us: the install below tells what is really missing.
    run([*apt, "update"], "packages", check=False)
    unknown = without_candidate(missing)
    known = [package for package in missing if package not in unknown]
    if known:
        run([*apt, "install", "--yes", "--no-install-recommends", *known], "packages")
    for package in known:
        if service := SERVICES.get(package):
            stop_service(become_root, service)
    if unknown:
        hint = f"; {NO_CHROMIUM}" if "chromium" in unknown else ""
        raise OnlyAPersonCanError(f"No repository of this machine has the packages {' '.join(unknown)}{hint}")


def root_prefix(missing: Sequence[str]) -> list[str]:
    """Return what makes a command run as root. Raises OnlyAPersonCanError where there is neither root nor sudo."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and (
        sys.stdin.isatty() or subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0
    ):
        return ["sudo"]
    command = f"apt-get install --no-install-recommends {' '.join(missing)}"
    raise OnlyAPersonCanError(f"These Debian packages are missing, and there is no sudo. As root, once:\n  {command}")


def stop_service(become_root: Sequence[str], service: str) -> None:
    """Stop a service that came with a package, and keep it from starting again: we start our own, elsewhere."""
    if Path("/run/systemd/system").is_dir():
        run([*become_root, "systemctl", "disable", "--now", service], "packages", check=False)
    elif Path("/etc/init.d", service).exists():
        run([*become_root, f"/etc/init.d/{service}", "stop"], "packages", check=False)


# ------------------------------------------------------------------------------------------------ Python environments
def install_tools() -> None:
    """Install uv, pinned by hash. Without it everything else still works with pip, only slower."""
    lock = ROOT / "workshop" / "requirements-tools.lock"
    if is_stamped(TOOLS, lock):
        return
    run([sys.executable, "-m", "venv", "--clear", str(TOOLS)], "tools")
    pip = [str(TOOLS / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    if run([*pip, "--require-hashes", "-r", str(lock)], "tools", check=False) == 0:
        stamp(TOOLS, lock)


def install_airflow() -> None:
    """Make Airflow's environment what the development lock says."""
    lock = ROOT / "requirements-dev.lock"
    if is_stamped(AIRFLOW, lock):
        return
    if not UV.exists():
        run([sys.executable, "-m", "venv", "--clear", str(AIRFLOW)], "airflow")
        pip = [str(AIRFLOW / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
        run([*pip, "--require-hashes", "--no-deps", "-r", str(lock)], "airflow")
    else:
        if not (AIRFLOW / STAMP).exists():  # nothing there, or a run that was killed in the middle
            run([str(UV), "venv", "--no-project", "--clear", "--python", sys.executable, str(AIRFLOW)], "airflow")
        (AIRFLOW / STAMP).unlink(missing_ok=True)
        run(
            [str(UV), "pip", "sync", "--require-hashes", "--python", str(AIRFLOW / "bin" / "python"), str(lock)],
            "airflow",
        )
    stamp(AIRFLOW, lock)


def install_parallelcluster() -> None:
    """Make ParallelCluster's own environment, exactly as the DAG's first task would."""
    run(
        [str(AIRFLOW / "bin" / "python"), "-m", "hpc.cluster.install"],
        "parallelcluster",
        PYTHONPATH=str(ROOT / "plugins"),
    )


def install_software() -> None:
    """Make what the machines' Python jobs use: the wheels that a job would otherwise install beside itself."""
    lock = ROOT / "include" / "inputs" / "python.lock"
    if not UV.exists() or is_stamped(SOFTWARE, lock):
        return
    run([str(UV), "venv", "--no-project", "--clear", "--python", MACHINES_PYTHON, str(SOFTWARE)], "software")
    pip = [str(UV), "pip", "sync", "--require-hashes", "--python", str(SOFTWARE / "bin" / "python"), str(lock)]
    run(pip, "software")
    stamp(SOFTWARE, lock)


def prepare_database() -> None:
    """Make the empty database that every Airflow of ours starts from."""
    run([str(AIRFLOW / "bin" / "python"), "-m", "workshop.database"], "database")


STAMP = ".made-from"


def stamp(environment: Path, lock: Path) -> None:
    """Note in an environment that it is complete, and from which lock."""
    (environment / STAMP).write_text(fingerprint(lock))


def is_stamped(environment: Path, lock: Path) -> bool:
    """Say whether an environment was completely made from this lock, and its Python still runs."""
    file = environment / STAMP
    python = environment / "bin" / "python"
    return file.is_file() and file.read_text() == fingerprint(lock) and python.exists()


def fingerprint(lock: Path) -> str:
    """Return what an environment is made from: the lock and the version of Python."""
    return f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {sys.version_info[0]}.{sys.version_info[1]}"


def uv_environment(pip_settings: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return pip's settings in the words of uv, which does not read them itself; what is set for uv already stays.

    `pip_settings` are the lines of `pip config list`, for example `global.index-url='https://…'`; later ones win.
    """
    settings = {"UV_CACHE_DIR": str(LOCAL / "cache" / "uv"), "UV_PYTHON_DOWNLOADS": "never"}
    for line in sorted(pip_settings, key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        variable = UV_SETTINGS.get(name.rpartition(".")[2])
        if variable:
            words = str(ast.literal_eval(value)).split()
            settings[variable] = ("," if variable == "UV_FIND_LINKS" else " ").join(words)
    if "UV_INDEX" in settings:
        # As pip does: the best version of all indexes. The locks' hashes decide whose file is accepted.
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in settings.items() if name not in environment}


# ------------------------------------------------------------------------------------------------ running
def run(command: Sequence[str], part: str, *, check: bool = True, **environment: str) -> int:
    """Run a command with its output in the part's log. Raises SetupError with the end of it."""
    log = LOGS / f"setup-{part}.log"
    with log.open("a") as output:
        print("+", shlex.join(command), file=output, flush=True)
        done = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment, cwd=ROOT, check=False
        )
    if check and done.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"set-up of {part} failed, the whole of it is in {log}:\n{last}")
    return done.returncode


class Parts:
    """Runs the parts of the set-up, tells how long each took, and remembers the first that failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.problem: SetupError | None = None

    def do(self, part: str, work: Callable[[], None]) -> None:
        """Do one part, unless another one failed before."""
        if self.problem:
            return
        begin = time.monotonic()
        try:
            work()
        except SetupError as problem:
            self.problem = problem
        self.seconds[part] = round(time.monotonic() - begin, 1)
        print(f"  set-up  {part:<16}{self.seconds[part]:6.1f} s", flush=True)


def set_up(packages: Sequence[str]) -> Parts:
    """Set everything up: packages beside the environments, unless Python lacks what makes environments."""
    parts = Parts()
    if importable("ensurepip"):
        system = threading.Thread(target=parts.do, args=("packages", lambda: install_packages(packages)))
        system.start()
    else:
        system = None
        parts.do("packages", lambda: install_packages([*packages, "python3-venv"]))
    parts.do("tools", install_tools)
    if not parts.problem:
        os.environ.update(uv_environment(pip_settings(), os.environ))
    parts.do("airflow", install_airflow)
    database = threading.Thread(target=parts.do, args=("database", prepare_database))
    database.start()
    parts.do("parallelcluster", install_parallelcluster)
    database.join()
    if system:
        system.join()
    parts.do("software", install_software)
    return parts


def importable(module: str) -> bool:
    """Say whether this Python has a module."""
    return (
        subprocess.run([sys.executable, "-c", f"import {module}"], stderr=subprocess.DEVNULL, check=False).returncode
        == 0
    )


def pip_settings() -> list[str]:
    """Return the lines in which pip tells its settings: files and environment."""
    command = [str(TOOLS / "bin" / "python"), "-m", "pip", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


def main() -> int:
    """Set up under a lock, so that two runs in one checkout do not meet, and keep the seconds in .local/setup.json."""
    arguments = argparse.ArgumentParser(prog="python3 -m workshop.setup", description=__doc__.splitlines()[0])
    arguments.add_argument("--tests", action="store_true", help="also what tests alone use: Chromium, PostgreSQL")
    packages = REGION_PACKAGES + (TEST_PACKAGES if arguments.parse_args().tests else ())
    LOGS.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with (LOCAL / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        parts = set_up(packages)
    if parts.problem:
        print(parts.problem, file=sys.stderr)
        return parts.problem.exit_code
    seconds = parts.seconds | {"all": round(time.monotonic() - begin, 1)}
    (LOCAL / "setup.json").write_text(json.dumps(seconds, indent=2))
    return 0


if __name__ == "__main__":
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        wanted = " to ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        sys.exit(
            f"Python {wanted} is needed, this is {sys.version.split()[0]}. Name another: make demo PYTHON=python3.12"
        )
    sys.exit(main())
