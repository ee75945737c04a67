"""The `pcluster` command of ParallelCluster's own environment: build its arguments, run it, hand its answer to
`answers`.

A call costs 2 s (describe) to 10 s (create) of processor time, so no poll makes one. Credentials, region and
endpoint come from the Airflow connection and travel in the environment of the process, never in its arguments or in
a log.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc.cluster.answers import parse_answer
from hpc.cluster.install import Environment, install_command
from hpc.errors import ClusterError, ConfigurationError, TransientError

#: What the process gets from ours. Nothing of Airflow's own: its PYTHONPATH and secrets are not for ParallelCluster.
INHERITED = (
    *("LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS"),
)
_CHECK_SCHEMA = Path(__file__).with_name("check_schema.py")


@dataclass(frozen=True)
class Completed:
    """How a process ended. `log_tail` is the end of ParallelCluster's log, or of stderr when it wrote none."""

    exit_status: int
    stdout: str
    log_tail: str


class Pcluster:
    """The command in one environment with one account's credentials. Not for use from several threads at once."""

    def __init__(self, environment: Environment, variables: Mapping[str, str]) -> None:
        self._environment = environment
        self._variables = dict(variables)
        self._process: subprocess.Popen[str] | None = None

    @property
    def region(self) -> str:
        """The AWS region that every command goes to."""
        return self._variables["AWS_DEFAULT_REGION"]

    def create(self, cluster_name: str, config: str, *, rollback_on_failure: bool) -> dict[str, Any]:
        """Start creating a cluster; return what `create-cluster` answers."""
        rollback = ["--rollback-on-failure", str(rollback_on_failure).lower()]
        return self._with_config("create-cluster", cluster_name, config, rollback)

    def dry_run(self, cluster_name: str, config: str) -> dict[str, Any]:
        """Have AWS and every validator look at a configuration; raise ConfigurationError with all that is wrong."""
        return self._with_config("create-cluster", cluster_name, config, ["--dryrun", "true"])

    def delete(self, cluster_name: str) -> dict[str, Any]:
        """Start deleting a cluster. Raises ClusterNotFoundError when there is none."""
        return self._command("delete-cluster", ["--cluster-name", cluster_name])

    def describe(self, cluster_name: str) -> dict[str, Any]:
        """Return what `describe-cluster` answers. Raises ClusterNotFoundError when there is none."""
        return self._command("describe-cluster", ["--cluster-name", cluster_name])

    def start_fleet(self, cluster_name: str) -> dict[str, Any]:
        """Start the compute fleet. Raises ClusterNotFoundError when there is no such cluster."""
        options = ["--cluster-name", cluster_name, "--status", "START_REQUESTED"]
        return self._command("update-compute-fleet", options)

    def check_schema(self, cluster_name: str, config: str) -> list[str]:
        """Return what ParallelCluster's own schema finds wrong, as `path: problem`; it does not ask AWS."""
        completed = self._run([str(self._environment.python), "-I", str(_CHECK_SCHEMA), cluster_name], stdin=config)
        if completed.exit_status != 0:
            raise ClusterError(f"ParallelCluster's schema could not be asked: {completed.log_tail}")
        return [str(problem) for problem in json.loads(completed.stdout)]

    def run(self, operation: str, options: Sequence[str], *, timeout: float = 300) -> Completed:
        """Run one command to its end, for those that do not answer in JSON. Raises TransientError after `timeout` s."""
        argv = [str(self._environment.executable), operation, "--region", self.region, *options]
        return self._run(argv, timeout=timeout)

    def kill(self) -> None:
        """End the running command and all that it started. Does nothing when none is running."""
        process = self._process
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    def _with_config(self, operation: str, cluster_name: str, config: str, options: Sequence[str]) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="cluster-config-") as folder:
            file = Path(folder, f"{cluster_name}.yaml")
            file.write_text(config, encoding="utf-8")
            names = ["--cluster-name", cluster_name, "--cluster-configuration", str(file)]
            return self._command(operation, [*names, *options])

    def _command(self, operation: str, options: Sequence[str]) -> dict[str, Any]:
        completed = self.run(operation, options)
        return parse_answer(operation, completed.exit_status, completed.stdout, completed.log_tail)

    def _run(self, argv: Sequence[str], *, stdin: str = "", timeout: float = 300) -> Completed:
        """Run a program to its end in a home of its own. Raises TransientError after `timeout` seconds."""
        with tempfile.TemporaryDirectory(prefix="parallelcluster-home-") as home:
            try:
                self._process = subprocess.Popen(
                    [*_dies_with_us(), *argv],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=home,
                    env=self._process_environment(home),
                    start_new_session=True,
                )
            except OSError as error:
                raise ConfigurationError(
                    f"{argv[0]} cannot be run: {error}", remedy=f"install it again: `{install_command()}`"
                ) from error
            try:
                stdout, stderr = self._process.communicate(stdin, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                raise TransientError(f"{Path(argv[0]).name} {argv[1]} did not end within {timeout:g} s") from error
            finally:
                self.kill()
            log = Path(home, ".parallelcluster", "pcluster-cli.log")
            written = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
            return Completed(self._process.returncode, stdout, (stderr.strip() + "\n" + written)[-4000:].strip())

    def _process_environment(self, home: str) -> dict[str, str]:
        programs = [str(self._environment.bin), os.environ.get("PATH", os.defpath)]
        return {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PATH": os.pathsep.join(programs),
            "HOME": home,
            # The unpacked CDK libraries are kept between calls: that is a second or two of each create.
            "JSII_RUNTIME_PACKAGE_CACHE": "enabled",
            "JSII_RUNTIME_PACKAGE_CACHE_ROOT": str(self._environment.root / "jsii-cache"),
            **self._variables,
        }


def _dies_with_us() -> list[str]:
    """Return the prefix that ends the command with the task's process, so that no create outlives a killed task."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
