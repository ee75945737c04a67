from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from hpc.errors import (
    ConfigurationError,
    ConnectionLostError,
    HeadNodeCommandError,
    HostKeyError,
    PermissionDeniedError,
)
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import KeptSession, Session, open_session, run_session

from .conftest import CONNECTION, Sshd, keygen, set_connection


async def test_a_command_gets_input_and_gives_output_and_status(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        answer = await session.run("cat; echo wrong >&2; exit 3", input="körper\n", check=False)
    assert (answer.stdout, answer.stderr, answer.exit_status) == ("körper\n", "wrong\n", 3)


async def test_no_input_is_an_empty_one(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        assert (await session.run("cat; echo end", timeout=20)).stdout == "end\n"


async def test_a_command_that_leaves_its_input_unread_is_judged_by_its_exit_status(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        for _ in range(5):
            done = await session.run("exit 3", input="x" * 20_000_000, check=False, timeout=20)
            assert done.exit_status == 3


async def test_a_command_that_ends_before_it_reads_its_input_tells_its_status(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        create = session.connection.create_process

        async def slow_create(*arguments: Any, **options: Any) -> Any:
            given = options.pop("input", None)
            process = await create(*arguments, **options)
            await process.wait_closed()
            if given is not None:
                process.channel.write(given)
            return process

        session.connection.create_process = slow_create  # type: ignore[method-assign]
        answer = await session.run("exit 93", input="is it installed?", check=False)
    assert answer.exit_status == 93


async def test_slurm_comes_first_on_the_path(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        assert (await session.run("echo $PATH")).stdout.startswith("/opt/slurm/bin:")


async def test_a_failed_command_says_what_it_said(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        with pytest.raises(HeadNodeCommandError, match=r"ended with 7.*\n.*no such thing"):
            await session.run("echo no such thing >&2; exit 7")


async def test_output_that_is_no_text_arrives(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        assert (await session.run(r"printf 'a\377b'")).stdout == "a�b"


async def test_a_command_without_end_is_unknown_not_failed(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        with pytest.raises(ConnectionLostError, match="no end of a command"):
            await session.run("sleep 30", timeout=0.2)
        assert (await session.run("echo still here")).stdout == "still here\n"


async def test_a_killed_connection_is_lost(sshd: Sshd, connection: str) -> None:
    async with open_session(sshd.address, connection) as session:
        with pytest.raises(ConnectionLostError):
            await session.run("kill -9 $PPID; sleep 5")


async def test_another_host_key_is_refused(sshd: Sshd, connection: str, tmp_path: Path) -> None:
    stranger = HeadNodeAddress("alone", "i-0", "127.0.0.1", (keygen(tmp_path / "other"),))
    with pytest.raises(HostKeyError, match="not the one AWS told us"):
        async with open_session(stranger, connection):
            pass


@pytest.mark.parametrize("weakening", [{"no_host_key_check": True}, {"known_hosts": "none"}, {"host_key": "theirs"}])
async def test_a_connection_cannot_weaken_the_pin(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weakening: dict[str, object]
) -> None:
    if "host_key" in weakening:
        weakening = {"host_key": sshd.address.host_keys[0]}
    set_connection(monkeypatch, sshd, {"key_file": str(sshd.directory / "id_user"), **weakening})
    stranger = HeadNodeAddress("alone", "i-0", "127.0.0.1", (keygen(tmp_path / "other"),))
    with pytest.raises(HostKeyError):
        async with open_session(stranger, CONNECTION):
            pass


async def test_a_host_key_of_another_type_is_refused(sshd: Sshd, connection: str) -> None:
    import asyncssh

    key = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    stranger = HeadNodeAddress("alone", "i-0", "127.0.0.1", (key,))
    # sshd hangs up when no type fits, sometimes before the client can say why.
    with pytest.raises((HostKeyError, ConnectionLostError)):
        async with open_session(stranger, connection):
            pass


async def test_a_stranger_is_not_let_in(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keygen(tmp_path / "stranger")
    set_connection(monkeypatch, sshd, {"key_file": str(tmp_path / "stranger")})
    with pytest.raises(PermissionDeniedError, match=CONNECTION):
        async with open_session(sshd.address, CONNECTION):
            pass


UNUSABLE = [{}, {"key_file": "/no/such/file"}, {"private_key": "no key"}]  # pragma: allowlist secret


@pytest.mark.parametrize("extra", UNUSABLE)
async def test_a_connection_without_a_usable_key_says_so(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, extra: dict[str, object]
) -> None:
    set_connection(monkeypatch, sshd, extra)
    with pytest.raises(ConfigurationError, match=CONNECTION):
        async with open_session(sshd.address, CONNECTION):
            pass


async def test_a_private_key_inside_the_connection_works(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connection(monkeypatch, sshd, {"private_key": (sshd.directory / "id_user").read_text()})
    async with open_session(sshd.address, CONNECTION) as session:
        assert (await session.run("echo in")).stdout == "in\n"


async def test_a_head_node_that_is_off_is_a_lost_connection(
    sshd: Sshd, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(os.environ[f"AIRFLOW_CONN_{CONNECTION.upper()}"]) | {"port": 1}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps(value))
    with pytest.raises(ConnectionLostError, match="security group"):
        async with open_session(sshd.address, CONNECTION):
            pass


async def test_a_file_is_written_whole_and_read_bounded(sshd: Sshd, connection: str, tmp_path: Path) -> None:
    target = tmp_path / "new folder" / "it's $(x).bin"
    async with open_session(sshd.address, connection) as session:
        await session.write(str(target), b"\0\1" * 5_000)
        assert target.read_bytes() == b"\0\1" * 5_000
        assert await session.read(str(target), 3) == b"\0\1\0"
        source = tmp_path / "source"
        source.write_bytes(b"replaced")
        await session.upload(source, str(target))
        with pytest.raises(HeadNodeCommandError):
            await session.read(str(tmp_path / "missing"), 10)
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert target.read_bytes() == b"replaced"


def test_an_operator_needs_no_loop_of_its_own(sshd: Sshd, connection: str) -> None:
    async def both(session: Session) -> list[str]:
        answers = await asyncio.gather(session.run("echo 1"), session.run("echo 2"))
        return [answer.stdout for answer in answers]

    assert run_session(sshd.address, connection, both) == ["1\n", "2\n"]


def test_one_connection_serves_several_calls_until_nobody_holds_it(
    sshd: Sshd, connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def port(kept: KeptSession) -> str:
        return kept.run(lambda session: session.run("echo $SSH_CONNECTION")).stdout

    kept = KeptSession(sshd.address, connection)
    with kept:
        first = port(kept)
        with kept:
            assert port(kept) == first
        assert port(kept) == first
        monkeypatch.setattr(KeptSession, "IDLE", -1.0)
        assert port(kept) != first, "what was idle for long is opened anew"
    end = time.monotonic() + 10
    while sshd.sessions():
        assert time.monotonic() < end
        time.sleep(0.1)
    with kept:
        assert port(kept)


def test_a_kept_connection_that_breaks_is_made_again(sshd: Sshd, connection: str) -> None:
    with KeptSession(sshd.address, connection) as kept:
        assert kept.run(lambda session: session.run("echo here")).stdout == "here\n"
        for pid in sshd.sessions():
            os.kill(pid, signal.SIGKILL)
        assert kept.run(lambda session: session.run("echo here")).stdout == "here\n"


def test_a_call_that_takes_too_long_is_not_made_again(sshd: Sshd, connection: str, tmp_path: Path) -> None:
    with KeptSession(sshd.address, connection) as kept:
        kept.run(lambda session: session.run("true"))
        with pytest.raises(ConnectionLostError, match="no end of a command"):
            kept.run(lambda session: session.run(f"echo x >>{tmp_path}/ran; sleep 60", timeout=1))
    assert (tmp_path / "ran").read_text() == "x\n"
