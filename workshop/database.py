"""The empty metadata database of the locked Airflow: migrating takes 6 s, so it is done once and then copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from sqlite3 import connect

from workshop import LOCAL, ROOT


class MigrationError(Exception):
    """`airflow db migrate` failed; the message is what it said."""


def provide_database(file: Path) -> None:
    """Put an empty, migrated database at `file` unless there is one."""
    if not file.exists():
        part = file.with_suffix(".part")
        shutil.copy(migrated_database(), part)
        part.rename(file)


def migrated_database() -> Path:
    """Return the empty database that the development lock's Airflow wants, made on first use."""
    version = sha256((ROOT / "requirements-dev.lock").read_bytes()).hexdigest()[:12]
    cached = LOCAL / "cache" / f"airflow-{version}.db"
    if not cached.exists():
        home = LOCAL / "cache" / f"airflow-{version}-{os.getpid()}"
        home.mkdir(parents=True)
        try:
            _migrate(home / "airflow.db", home)
            (home / "airflow.db").rename(cached)
        finally:
            shutil.rmtree(home)
    return cached


def _migrate(file: Path, home: Path) -> None:
    conn = f"sqlite:///{file}"
    migrate(os.environ | {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": conn})
    with closing(connect(file)) as database:
        # Readers then do not wait for writers: four components share the file.
        database.execute("PRAGMA journal_mode=WAL")


def migrate(environment: Mapping[str, str]) -> None:
    """Make the tables in the database of this environment. Raises MigrationError."""
    command = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MigrationError(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    migrated_database()
