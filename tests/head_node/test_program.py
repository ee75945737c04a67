"""Programs of ours on a real sshd: installed once a version, whatever is sent to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc.errors import HeadNodeCommandError
from hpc.head_node.program import MISSING, Program
from hpc.head_node.session import Session, run_session

from .conftest import Sshd

COUNT = "import sys\nprint(sys.argv[1], len(sys.stdin.read()))\n"


@pytest.fixture
def home(sshd: Sshd, connection: str, tmp_path: Path) -> str:
    """A home directory of its own for what is installed: `cd` leads there."""
    folder = tmp_path / "home"
    folder.mkdir()
    return str(folder)


def program(tmp_path: Path, text: str) -> Program:
    file = tmp_path / "count.py"
    file.write_text(text)
    return Program(file)


def test_it_is_installed_by_the_first_run_of_a_version(
    sshd: Sshd, connection: str, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = "x" * 5_000_000  # more than any pipe holds: it is read even where the program is not there yet
    command = Program.command
    monkeypatch.setattr(Program, "command", lambda *a, **k: f"export HOME={home}; {command(*a, **k)}")

    async def run_twice(session: Session) -> list[str]:
        first = program(tmp_path, COUNT)
        said = [(await first.run(session, "one", input=large)).stdout]
        said.append((await first.run(session, "it's two", input="xy")).stdout)
        second = program(tmp_path, COUNT.replace("print(", "print('new', "))
        said.append((await second.run(session, "three", input=large)).stdout)
        return said

    said = run_session(sshd.address, connection, run_twice)
    assert said == ["one 5000000\n", "it's two 2\n", "new three 5000000\n"]
    installed = sorted(Path(home, ".airflow-parallelcluster", "programs").iterdir())
    assert [file.suffix for file in installed] == [".py", ".py"], "one a version, and no part of one"


def test_a_missing_program_says_so_and_a_failing_one_is_named(
    sshd: Sshd, connection: str, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = program(tmp_path, "raise SystemExit('no good')\n")

    async def run(session: Session) -> int:
        there = await session.run(f"export HOME={home}; {failing.command('x')}", input="y" * 100_000, check=False)
        return there.exit_status

    assert run_session(sshd.address, connection, run) == MISSING
    command = Program.command
    monkeypatch.setattr(Program, "command", lambda *a, **k: f"export HOME={home}; {command(*a, **k)}")
    with pytest.raises(HeadNodeCommandError, match=r"count x on the head node .* ended with 1\nno good"):
        run_session(sshd.address, connection, lambda session: failing.run(session, "x"))
