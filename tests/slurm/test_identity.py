from __future__ import annotations

import json

import pytest

from hpc.errors import ConfigurationError
from hpc.slurm.identity import JobPlaces, SubmittedJob, is_of_a_run, job_token, readable_name


def test_a_token_is_the_same_for_every_retry_and_another_for_everything_else() -> None:
    token = job_token("dag", "run", "task", -1)
    assert token == job_token("dag", "run", "task", -1)
    others = [
        ("dag2", "run", "task", -1),
        ("dag", "run2", "task", -1),
        ("dag", "run", "task2", -1),
        ("dag", "run", "task", 0),
    ]
    assert len({token, *(job_token(*other) for other in others)}) == 5
    # Parts cannot flow into each other.
    assert job_token("a", "bc", "t", -1) != job_token("ab", "c", "t", -1)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("dag", "task"), "dag.task"),
        (("dag", "task", ""), "dag.task"),
        (("dag", "task", "3"), "dag.task.3"),
        (("--uid=0",), "uid-0"),
        (("../up",), "up"),
        (("ü",), "job"),
        (("",), "job"),
        (("x" * 200,), "x" * 80),
    ],
)
def test_names_are_harmless(parts: tuple[str, ...], name: str) -> None:
    assert readable_name(*parts) == name


def test_no_name_of_a_job_is_the_beginning_of_another_attempts() -> None:
    places = JobPlaces("/fsx/run", "0123456789ab", "dag.task")
    first, eleventh = places.submitted("c", 1, 7), places.submitted("c", 11, 8)
    assert first.name == "dag.task.0123456789ab.1"
    assert first.name != eleventh.name
    assert first.record_dir == "/fsx/run/.slurm/0123456789ab/attempt-1"
    assert first.log == "/fsx/run/dag.task.1.log"


def test_a_runs_job_is_known_by_its_name() -> None:
    name = JobPlaces("/fsx/run", job_token("dag", "run", "task", 3), readable_name("dag.task", "3")).job_name
    assert is_of_a_run(f"{name}1")
    assert is_of_a_run(f"{name}12.40000"), "a part of a sweep"
    for other in ("wrap", "mesh.2", "", name, f"{name}1.x", "dag.task.0123456789AB.1", "0123456789ab.1"):
        assert not is_of_a_run(other), other


def test_a_job_travels_as_json() -> None:
    job = JobPlaces("/fsx/run", "0123456789ab", "dag.task").submitted("c", 1, 7)
    assert SubmittedJob.from_dict(json.loads(json.dumps(job.as_dict()))) == job


@pytest.mark.parametrize("directory", ["", "fsx", "/fsx/../etc", "/fsx\n", "/fsx\\n", "/fsx\0"])
def test_a_folder_is_absolute_and_plain(directory: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute path"):
        JobPlaces(directory, "token", "name")
