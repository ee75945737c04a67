"""Processes of Airflow's own kind, by the hundred: forked off one that has imported all, as Airflow's executor does.

`python -m chaos.forks MODULE` reads orders for the function `work` of a module from its standard input, a line of JSON
each, and answers with the id of the
process that works on it. Each process writes its answer to a file, whole or not at all: a killed one leaves none.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from workshop import ROOT


class Process:
    """One process; `answer` is what it wrote, None if it was killed before."""

    def __init__(self, pid: int, answer: Path) -> None:
        self.pid = pid
        self._answer = answer
        self._ended = asyncio.Event()
        try:
            self._handle: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = None
            self._ended.set()
        else:
            asyncio.get_running_loop().add_reader(self._handle, self._end)

    def _end(self) -> None:
        if self._handle is not None:
            asyncio.get_running_loop().remove_reader(self._handle)
            os.close(self._handle)
            self._handle = None
        self._ended.set()

    def kill(self) -> bool:
        """Kill it with SIGKILL; return whether that came before it had said all."""
        if self._handle is None:
            return False
        signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        return not self._answer.exists()

    def terminate(self) -> None:
        """Ask it to end, with SIGTERM."""
        if self._handle is not None:
            signal.pidfd_send_signal(self._handle, signal.SIGTERM)

    async def ended(self, limit: float) -> dict[str, Any] | None:
        """Wait for its end, at most `limit` seconds, after which it is killed; return its answer."""
        try:
            async with asyncio.timeout(limit):
                await self._ended.wait()
        except TimeoutError:
            self.kill()
            await self._ended.wait()
        if not self._answer.exists():
            return None
        answer: dict[str, Any] = json.loads(self._answer.read_text())
        return answer


class Forks:
    """Starts processes; a context that leaves none behind."""

    def __init__(self, folder: Path, module: str = "chaos.tasks") -> None:
        self._module = module
        self._folder = folder / "answers"
        self._folder.mkdir(parents=True)
        self._count = 0
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Forks:
        with (self._folder / "forks.log").open("ab") as log:
            self._server = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "chaos.forks", self._module),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT / 'plugins'}{os.pathsep}{ROOT}"},
                start_new_session=True,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        os.killpg(self._server.pid, signal.SIGKILL)  # itself and what it has forked
        await self._server.wait()

    async def start(self, order: Mapping[str, Any], log: Path) -> Process:
        """Start a process for an order of the module; what it prints is added to `log`."""
        if self._server.stdin is None or self._server.stdout is None:
            raise RuntimeError("the fork server has no pipes")
        self._count += 1
        answer = self._folder / f"{self._count}.json"
        line = json.dumps({"order": order, "answer": str(answer), "log": str(log)}) + "\n"
        async with self._lock:
            self._server.stdin.write(line.encode())
            pid = await self._server.stdout.readline()
        if not pid:
            raise RuntimeError(f"the fork server has ended: see {self._folder / 'forks.log'}")
        return Process(int(pid), answer)


def serve() -> None:
    """Fork for each line of standard input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever the imports print
    work = import_module(sys.argv[1]).work
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line), work)
        print(pid, file=answers, flush=True)


def _become(request: Mapping[str, Any], work: Any) -> None:
    """Work on an order, write the answer, and end without what the fork server would do at its own end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in enumerate((nothing, log, log)):
        os.dup2(target, number)
    code = 1
    try:
        answer = Path(request["answer"])
        part = answer.with_suffix(".part")
        part.write_text(json.dumps(work(request["order"])))
        part.rename(answer)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
