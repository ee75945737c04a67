"""What a person types arrives byte for byte in the job, and is never run: through the real sshd, shell and Slurm."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpc.errors import ConfigurationError
from hpc.head_node.session import Session, run_session
from hpc.slurm.submission import submit

from .conftest import SSH, TaskInstance, Tasks, on_head_node

NASTY = [
    "",
    " ",
    "it's",
    '"',
    "$(touch /fsx/owned)",
    "`touch /fsx/owned`",
    "'; touch /fsx/owned; '",
    "a\nb\r\nc\n",
    "\\",
    "\\'",
    "--wrap=touch /fsx/owned",
    "-n",
    "*",
    "~",
    "!!",
    "$HOME",
    "${PATH}",
    "%j %x",
    "\x1b[31m\x7f\x01",
    "ünïcödé \u2028 \u202e 🦀",
    "{attempt}",
    "#SBATCH --nodes=9",
    "x" * 100_000,
]


def environment(address: object, path: str) -> dict[str, bytes]:
    async def read(session: Session) -> bytes:
        return await session.read(path, 4_000_000)

    pairs = [entry.split(b"=", 1) for entry in run_session(address, SSH, read).split(b"\0") if entry]  # type: ignore[arg-type]
    return {name.decode(): value for name, value in pairs if name.startswith(b"PARAM_")}


def test_nasty_values_arrive_in_a_job(tasks: Tasks) -> None:
    parameters = {f"p{number}": value for number, value in enumerate(NASTY)}
    job = tasks.run("env -0 > environment", parameters=json.dumps(parameters))
    seen = environment(tasks.address, f"{job['directory']}/environment")
    assert seen == {f"PARAM_P{number}": value.encode() for number, value in enumerate(NASTY)}
    assert on_head_node(tasks.address, "ls /fsx/owned 2>&1 || true").startswith("ls: cannot access")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200), min_size=1, max_size=8))
def test_any_text_arrives_on_the_head_node(tasks: Tasks, texts: list[str]) -> None:
    parameters = {f"p{number}": text for number, text in enumerate(texts)}
    operator = tasks.operator("#SBATCH --hold\ntrue", parameters=json.dumps(parameters))
    submission = operator._submission(TaskInstance().context)

    async def submit_and_source(session: Session) -> str:
        answer = await submit(session, submission)
        await session.run(f"scancel {answer.job_id}")
        record = submission.places.record_dir(answer.attempt)
        await session.run(f"bash -c '. {record}/parameters.sh; env -0 > {record}/environment'")
        return f"{record}/environment"

    seen = environment(tasks.address, run_session(tasks.address, SSH, submit_and_source))
    assert seen == {f"PARAM_P{number}": text.encode() for number, text in enumerate(texts)}


@pytest.mark.parametrize(
    "directory",
    ["relative", "/fsx/../etc", "/fsx/new\nline", "/fsx/back\\slash", "/fsx/nul\0", ""],
)
def test_a_folder_that_slurm_cannot_take_is_refused(tasks: Tasks, directory: str) -> None:
    with pytest.raises(ConfigurationError, match="directory"):
        tasks.submit("true", directory=directory)


@pytest.mark.parametrize("directory", ["/fsx/it's a $(touch /fsx/owned) folder", "/fsx/100%j-%x", "/fsx/ünï {attempt}"])
def test_a_strange_folder_works(tasks: Tasks, directory: str) -> None:
    job = tasks.run("pwd", directory=directory)
    assert job["result"]["exit_code"] == 0

    async def read(session: Session) -> bytes:
        return await session.read(job["log"], 1000)

    assert run_session(tasks.address, SSH, read).decode() == f"{directory}\n"


@pytest.mark.parametrize("name", ["--uid=0", "a b;c", "$(x)", "../../up", "ü" * 300])
def test_a_strange_name_is_made_harmless(tasks: Tasks, name: str) -> None:
    job = tasks.run("true", job_name=name)
    assert job["log"].startswith(f"{job['directory']}/")
    assert "/" not in job["log"].removeprefix(f"{job['directory']}/")
