"""Programs of ours on the head node: one Python file each, installed once a version, run with input on stdin."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hpc.head_node.session import Completed, Session
from hpc.head_node.shell import quote

#: Below the SSH user's home. Old versions stay: another run may be using them, and the cluster is gone soon.
_DIRECTORY = ".airflow-parallelcluster/programs"
#: Exit status of a command whose program is not installed.
MISSING = 93


@dataclass(frozen=True)
class Program:
    """A Python file of this package that only needs the standard library of Python 3.6."""

    file: Path

    @cached_property
    def text(self) -> bytes:
        """The program."""
        return self.file.read_bytes()

    @cached_property
    def path(self) -> str:
        """Where it is installed, below the home directory: its name carries its content's digest."""
        return f"{_DIRECTORY}/{self.file.stem}-{hashlib.sha256(self.text).hexdigest()[:12]}.py"

    def command(self, *arguments: str, install: bool = False) -> str:
        """Return the shell command that runs it, and installs it before if asked to.

        Its exit status is MISSING where the program is not installed.
        """
        run = quote(["python3", "-IS", self.path, *arguments])
        # The input is read in any case: who writes it would find a broken pipe, which looks like a lost connection.
        ready = self._install_command() if install else f"[ -f {self.path} ] || {{ cat >/dev/null; exit {MISSING}; }}"
        return f"cd && {ready}; exec env LC_ALL=C.UTF-8 {run}"

    def _install_command(self) -> str:
        packed = base64.b64encode(zlib.compress(self.text)).decode()
        unpack = "import base64, sys, zlib; sys.stdout.buffer.write(zlib.decompress(base64.b64decode(sys.argv[1])))"
        part = f"{self.path}.$$"
        return (
            f"mkdir -p {_DIRECTORY} && {quote(['python3', '-c', unpack, packed])} >{part} && mv -f {part} {self.path}"
        )

    async def run(self, session: Session, *arguments: str, input: str = "", timeout: float = 60) -> Completed:  # noqa: ASYNC109
        """Run it, after installing it if it is not there. Raises what `Session.run` raises."""
        command = self.command(*arguments)
        done = await session.run(command, input=input, timeout=timeout, check=False)
        if done.exit_status == MISSING:
            command = self.command(*arguments, install=True)
            done = await session.run(command, input=input, timeout=timeout, check=False)
        return done.require_success(f"{self.file.stem} {' '.join(arguments)} on {session.where}")
