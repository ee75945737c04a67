"""The model of a simulation: what it accepts, and what it says about what it refuses."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk import CronTriggerTimetable, MultipleCronTriggerTimetable

from hpc import PROJECT_ROOT
from hpc.config import (
    SIMULATIONS_DIR,
    KeepFor,
    Schedule,
    SimulationConfig,
    SimulationFileError,
    Site,
    load_simulation,
    load_simulations,
)
from hpc.parameters import BooleanParameter, IntegerParameter, StringParameter, parameter_schema


class OfOurOwn(CronTriggerTimetable):
    """A timetable that no plugin has registered."""


def document(**changes: Any) -> dict[str, Any]:
    """A small simulation that is right, with changes."""
    shipped = yaml.safe_load((SIMULATIONS_DIR / "lj_melt.yaml").read_text())
    return {
        "name": "small",
        "description": "A small one",
        "owner": "me",
        "cluster": {"profile": shipped["cluster"]["profile"]},
        "job": {"script": shipped["job"]["script"]},
        "resources": {"walltime": "00:10:00"},
        "outputs": ["*.log"],
        **changes,
    }


def text_parameter(**fields: Any) -> dict[str, Any]:
    return {"job": {"script": "x", "parameters": {"n": {"type": "string", "default": "x", **fields}}}}


def number_parameter(**fields: Any) -> dict[str, Any]:
    return {"job": {"script": "x", "parameters": {"n": {"type": "number", **fields}}}}


def write(folder: Path, content: Any, name: str = "small") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return file


def problems(folder: Path, content: Any) -> list[str]:
    with pytest.raises(SimulationFileError) as caught:
        load_simulation(write(folder, content))
    return caught.value.problems


def test_a_small_file_becomes_a_frozen_model(tmp_path: Path) -> None:
    simulation = load_simulation(write(tmp_path, document()))
    assert simulation.resources.nodes == 1
    assert simulation.resources.walltime == timedelta(minutes=10)
    assert simulation.on_failure == "delete"
    with pytest.raises(ValueError, match="frozen"):
        simulation.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"resources": {"walltime": "00:10:00", "nodes": 0}}, "resources.nodes = 0: Input should be greater"),
        ({"resources": {"walltime": "10 minutes"}}, "resources.walltime = '10 minutes': '10 minutes' is no walltime"),
        ({"resources": {"walltime": "00:00:30"}}, "at least 00:01:00"),
        ({"resources": {"walltime": "13:00:00"}}, "deadline: must be longer than resources.walltime"),
        ({"resurces": {}}, "resurces: there is no such key; did you mean resources?"),
        ({"name": "Small Name"}, "name = 'Small Name'"),
        ({"name": "janitor_lab"}, "name = 'janitor_lab': is the name of a janitor's DAG"),
        ({"owner": "a;b"}, "owner = 'a;b'"),
        ({"job": {"script": "../../etc/passwd"}}, "job.script = '../../etc/passwd': must be a relative path"),
        ({"job": {"script": "lammps_melt"}}, "job.script: there is no include/job_scripts/lammps_melt"),
        (
            {"cluster": {"profile": "cpu_fxs"}},
            "there is no config/clusters/cpu_fxs.yaml; did you mean",
        ),
        ({"inputs": [{"source": "include/none"}]}, "there is no file include/none in the repository"),
        ({"inputs": [{"source": "http://a/b"}]}, "only s3:// and files of the repository"),
        ({"inputs": [{"source": "s3://bucket"}]}, "names no object"),
        (
            {"inputs": [{"source": "s3://b/x", "target": "x"}, {"source": "s3://c/x"}]},
            "inputs: x is the target of more than one input",
        ),
        ({"schedule": {"cron": "0 2 * *"}}, "'0 2 * *' is no cron expression"),
        ({"schedule": {"cron": "@daily", "timezone": "Europe/Belrin"}}, "did you mean Europe/Berlin?"),
        ({"schedule": {"cron": "@daily", "catchup": True}}, "catchup needs start"),
        ({"schedule": {}}, "give either cron or timetable"),
        ({"schedule": {"cron": "0 0 2 * * *"}}, "it has five fields"),
        ({"schedule": {"cron": "@once"}}, "'@once' is no cron preset"),
        ({"schedule": {"timetable": "no.such.Thing"}}, "cannot be made: ModuleNotFoundError"),
        ({"schedule": {"timetable": "airflow.sdk.CronTriggerTimetable"}}, "cannot be made: TypeError"),
        ({"schedule": {"timetable": "os.getcwd"}}, "os.getcwd is no timetable"),
        (
            {"schedule": {"timetable": f"{__name__}.OfOurOwn", "timetable_args": ["@daily", "UTC"]}},
            "OfOurOwn cannot be stored by Airflow: TimetableNotRegistered",
        ),
        ({"schedule": {"timetable": "os.getcwd", "timezone": "Europe/Berlin"}}, "timezone is cron's and start's"),
        ({"tags": ["a" * 101]}, "tags.0"),
        ({"deadline": "99999999999d"}, "'99999999999d' is too long"),
        ({"deadline": "366d"}, "deadline = '366d': must not be longer than 365d"),
        ({"export": "discard", "postprocess": {"script": "hello.sh"}}, "its pictures would be lost"),
        ({"on_failure": {"keep_for": "4 hours"}}, "on_failure.keep_for = '4 hours': '4 hours' is no duration"),
        ({"export": {"bucket": "UPPER"}}, "export.bucket = 'UPPER'"),
        ({"export": {"through_data_repository": True}}, "cpu_fsx.yaml links no file system to S3"),
        ({"export": {"through_data_repository": True, "prefix": "a"}}, "the link of the file system says where to"),
        ({"export": {"on_premises": {"sftp_conn_id": "x", "directory": "rel"}}}, "export.on_premises.directory"),
        (
            {"job": {"script": "x", "parameters": {"n": {"type": "integer", "default": "many"}}}},
            "job.parameters.n.default = 'many'",
        ),
        (
            {"job": {"script": "x", "parameters": {"n": {"type": "integer", "default": 5, "maximum": 4}}}},
            "job.parameters.n: default = 5: is more than the maximum, 4",
        ),
        (text_parameter(pattern="["), "pattern = '[': is no regular expression"),
        (text_parameter(pattern="(?i)X"), "pattern = '(?i)X': is no regular expression"),
        (text_parameter(pattern="y"), "default = 'x': does not match the pattern y"),
        (text_parameter(default="long", max_length=3), "default = 'long': is longer than max_length, 3"),
        (number_parameter(default=float("nan")), "job.parameters.n.default"),
        (number_parameter(default=1, maximum=float("inf")), "job.parameters.n.maximum"),
        ({"outputs": []}, "outputs"),
        ({"outputs": ["../*"]}, "outputs.0 = '../*'"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert any(said in problem for problem in problems(tmp_path, document(**changes))), problems(
        tmp_path, document(**changes)
    )


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    changes = {"owner": 3, "resources": {"walltime": "x", "nodes": 0}}
    assert len(problems(tmp_path, document(**changes))) == 3


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    content = document()
    del content["owner"]
    assert problems(tmp_path, content) == ["owner: is missing, and has to be there"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("- 1", "must be a mapping"),
        ("a: \x00", "cannot"),
        ("a: 2026-02-30", "cannot be read: day is out of range for month"),
    ],
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in problems(tmp_path, text)[0]


def test_the_name_is_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(SimulationFileError, match="must be the file's name, 'other'"):
        load_simulation(write(tmp_path, document(), "other"))


def test_a_wrong_file_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, "a: [", "broken")
    write(tmp_path, document())
    write(tmp_path, "a: !!timestamp never", "what_yaml_itself_trips_over")
    found = list(load_simulations(tmp_path))
    assert [type(each) for each in found] == [SimulationFileError, SimulationConfig, SimulationFileError]
    assert "broken.yaml" in str(found[0])
    assert "what_yaml_itself_trips_over.yaml: cannot be read: AttributeError" in str(found[2])


def test_timetables_of_airflow_are_taken_with_the_arguments_they_want() -> None:
    nightly = Schedule(
        timetable="airflow.sdk.CronTriggerTimetable", timetable_kwargs={"expression": "0 2 * * *", "timezone": "UTC"}
    ).make_timetable()
    assert isinstance(nightly, CronTriggerTimetable)
    text = """
    timetable: airflow.sdk.MultipleCronTriggerTimetable
    timetable_args: ["30 2 * * 1-5", "0 14 * * 6"]
    timetable_kwargs: {timezone: Europe/Berlin}
    """
    both = Schedule.model_validate(yaml.safe_load(text)).make_timetable()
    assert isinstance(both, MultipleCronTriggerTimetable)
    assert [each.expression for each in both.timetables] == ["30 2 * * 1-5", "0 14 * * 6"]
    assert {str(each.timezone) for each in both.timetables} == {"Europe/Berlin"}


def test_a_failed_cluster_can_be_kept(tmp_path: Path) -> None:
    simulation = load_simulation(write(tmp_path, document(on_failure={"keep_for": "1h30m"})))
    assert simulation.on_failure == KeepFor(keep_for=timedelta(minutes=90))


POOL = {"profile": "cpu_ebs", "sharing": "pooled", "name": "mesh", "values": {"nodes": 4}}


def test_a_cluster_can_be_shared(tmp_path: Path) -> None:
    cluster = load_simulation(write(tmp_path, document(cluster={**POOL, "idle": "20m"}))).cluster
    assert (cluster.pool, cluster.idle) == ("mesh", timedelta(minutes=20))
    assert load_simulation(write(tmp_path, document())).cluster.pool is None


@pytest.mark.parametrize(
    ("cluster", "said"),
    [
        ({"name": None}, "cluster: sharing: pooled needs name, the name of the pool"),
        ({"sharing": "run"}, "cluster: name and idle are a pool's; add sharing: pooled, or leave them out"),
        ({"name": "Mesh 1"}, "cluster.name = 'Mesh 1': String should match"),
        ({"sharing": "pool"}, "cluster.sharing = 'pool': Input should be 'run' or 'pooled'"),
        ({"idle": "12h"}, "cluster.idle: must be shorter than deadline"),
        ({"values": {}}, "cluster.values: needs nodes, how many nodes the shared cluster can have"),
        ({"values": {"nodes": 1}}, "resources.nodes: the shared cluster has 1 nodes (cluster.values), not so many"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(tmp_path: Path, cluster: dict[str, Any], said: str) -> None:
    resources = {"walltime": "00:10:00", "nodes": 2}
    (problem,) = problems(tmp_path, document(cluster={**POOL, **cluster}, resources=resources))
    assert said in problem


def test_every_shipped_simulation_loads() -> None:
    found = list(load_simulations())
    assert [str(each) for each in found if isinstance(each, SimulationFileError)] == []
    assert len(found) >= 3


def test_parameters_become_json_schema() -> None:
    integer = IntegerParameter(type="integer", default=3, minimum=1)
    assert parameter_schema(integer) == {"type": "integer", "minimum": 1}
    text = StringParameter(type="string", default="a", pattern="a|b")
    assert parameter_schema(text) == {"type": "string", "pattern": r"^(?:a|b)$(?!\n)", "maxLength": 1024}
    assert not re.search(parameter_schema(text)["pattern"], "a\n")
    assert parameter_schema(BooleanParameter(type="boolean", default=True)) == {"type": "boolean"}


def test_a_site_is_checked_as_well() -> None:
    facts = {"region": "eu-central-1", "key_name": "me", "bucket": "results"}
    subnets = {"head_node_subnet_id": "subnet-0ab", "compute_subnet_id": "subnet-0cd"}
    assert Site(**facts, **subnets).bucket == "results"
    with pytest.raises(ValueError, match="head_node_subnet_id"):
        Site(**facts, **{**subnets, "head_node_subnet_id": "vpc-1"})


def test_the_project_root_holds_the_fixed_folders() -> None:
    assert {"plugins", "config", "dags", "include"} <= {folder.name for folder in PROJECT_ROOT.iterdir()}
