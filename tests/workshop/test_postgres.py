"""The PostgreSQL that an Airflow of ours can have: it answers by the URL that Airflow is told, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import psycopg2
import pytest

from workshop import postgres


def connect(url: str) -> psycopg2.extensions.connection:
    return psycopg2.connect(url.replace("+psycopg2", ""), connect_timeout=5)


def test_it_answers_with_its_password_alone_and_leaves_nothing() -> None:
    with postgres.running() as url:
        connection = connect(url)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('listen_addresses'), current_setting('data_directory')")
            row = cursor.fetchone()
        connection.close()
        assert row is not None
        addresses, data = row
        assert addresses == "127.0.0.1"
        assert not Path(data).with_name("password").exists()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            connect(url.replace("airflow:", "airflow:x"))
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        connect(url)
    assert not Path(data).parent.exists()


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "USER", "pg_reserved")
    with pytest.raises(postgres.PostgresError, match="superuser name"), postgres.running():
        pytest.fail("a name that begins with pg_ is PostgreSQL's own")
