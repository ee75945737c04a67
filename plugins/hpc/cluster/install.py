"""Step 1: AWS ParallelCluster in a virtual environment of its own, because its dependencies do not resolve beside
Airflow's.

The environment is named for the version and the lock it was made from, so a new lock makes a new one and a running
DAG keeps the old. It is built in place (a virtual environment cannot be moved) and counts as installed only when
its marker, written last, names the same lock. `install_command` is the command line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc import PROJECT_ROOT
from hpc.errors import ConfigurationError, HpcError

LOCK_FILE = PROJECT_ROOT / "requirements-parallelcluster.lock"
#: The environment variable that names another parent folder, for deployments whose checkout is read-only.
HOME_VARIABLE = "HPC_PARALLELCLUSTER_HOME"

_PIN = re.compile(r"^aws-parallelcluster==(?P<version>[^\s\\;]+)", re.MULTILINE)
_ASK_VERSION = "from importlib.metadata import version; print(version('aws-parallelcluster'))"
_SECONDS_FOR_ONE_STEP = 900

log = logging.getLogger(__name__)


class InstallError(HpcError):
    """ParallelCluster's environment could not be made."""


@dataclass(frozen=True)
class Environment:
    """Where a ParallelCluster of one version and one lock is, or will be, installed."""

    root: Path
    version: str
    lock_file: Path
    lock_digest: str

    @property
    def bin(self) -> Path:
        """The folder of its programs, `node` among them."""
        return self.root / "bin"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.bin / "python"

    @property
    def executable(self) -> Path:
        """The `pcluster` command."""
        return self.bin / "pcluster"

    @property
    def marker(self) -> Path:
        """The file that is written when everything else is there."""
        return self.root / "installed.json"

    def installed(self) -> bool:
        """Say whether the marker names this lock and the programs still answer with this version."""
        try:
            marked = json.loads(self.marker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return marked == self.facts() and installed_version(self.python) == self.version and self.executable.is_file()

    def facts(self) -> dict[str, str]:
        """Return what the marker says."""
        return {"version": self.version, "lock": self.lock_digest}


def describe_environment(lock_file: Path = LOCK_FILE, parent: Path | None = None) -> Environment:
    """Return the environment that a lock asks for, installed or not. Raises ConfigurationError for an unusable lock."""
    try:
        text = lock_file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{lock_file} cannot be read: {error}", remedy="run from a full checkout") from error
    pin = _PIN.search(text)
    if pin is None or "--hash=" not in text:
        raise ConfigurationError(
            f"{lock_file} does not pin aws-parallelcluster with hashes",
            remedy="make it anew with `make lock`",
        )
    digest = hashlib.sha256(text.encode()).hexdigest()
    home = parent or Path(os.environ.get(HOME_VARIABLE) or PROJECT_ROOT / ".local" / "parallelcluster")
    return Environment(home.resolve() / f"{pin['version']}-{digest[:10]}", pin["version"], lock_file, digest)


def installed_version(python: Path) -> str | None:
    """Return the version of ParallelCluster that an interpreter has; None when it has none or does not run.

    Raises InstallError when it does not answer in time: an environment that others use is not "not there".
    """
    try:
        answer = subprocess.run(
            [python, "-I", "-c", _ASK_VERSION], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError:
        return None
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"{python} did not tell its version within {error.timeout:g} s", remedy="look at the load of this machine"
        ) from error
    return answer.stdout.strip() if answer.returncode == 0 else None


def find_uv() -> Path | None:
    """Return the `uv` program: on the PATH, beside this Python, or among the project's tools."""
    on_path = shutil.which("uv")
    candidates = [Path(on_path)] if on_path else []
    candidates += [Path(sys.executable).with_name("uv"), PROJECT_ROOT / ".local" / "tools" / "bin" / "uv"]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def uv_commands(uv: Path, environment: Environment) -> list[list[str]]:
    """Build what `uv` has to do."""
    return [
        [str(uv), "venv", "--quiet", "--no-project", "--python", sys.executable, str(environment.root)],
        [
            *(str(uv), "pip", "sync", "--quiet", "--python", str(environment.python)),
            *("--require-hashes", "--compile-bytecode", str(environment.lock_file)),
        ],
    ]


def pip_commands(environment: Environment) -> list[list[str]]:
    """Build what the standard library's venv and pip have to do."""
    return [
        [sys.executable, "-m", "venv", str(environment.root)],
        [
            *(str(environment.python), "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"),
            *("--disable-pip-version-check", "-r", str(environment.lock_file)),
        ],
    ]


def install(environment: Environment, *, say: Callable[[str], None] = log.info) -> bool:
    """Make the environment unless it is there; return whether it had to be made.

    Safe to call at the same time from several processes, and again after one of them was killed. Raises InstallError.
    """
    from filelock import FileLock

    if environment.installed():
        return False
    try:
        environment.root.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(environment.root.with_name(f".{environment.root.name}.lock"), timeout=_SECONDS_FOR_ONE_STEP)
        with lock:
            if environment.installed():
                return False
            say(f"Installing AWS ParallelCluster {environment.version} into {environment.root}")
            _build(environment, say)
    except OSError as error:  # the lock's Timeout is one as well
        raise InstallError(
            f"AWS ParallelCluster {environment.version} could not be installed into {environment.root}: {error}",
            remedy=f"make the folder writable, or name another parent with the environment variable {HOME_VARIABLE}",
        ) from error
    return True


def _build(environment: Environment, say: Callable[[str], None]) -> None:
    """Build the environment by the first way that works, and mark it. The caller holds the lock."""
    uv = find_uv()
    ways = [("uv", uv_commands(uv, environment))] if uv else []
    ways.append(("pip", pip_commands(environment)))
    problems = []
    for name, commands in ways:
        shutil.rmtree(environment.root, ignore_errors=True)
        problem = _run_all(commands)
        if problem is None:
            break
        say(f"{name} could not install it: {problem}")
        problems.append(f"{name}: {problem}")
    else:
        raise InstallError(
            f"AWS ParallelCluster {environment.version} could not be installed: {'; '.join(problems)}",
            remedy="check that the package index can be reached, and this Python's version: 3.10 to 3.13",
        )
    found = installed_version(environment.python)
    if found != environment.version:
        raise InstallError(f"{environment.root} has aws-parallelcluster {found}, not {environment.version}")
    part = environment.marker.with_suffix(".part")
    part.write_text(json.dumps(environment.facts()), encoding="utf-8")
    part.replace(environment.marker)


def _run_all(commands: Sequence[Sequence[str]]) -> str | None:
    """Run commands in a row; return the first one's complaint, None when all went well."""
    for command in commands:
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_FOR_ONE_STEP, check=False)
        except subprocess.TimeoutExpired:
            return f"{' '.join(command[:3])} took longer than {_SECONDS_FOR_ONE_STEP} s"
        if answer.returncode != 0:
            return f"{' '.join(command[:3])} ended with {answer.returncode}: {answer.stderr.strip()[-2000:]}"
    return None


def install_command() -> str:
    """Return the line for a shell, of any working directory, that installs it where this process looks for it."""
    variables = {"PYTHONPATH": str(PROJECT_ROOT / "plugins")}
    variables |= {name: value for name, value in os.environ.items() if name == HOME_VARIABLE}
    assignments = [f"{name}={value}" for name, value in variables.items()]
    return shlex.join(["env", *assignments, sys.executable, "-m", "hpc.cluster.install"])


def require_installed(lock_file: Path = LOCK_FILE) -> Environment:
    """Return the environment, which another task has made. Raises ConfigurationError when it is not there."""
    environment = describe_environment(lock_file)
    if not environment.marker.is_file() or not environment.executable.is_file():
        raise ConfigurationError(
            f"AWS ParallelCluster {environment.version} is not installed in {environment.root}",
            remedy=f"run the task with ParallelClusterInstallOperator, or on this machine `{install_command()}`",
        )
    return environment


def main() -> int:
    """Install what the project's lock asks for, and print where."""
    environment = describe_environment()
    try:
        made = install(environment, say=print)
    except HpcError as error:
        print(error, file=sys.stderr)
        return 1
    state = "installed" if made else "already installed"
    print(f"AWS ParallelCluster {environment.version} is {state}: {environment.executable}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
