"""One SSH session with the head node: its key pinned, its commands bounded in time, its errors told apart."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow.providers.ssh.hooks.ssh import SSHHookAsync

from hpc.errors import (
    ConfigurationError,
    ConnectionLostError,
    HeadNodeCommandError,
    HostKeyError,
    PermissionDeniedError,
)
from hpc.head_node.address import HeadNodeAddress

if TYPE_CHECKING:
    from types import TracebackType

    import asyncssh

T = TypeVar("T")

#: Seconds for the TCP connection, and again for the log-in.
CONNECT_TIMEOUT = 20
#: Seconds for what a task still does on the head node while it is being killed.
KILL_TIMEOUT = 20.0
#: ParallelCluster installs Slurm here, and a command over SSH does not read the profile that would add it.
SLURM_BIN = "/opt/slurm/bin"
_SHOWN = 2_000


@dataclass(frozen=True)
class Completed:
    """What a command left; bytes that are not UTF-8 are replaced."""

    stdout: str
    stderr: str
    exit_status: int

    def require_success(self, what: str) -> Completed:
        """Return itself. Raises HeadNodeCommandError, which names `what`, unless the exit status is 0."""
        if self.exit_status == 0:
            return self
        said = (self.stderr or self.stdout).strip()[-_SHOWN:]
        raise HeadNodeCommandError(f"{what} ended with {self.exit_status}\n{said}")


class HeadNodeHook(SSHHookAsync):
    """SSH to a head node: user, key and port come from the connection, host and host key from the address.

    A connection cannot weaken the pin: its `no_host_key_check`, `host_key` and `known_hosts` are not read, nor are the
    worker's own ~/.ssh/config, keys and agent.
    """

    def __init__(self, address: HeadNodeAddress, ssh_conn_id: str = "hpc_head_node") -> None:
        super().__init__(ssh_conn_id=ssh_conn_id, host=address.host)
        self.address = address

    async def get_conn(self) -> asyncssh.SSHClientConnection:
        """Connect. The caller closes it. Raises HostKeyError, PermissionDeniedError or ConnectionLostError."""
        # The first import takes half a second and more, for which a triggerer's loop must not stand still.
        await asyncio.to_thread(import_module, "asyncssh")
        import asyncssh
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson

        asyncssh.set_log_level("WARNING")  # it writes every command of every poll into the task's log
        connection = await get_async_connection(self.ssh_conn_id)
        extra: dict[str, Any] = await get_async_extra_dejson(connection)
        with _ssh_errors(self.address, self.ssh_conn_id):
            options: dict[str, Any] = {
                "port": connection.port or 22,
                "username": connection.login,
                "known_hosts": (_public_keys(self.address), [], []),
                "config": None,
                "agent_path": None,
                "keepalive_interval": 15,
                "keepalive_count_max": 4,
                "connect_timeout": CONNECT_TIMEOUT,
                "login_timeout": CONNECT_TIMEOUT,
                **_credentials(connection.password, extra, self.ssh_conn_id),
            }
            return await asyncssh.connect(self.address.host, **options)

    #: What the provider's own methods call: the pin holds for them too.
    _get_conn = get_conn


def _public_keys(address: HeadNodeAddress) -> list[asyncssh.SSHKey]:
    import asyncssh

    try:
        return [asyncssh.import_public_key(key) for key in address.host_keys]
    except asyncssh.KeyImportError as error:
        raise HostKeyError(f"a host key that AWS told for {address.cluster_name} cannot be read: {error}") from error


def _credentials(password: str | None, extra: dict[str, Any], ssh_conn_id: str) -> dict[str, Any]:
    import asyncssh

    passphrase = extra.get("private_key_passphrase") or extra.get("passphrase") or None
    try:
        if private_key := extra.get("private_key"):
            return {"client_keys": [asyncssh.import_private_key(private_key, passphrase)]}
        if key_file := extra.get("key_file"):
            return {"client_keys": [asyncssh.read_private_key(str(Path(key_file).expanduser()), passphrase)]}
    except (asyncssh.KeyImportError, OSError) as error:
        raise ConfigurationError(
            f"the private key of the Airflow connection {ssh_conn_id} cannot be used: {error}",
            remedy="correct key_file or private_key (and its passphrase) in the connection's extra fields",
        ) from error
    if password:
        return {"client_keys": None, "password": password}
    raise ConfigurationError(
        f"the Airflow connection {ssh_conn_id} has neither a private key nor a password",
        remedy="set key_file or private_key in its extra fields: the key pair that the cluster was made with",
    )


@contextmanager
def _ssh_errors(address: HeadNodeAddress, ssh_conn_id: str) -> Iterator[None]:
    import asyncssh

    where = f"head node {address.host} of cluster {address.cluster_name}"
    try:
        yield
    except asyncssh.HostKeyNotVerifiable as error:
        raise HostKeyError(
            f"the {where} answers with a host key that is not the one AWS told us: {error}",
            remedy="somebody may be in between, or the instance was replaced: clear the connect task to ask AWS again",
        ) from error
    except asyncssh.PermissionDenied as error:
        raise PermissionDeniedError(
            f"the {where} refused the log-in: {error}",
            remedy=f"check user and key of the Airflow connection {ssh_conn_id}",
        ) from error
    except asyncssh.SFTPError as error:
        raise HeadNodeCommandError(f"file transfer with the {where} failed: {error}") from error
    except (asyncssh.Error, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise ConnectionLostError(
            f"the {where} does not answer: {reason}",
            remedy="check that the instance runs and that its security group lets the worker in on the SSH port",
        ) from error


class Session:
    """An open SSH connection; a context of `open_session` makes and ends it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, address: HeadNodeAddress, ssh_conn_id: str) -> None:
        self.connection = connection
        self.address = address
        self.ssh_conn_id = ssh_conn_id

    async def run(
        self,
        command: str,
        *,
        input: bytes | str | None = None,
        timeout: float = 60,  # noqa: ASYNC109 - an end that is not seen becomes an error of ours
        check: bool = True,
    ) -> Completed:
        """Run one command line with Slurm on its PATH, `input` as standard input, and wait at most `timeout` seconds.

        Raises HeadNodeCommandError if it ends with an error and `check` is set, ConnectionLostError if no end was seen:
        the command may then still be running.
        """
        data = input.encode() if isinstance(input, str) else input
        with _ssh_errors(self.address, self.ssh_conn_id):
            process = await self.connection.create_process(f'export PATH="{SLURM_BIN}:$PATH"; {command}', encoding=None)
            try:
                _give(process, data or b"")
                ended = await asyncio.wait_for(process.wait(), timeout)
            except TimeoutError as error:
                raise ConnectionLostError(
                    f"no end of a command on {self.where} within {timeout:g} s: {_first_line(command)}"
                ) from error
            finally:
                process.close()
        if ended.exit_signal is None and (ended.exit_status is None or ended.exit_status < 0):
            raise ConnectionLostError(f"the connection to {self.where} broke during: {_first_line(command)}")
        status = ended.exit_status if ended.exit_status is not None and ended.exit_status >= 0 else 128
        completed = Completed(_text(ended.stdout), _text(ended.stderr), status)
        return completed.require_success(f"on {self.where}: {_first_line(command)}") if check else completed

    async def write(self, path: str, data: bytes) -> None:
        """Write a file atomically: readers see the old one or the new one. Folders on the way are made."""
        async with self._replacing(path) as (sftp, temporary), sftp.open(temporary, "wb") as file:
            await file.write(data)

    async def upload(self, local: str | Path, remote: str) -> None:
        """Copy a file of the worker to the head node, atomically. Folders on the way are made."""
        async with self._replacing(remote) as (sftp, temporary):
            await sftp.put(str(local), temporary)

    async def read(self, path: str, max_bytes: int) -> bytes:
        """Return at most the first `max_bytes` of a file. Raises HeadNodeCommandError if it cannot be read."""
        with _ssh_errors(self.address, self.ssh_conn_id):
            async with self.connection.start_sftp_client() as sftp, sftp.open(path, "rb") as file:
                content: bytes = await file.read(max_bytes)
                return content

    @asynccontextmanager
    async def _replacing(self, path: str) -> AsyncIterator[tuple[asyncssh.SFTPClient, str]]:
        target = PurePosixPath(path)
        temporary = str(target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.part"))
        with _ssh_errors(self.address, self.ssh_conn_id):
            async with self.connection.start_sftp_client() as sftp:
                await sftp.makedirs(str(target.parent), exist_ok=True)
                try:
                    yield sftp, temporary
                    await sftp.posix_rename(temporary, path)
                except BaseException:
                    await _remove(sftp, temporary)
                    raise

    @property
    def where(self) -> str:
        """The head node, as a message names it."""
        return f"the head node {self.address.host} of {self.address.cluster_name}"


def _give(process: asyncssh.SSHClientProcess[bytes], data: bytes) -> None:
    """Write standard input. A command that ends without reading it is no lost connection: its status says more."""
    with suppress(BrokenPipeError):
        process.stdin.write(data)
        process.stdin.write_eof()


async def _remove(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Take a half-written file away; if even that is impossible, the error that led here says more."""
    import asyncssh

    try:
        await sftp.remove(path)
    except (asyncssh.Error, OSError):
        return


def _text(output: object) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else ""


def _first_line(command: str) -> str:
    line, *more = command.strip().splitlines() or [""]
    return line[:200] + (" …" if more or len(line) > 200 else "")


@asynccontextmanager
async def open_session(address: HeadNodeAddress, ssh_conn_id: str = "hpc_head_node") -> AsyncIterator[Session]:
    """Open a session and close it at the end. Raises HostKeyError, PermissionDeniedError or ConnectionLostError."""
    connection = await HeadNodeHook(address, ssh_conn_id).get_conn()
    try:
        yield Session(connection, address, ssh_conn_id)
    finally:
        connection.close()


def run_session(address: HeadNodeAddress, ssh_conn_id: str, function: Callable[[Session], Awaitable[T]]) -> T:
    """Open a session, await `function` with it and return its answer: the synchronous way in, for operators."""

    async def in_session() -> T:
        async with open_session(address, ssh_conn_id) as session:
            return await function(session)

    return asyncio.run(in_session())


class KeptSession:
    """One connection for several calls, one after the other, of a task; a context, which may be entered again inside.

    Opened at the first call, and anew where it was not used for IDLE seconds: nobody answers for it meanwhile. A call
    during which an older connection breaks is made once more over a new one, so it has to be safe to repeat.
    """

    IDLE = 10.0

    def __init__(self, address: HeadNodeAddress, ssh_conn_id: str) -> None:
        self.address = address
        self.ssh_conn_id = ssh_conn_id
        self._depth = 0
        self._used = 0.0
        self._runner: asyncio.Runner | None = None
        self._opened = AsyncExitStack()
        self._session: Session | None = None

    def run(self, function: Callable[[Session], Awaitable[T]]) -> T:
        """Await `function` with the session and return its answer. Raises what `open_session` raises."""
        was_there = self._session is not None
        try:
            return self._run(function)
        except ConnectionLostError:
            is_broken = self._session is not None and self._session.connection.is_closed()
            self.close()
            if not (was_there and is_broken):
                raise
        return self._run(function)

    def _run(self, function: Callable[[Session], Awaitable[T]]) -> T:
        if self._session is not None and time.monotonic() - self._used > self.IDLE:
            self.close()
        if self._runner is None:
            self._runner = asyncio.Runner()

        async def in_session() -> T:
            if self._session is None:
                self._session = await self._opened.enter_async_context(open_session(self.address, self.ssh_conn_id))
            return await function(self._session)

        try:
            return self._runner.run(in_session())
        finally:
            self._used = time.monotonic()

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._runner is None:
            return
        try:
            self._runner.run(self._opened.aclose())
        finally:
            self._runner.close()
            self._runner = self._session = None

    def __enter__(self) -> Self:
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self.close()


def run_on_kill(work: Callable[[], object]) -> None:
    """Do `work`, which calls `run_session`, from an operator's `on_kill`, and wait at most KILL_TIMEOUT seconds for it.

    Airflow calls `on_kill` from a signal handler, perhaps in the midst of an event loop of the task's own, in which no
    other one can run: hence the thread.
    """
    thread = threading.Thread(target=work, name="on_kill", daemon=True)
    thread.start()
    thread.join(KILL_TIMEOUT)
