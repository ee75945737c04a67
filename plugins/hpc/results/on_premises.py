"""Carrying results from S3 to a site by SFTP: in parallel, resumable, verified by the export's receipt."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hpc.errors import ConfigurationError, ConnectionLostError, ExportError, PermissionDeniedError, ReceiptMismatchError
from hpc.results.bucket import BLOCK, ResultsBucket
from hpc.results.receipt import Receipt, ReceiptFile

if TYPE_CHECKING:
    import asyncssh

#: Files at the same time, on one SSH connection.
PARALLEL = 8
#: Beside the results: one JSON line for each file that was read back from the site as it should be.
SIDECAR = ".airflow-parallelcluster.jsonl"

Progress = Callable[[int, int], None]
#: Yields the content of a file from an offset.
Blocks = Callable[[int], AsyncIterator[bytes]]


@asynccontextmanager
async def open_site(sftp_conn_id: str) -> AsyncIterator[asyncssh.SFTPClient]:
    """Open the site. Raises ConnectionLostError or PermissionDeniedError; an unknown host key is the latter."""
    import asyncssh
    from airflow.providers.sftp.hooks.sftp import SFTPHookAsync

    hook = SFTPHookAsync(sftp_conn_id=sftp_conn_id)
    try:
        async with await hook._get_conn() as connection, connection.start_sftp_client() as sftp:
            yield sftp
    except asyncssh.HostKeyNotVerifiable as error:
        raise PermissionDeniedError(
            f"the host key of the site {sftp_conn_id} is not known: {error}",
            remedy="put its public host key as host_key into the connection's extra fields",
        ) from error
    except (asyncssh.PermissionDenied, asyncssh.SFTPPermissionDenied) as error:
        raise PermissionDeniedError(
            f"the site {sftp_conn_id} refused: {error}", remedy="check the connection's user and key, and the folder"
        ) from error
    except asyncssh.SFTPNoConnection as error:
        raise ConnectionLostError(f"the connection to the site {sftp_conn_id} broke: {error}") from error
    except asyncssh.SFTPError as error:
        raise ExportError(
            f"the site {sftp_conn_id} could not store a file: {error}", remedy="check the folder and its free space"
        ) from error
    except (asyncssh.Error, OSError) as error:
        raise ConnectionLostError(
            f"the site {sftp_conn_id} does not answer: {error}", remedy="check its address, port and firewall"
        ) from error


class SiteFolder:
    """A folder on the site that gets the files of one receipt."""

    def __init__(self, sftp: asyncssh.SFTPClient, directory: str) -> None:
        if not directory.startswith("/") or ".." in PurePosixPath(directory).parts:
            raise ConfigurationError(f"{directory!r} is no absolute folder without '..'")
        self.sftp = sftp
        self.directory = PurePosixPath(directory)
        self._made: set[PurePosixPath] = set()

    def path(self, name: str) -> str:
        """Return where a result lies on the site."""
        return str(self.directory / name)

    def partial(self, name: str) -> str:
        """Return where a result lies while it is written: a name that no other result has."""
        return str(self.directory / f".airflow-parallelcluster.{hashlib.sha256(name.encode()).hexdigest()}.partial")

    async def verified(self) -> dict[str, str]:
        """Return the SHA-256 of the files that an earlier try has read back, by path."""
        import asyncssh

        try:
            async with self.sftp.open(self.path(SIDECAR), "rb") as file:
                lines = (await file.read()).splitlines()
        except asyncssh.SFTPNoSuchFile:
            return {}
        found = {}
        for line in lines:
            try:
                entry = json.loads(line)
                found[entry["path"]] = entry["sha256"]
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a try that was killed while it wrote
        return found

    async def holds(self, file: ReceiptFile, verified: dict[str, str]) -> bool:
        """Say whether a file needs not be sent: verified before, and still of that size."""
        import asyncssh

        if verified.get(file.path) != file.sha256:
            return False
        try:
            return (await self.sftp.stat(self.path(file.path))).size == file.size
        except asyncssh.SFTPNoSuchFile:
            return False

    async def store(self, file: ReceiptFile, blocks: Blocks) -> None:
        """Write a file under another name, read it back, and give it its name. Raises ReceiptMismatchError.

        What an earlier try has written of it is kept. If it then turns out to be another file, it is written anew.
        """
        target, partial = self.path(file.path), self.partial(file.path)
        await self._make_parent(target)
        offset = await self._begun(file)
        if offset:
            async with self.sftp.open(partial, "r+b") as remote:
                await remote.seek(offset)
                async for block in blocks(offset):
                    await remote.write(block)
        if not offset or await self._hash(partial) != file.sha256:
            await self._write(file, blocks(0))
            _require(file, await self._hash(partial), "the site stored")
        await self.sftp.posix_rename(partial, target)

    async def _begun(self, file: ReceiptFile) -> int:
        """Return how many bytes an earlier try has certainly written; of its last block, some may be missing."""
        import asyncssh

        try:
            size = (await self.sftp.stat(self.partial(file.path))).size or 0
        except asyncssh.SFTPNoSuchFile:
            return 0
        return max(0, size - BLOCK) if size <= file.size else 0

    async def _write(self, file: ReceiptFile, blocks: AsyncIterator[bytes]) -> None:
        sent = hashlib.sha256()
        async with self.sftp.open(self.partial(file.path), "wb") as remote:
            async for block in blocks:
                sent.update(block)
                await remote.write(block)
        _require(file, sent.hexdigest(), "S3 holds")

    async def _hash(self, path: str) -> str:
        stored = hashlib.sha256()
        async with self.sftp.open(path, "rb") as remote:
            while content := await _read(remote):
                stored.update(content)
        return stored.hexdigest()

    async def write(self, name: str, data: bytes) -> None:
        """Write a small file of our own."""
        target = self.path(name)
        await self._make_parent(target)
        async with self.sftp.open(self.partial(name), "wb") as remote:
            await remote.write(data)
        await self.sftp.posix_rename(self.partial(name), target)

    async def _make_parent(self, target: str) -> None:
        parent = PurePosixPath(target).parent
        if parent not in self._made:
            await self.sftp.makedirs(str(parent), exist_ok=True)
            self._made.add(parent)


async def _read(remote: Any) -> bytes:
    content: bytes = await remote.read(BLOCK)
    return content


def _require(file: ReceiptFile, digest: str, who: str) -> None:
    if digest != file.sha256:
        raise ReceiptMismatchError(
            f"{who} {file.path} with SHA-256 {digest} instead of {file.sha256}", remedy="verify the receipt in S3 first"
        )


async def blocks_of(bucket: ResultsBucket, key: str, offset: int) -> AsyncIterator[bytes]:
    """Yield an object in blocks, from an offset, without holding up the event loop."""
    blocks = bucket.read(key, offset)
    while (block := await asyncio.to_thread(next, blocks, None)) is not None:
        yield block


async def copy_results(receipt: Receipt, bucket: ResultsBucket, site: SiteFolder, progress: Progress) -> int:
    """Copy what the site does not hold yet, then the receipt; return how many files were sent.

    `progress` is told the files and bytes done after each file. Raises ReceiptMismatchError.
    """
    verified = await site.verified()
    held = {file.path for file in receipt.files if await site.holds(file, verified)}
    missing = [file for file in receipt.files if file.path not in held]
    done_files, done_bytes = len(receipt.files) - len(missing), receipt.total_bytes - sum(f.size for f in missing)
    progress(done_files, done_bytes)
    await site.write(SIDECAR, b"".join(_line(file) for file in receipt.files if file.path in held))
    writing = asyncio.Lock()

    async with site.sftp.open(site.path(SIDECAR), "ab") as sidecar:

        async def send(file: ReceiptFile) -> None:
            nonlocal done_files, done_bytes
            await site.store(file, partial(blocks_of, bucket, file.key))
            async with writing:
                await sidecar.write(_line(file))
            done_files, done_bytes = done_files + 1, done_bytes + file.size
            progress(done_files, done_bytes)

        await in_parallel(missing, send)
    await site.write(receipt.uri.rpartition("/")[2], receipt.to_json())
    return len(missing)


def _line(file: ReceiptFile) -> bytes:
    return json.dumps({"path": file.path, "size": file.size, "sha256": file.sha256}).encode() + b"\n"


async def in_parallel(files: Iterable[ReceiptFile], send: Callable[[ReceiptFile], Awaitable[None]]) -> None:
    """Await `send` of each, a few at a time; the first error ends all and is raised as it is."""
    queue = iter(files)

    async def work() -> None:
        for file in queue:
            await send(file)

    tasks = [asyncio.create_task(work()) for _ in range(PARALLEL)]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
