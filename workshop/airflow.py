"""An Airflow of one's own below one directory: SQLite or another database, the local executor, four components.

`airflow standalone` does the same for people, but SIGTERM leaves its components running. Here each is a recorded
session (`workshop.processes`), so stopping leaves nothing, also for the next run after a SIGKILL.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from airflow_client.client import ApiClient

from workshop import ROOT, processes, rest
from workshop.database import migrate, provide_database
from workshop.region import Region

PROCESS = "airflow"
USER = "admin"
DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
#: The UI cuts a rendered script or cluster configuration off at 4,096 characters if nobody says more. And a setting of
#: the environment is found at once: the DAG processor asks for this one for each field, 100 times a simulation.
LONGEST_FIELD = {"AIRFLOW__CORE__MAX_TEMPLATED_FIELD_LENGTH": "65536"}
#: Seconds until all components must have answered; about 15 on two cores, more when something else runs.
START_LIMIT = 180.0


class AirflowDownError(Exception):
    """Airflow, or a DAG in it, is not up; the message carries what it said."""


@dataclass(frozen=True)
class Access:
    """What it takes to use one Airflow. The keys are its own secrets, kept so that a restart reads what it wrote."""

    port: int
    password: str
    fernet_key: str
    jwt_secret: str

    @property
    def url(self) -> str:
        """The address of the UI and, below /api/v2, of the REST API."""
        return f"http://127.0.0.1:{self.port}"


class LocalAirflow:
    """Airflow below `directory`; `settings` adds to its environment, for example `AIRFLOW__CORE__PARALLELISM`.

    The tables of another database than the SQLite file are made there when it starts.

    With `revive`, a component that ends is started again; without, all end with it.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        *,
        dags: Path = ROOT / "dags",
        plugins: Path = ROOT / "plugins",
        revive: bool = False,
    ) -> None:
        self.revive = revive
        self.directory = directory.resolve()
        self.access = _read_or_make_access(self.directory / "access.json")
        self.environment = component_environment(self.directory, self.access, dags, plugins) | dict(settings or {})

    @property
    def logs(self) -> Path:
        """Where the task logs are, and what the components print."""
        return self.directory / "logs"

    def start(self) -> None:
        """Start what does not run; returns at once, see `wait_until_ready`."""
        if processes.is_running(PROCESS, self.directory):
            return
        self.stop()
        if self.environment[DATABASE].startswith("sqlite:"):
            provide_database(self.directory / "airflow.db")
        else:
            migrate(self.environment)
        passwords = self.directory / "simple_auth_manager_passwords.json.generated"
        passwords.write_text(json.dumps({USER: self.access.password}))
        passwords.chmod(0o600)
        self.logs.mkdir(exist_ok=True)
        command = [sys.executable, "-P", str(ROOT / "workshop" / "components.py"), str(self.logs)]
        command += ["--revive"] if self.revive else []
        processes.start(
            PROCESS, command, records=self.directory, environment=self.environment, log=self.logs / "airflow.log"
        )

    def wait_until_ready(self, dag_ids: Collection[str] = (), limit: float = START_LIMIT) -> None:
        """Return when every component is healthy and `dag_ids` can be triggered. Raises AirflowDownError."""
        end = time.monotonic() + limit
        self._wait("answer of the API server", lambda: bool(rest.health(self.access.url)), end)
        rest.warm_up(self.access.url)
        self._wait("healthy scheduler, triggerer and DAG processor", self._healthy, end)
        if dag_ids:
            client = self.client()
            try:
                self._wait(f"DAG {', '.join(dag_ids)}", lambda: rest.dag_ids(client).issuperset(dag_ids), end)
            except AirflowDownError as error:
                raise AirflowDownError("\n".join([str(error), *rest.import_errors(client)])) from error

    def connect(self, account: Region) -> None:
        """Tell Airflow of the AWS account that it works for: two connections and a Variable, as a person would."""
        client = self.client()
        for conn_id, fields in account.connections().items():
            rest.set_connection(client, conn_id, fields)
        rest.set_variable(client, "hpc_site", account.site())

    def assert_running(self) -> None:
        """Raise AirflowDownError if a component ended by itself."""
        if not processes.is_running(PROCESS, self.directory):
            last = [f"{log.name}: {line}" for log in self.logs.glob("*.log") for line in last_lines(log, 10)]
            raise AirflowDownError(f"Airflow ended by itself; see {self.logs}\n" + "\n".join(last))

    def stop(self) -> list[str]:
        """End all components and the tasks that they run; returns nothing if nothing ran."""
        return processes.stop_all(self.directory)

    def client(self) -> ApiClient:
        """Log in and return a client of the REST API."""
        return rest.log_in(self.access.url, USER, self.access.password)

    def _wait(self, what: str, there: Callable[[], bool], end: float) -> None:
        """Return when `there` says so; `end` is a moment of the monotonic clock."""
        while not there():
            self.assert_running()
            if time.monotonic() > end:
                raise AirflowDownError(f"Airflow still has no {what}; see {self.logs}")
            time.sleep(0.1)

    def _healthy(self) -> bool:
        health = rest.health(self.access.url)
        return all(health.get(component) == "healthy" for component in ("scheduler", "triggerer", "dag_processor"))


def component_environment(directory: Path, access: Access, dags: Path, plugins: Path) -> dict[str, str]:
    """Return the environment of all components: the caller's own without AWS or Airflow settings, and ours.

    Connections decide which account is used. A profile or an exported key of the person at the keyboard must not.
    Compiled modules are kept: each task would else compile the project again, half a second of a core.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "AWS_", "PYTHONDONTWRITE")) or name == "AWS_CA_BUNDLE"
    }
    return kept | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AIRFLOW_HOME": str(directory),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        **LONGEST_FIELD,
        "AIRFLOW__CORE__FERNET_KEY": access.fernet_key,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{access.url}/execution/",
        DATABASE: f"sqlite:///{directory}/airflow.db?timeout=60",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(access.port),
        "AIRFLOW__API__BASE_URL": access.url,
        "AIRFLOW__API__SECRET_KEY": access.jwt_secret,
        "AIRFLOW__API_AUTH__JWT_SECRET": access.jwt_secret,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def last_lines(file: Path, number: int) -> list[str]:
    """Return the end of a text file."""
    return file.read_text(errors="replace").splitlines()[-number:]


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _read_or_make_access(file: Path) -> Access:
    if file.exists():
        return Access(**json.loads(file.read_text()))
    access = Access(
        port=int(os.environ.get("AIRFLOW_PORT") or 0) or free_port(),
        password=secrets.token_urlsafe(9),
        fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        jwt_secret=secrets.token_urlsafe(48),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(access)))
    return access
