"""A region seen from outside its process: start it, ask it, stop it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from local_aws.errors import MissingProgramError, RegionError
from local_aws.processes import is_alive

START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.05
PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "hostname": "hostname",
    "curl": "curl",
}
"""The programs that a region is made of, and the Debian or Ubuntu package of each."""


@dataclass(frozen=True)
class RegionFacts:
    """What a client needs to know: the content of `region.json`."""

    endpoint_url: str
    region: str
    account_id: str
    access_key_id: str
    secret_access_key: str
    vpc_id: str
    head_node_subnet_id: str
    compute_subnet_id: str
    key_name: str
    private_key: str
    bucket: str
    ssh_user: str
    ssh_port: int
    pid: int
    started: int

    def environment(self) -> dict[str, str]:
        """The environment variables by which AWS clients find the region."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def read_facts(directory: Path) -> RegionFacts | None:
    """The facts of the region that runs in `directory`; None when none does."""
    try:
        document = json.loads((directory / "region.json").read_text())
    except FileNotFoundError:
        return None
    facts = RegionFacts(**{field.name: document[field.name] for field in fields(RegionFacts)})
    return facts if is_alive(facts.pid, facts.started) else None


def up(directory: Path, port: int | None = None) -> RegionFacts:
    """Start the region in `directory` unless it runs; returns when it answers.

    Raises `MissingProgramError` when a package is missing and `RegionError` with the last lines of its log when it does
    not start.
    """
    facts = read_facts(directory)
    if facts is not None:
        return facts
    check_programs()
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "region.log"
    command = [sys.executable, "-m", "local_aws", "up", "--foreground", "--dir", str(directory)]
    command += ["--port", str(port)] if port else []
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        facts = read_facts(directory)
        if facts is not None:
            return facts
        if process.poll() is not None:
            break
        time.sleep(POLL_SECONDS)
    process.kill()  # nobody would know of one that starts later
    process.wait()
    lines = log.read_text(errors="replace").strip().splitlines()
    raise RegionError("The region did not start. " + "\n".join(lines[-10:]) + f"\nThe whole log is {log}.")


def down(directory: Path) -> bool:
    """Stop the region and remove what it made; False when none ran. Every machine of it is gone when this returns."""
    facts = read_facts(directory)
    if facts is not None:
        os.kill(facts.pid, signal.SIGTERM)
        if not _wait_until_gone(facts):
            os.kill(facts.pid, signal.SIGKILL)
            _wait_until_gone(facts)
    (directory / "region.json").unlink(missing_ok=True)
    shutil.rmtree(directory / "clusters", ignore_errors=True)
    return facts is not None


def _wait_until_gone(facts: RegionFacts) -> bool:
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        if not is_alive(facts.pid, facts.started):
            return True
        time.sleep(POLL_SECONDS)
    return False


def ask(facts: RegionFacts, verb: str, **arguments: Any) -> Any:
    """Ask the region's control interface; raises `RegionError` with its answer when it refuses."""
    url = f"{facts.endpoint_url}/local-aws/{verb}"
    request = urllib.request.Request(url, json.dumps(arguments).encode(), method="POST")  # noqa: S310 (always http)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise RegionError(json.load(error).get("message", str(error))) from error
    except urllib.error.URLError as error:
        raise RegionError(f"The region at {facts.endpoint_url} does not answer: {error.reason}.") from error


def check_programs() -> None:
    """Raise `MissingProgramError` naming every package that is missing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None})
    if missing:
        raise MissingProgramError(
            f"Missing packages: run `sudo apt-get install --no-install-recommends {' '.join(missing)}`."
        )
