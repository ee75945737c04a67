"""A PostgreSQL server of its own for Airflow's metadata, for SQLite lets one component write at a time."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workshop import setup

PACKAGE = "postgresql"
USER = "airflow"
#: Seconds for the server to come up, and to end.
PATIENCE = 60


class PostgresError(Exception):
    """The server did not start; the message is what it said."""


@contextmanager
def running() -> Iterator[str]:
    """Run a server on the loopback interface, and yield Airflow's `sql_alchemy_conn` for it.

    Its data lie in a temporary folder, for as root it runs as `postgres`, who may not look into everybody's checkout.
    Raises PostgresError; OnlyAPersonCanError if the Debian package is missing and cannot be installed.
    """
    programs, password = _programs(), secrets.token_hex(16)
    folder = Path(tempfile.mkdtemp(prefix="airflow-postgres-"))
    try:
        _make_cluster(programs, folder, password)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with (folder / "log").open("wb") as log, _server(programs, folder, port, log) as server:
            try:
                _wait_until_it_answers(programs, server, port, folder / "log")
                yield f"postgresql+psycopg2://{USER}:{password}@127.0.0.1:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)  # clients are cut off, the data are written
                try:
                    server.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    server.kill()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path:
    """Return the folder of the newest server's programs, which Debian keeps out of the PATH."""
    root, server = Path("/usr/lib/postgresql"), "*/bin/initdb"
    if not any(root.glob(server)):
        setup.install_packages([PACKAGE])
    return max(root.glob(server), key=lambda program: int(program.parts[-3])).parent


def _make_cluster(programs: Path, folder: Path, password: str) -> None:
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    if os.geteuid() == 0:
        for path in (folder, secret):
            shutil.chown(path, "postgres", "postgres")
    command = [str(programs / "initdb"), f"--pgdata={folder / 'data'}", f"--username={USER}", f"--pwfile={secret}"]
    command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-locale"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **_owner())
    if made.returncode:
        raise PostgresError(f"initdb failed: {made.stdout[-1000:]}{made.stderr[-1000:]}")
    secret.unlink()


def _server(programs: Path, folder: Path, port: int, log: Any) -> subprocess.Popen[bytes]:
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "max_connections": 200}
    options = [f"-c{name}={value}" for name, value in settings.items()]
    command = [str(programs / "postgres"), "-D", str(folder / "data"), *options]
    # A session of its own: who presses Ctrl-C wants Airflow to end first.
    return subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_owner()
    )


def _owner() -> dict[str, Any]:
    """Return whose processes these are: PostgreSQL refuses to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _wait_until_it_answers(programs: Path, server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ask = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    end = time.monotonic() + PATIENCE
    while subprocess.run(ask, check=False).returncode:
        if server.poll() is not None or time.monotonic() > end:
            raise PostgresError(f"PostgreSQL does not answer: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
