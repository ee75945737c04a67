"""What a person types is refused with a clear error, or arrives byte for byte in the job; it is never run."""
# ruff: noqa: PT017 - whether a value is refused is what a property finds out

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import ParamValidationError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpc.config import SimulationConfig, load_simulation
from hpc.errors import ConfigurationError
from hpc.form import sweep_of, trigger_form
from hpc.head_node.session import Session, run_session
from hpc.head_node.shell import quote
from hpc.lifecycle import build_dag
from hpc.slurm.identity import JobPlaces, readable_name
from hpc.slurm.script import (
    SlurmRequest,
    leading_directives,
    render_job,
    render_parameters,
    render_points,
    sbatch_options,
)
from hpc.slurm.staging import Input
from hpc.slurm.submission import submit
from tests.test_config import document

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


# ------------------------------------------------------------------------------------------------ any input at all
SMALL = document()
#: What shells, sbatch, YAML, Jinja and paths might take for their own.
PIECES = [
    *("$(touch owned)", "`touch owned`", "';touch owned;'", '"', "'", "\\", "\n", "\r\n", "\0", "\ud800", "-x", "-rf"),
    *("{{ 7 * 7 }}", "{% raw %}", "#", ": ", "!!python/none", "&a", "*", "?", "~", "$HOME", "${x:-y}", "/", "..", " "),
    *("%j", "é", "🦀", "\u2028", "\x1b", "\x7f", "end", "=", ";", "|", ">owned", "\x85", "\t"),
]
HOSTILE = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    st.text(st.characters(codec=None), max_size=40),
)


def shell(script: str, *arguments: str, **variables: str) -> bytes:
    """Run a script with bash in an empty folder and return its output; nothing else may be in the folder afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["bash", "-euc", script, "hostile", *arguments],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **variables},
            capture_output=True,
            check=True,
        )
        assert not any(Path(folder).iterdir())
    return done.stdout


def seen_by_a_job(rendered: str, **variables: str) -> dict[str, bytes]:
    """Return the parameters that a job sees whose wrapper reads this file."""
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(rendered.encode())
        file.flush()
        output = shell('. "$1"; env -0', file.name, **variables)
    pairs = [entry.split(b"=", 1) for entry in output.split(b"\0") if entry]
    return {name.decode(): value for name, value in pairs if name.startswith(b"PARAM_")}


def arrives_or_is_refused(values: Mapping[str, Any]) -> None:
    """Deliver texts as parameters; what cannot be delivered is named in the error."""
    try:
        rendered = render_parameters(values)
    except ConfigurationError as error:
        assert any(name in str(error) for name in values)
        assert any("\0" in value or not is_text(value) for value in values.values())
        return
    assert seen_by_a_job(rendered) == {f"PARAM_{name.upper()}": value.encode() for name, value in values.items()}


def is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def simulation(folder: Path, **changes: Any) -> SimulationConfig:
    """Write a simulation to a YAML file and read it."""
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes}))
    return load_simulation(file)


def with_text(default: str = "", **fields: Any) -> dict[str, Any]:
    job = SMALL["job"]
    return {"job": {**job, "parameters": {"text": {"type": "string", "default": default, **fields}}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def swept(folder: Path) -> SimulationConfig:
    return simulation(folder, **with_text(), sweep={"list": [{"text": "one"}, {"text": "two"}]})


@given(HOSTILE)
def test_any_default_of_a_file(folder: Path, text: str) -> None:
    try:
        read = simulation(folder, **with_text(text))
    except ConfigurationError as error:
        assert "text" in str(error)
        assert "\0" in text or not is_text(text)
        return
    assert read.job.parameters["text"].default == text
    arrives_or_is_refused({"text": text})


@settings(max_examples=40)
@given(HOSTILE)
def test_any_word_where_a_file_has_none(folder: Path, text: str) -> None:
    """Names that become DAG ids, variables, tags, partitions and paths are of safe letters, or are refused."""
    places: list[dict[str, Any]] = [
        {"name": text},
        {"job": {**SMALL["job"], "script": text}},
        {"job": {**SMALL["job"], "parameters": {text: {"type": "boolean", "default": True}}}},
        {"resources": {"walltime": "00:10:00", "partition": text}},
        {"resources": {"walltime": "00:10:00", "memory": text}},
        {"cluster": {"profile": text}},
        {"inputs": [{"source": text}]},
    ]
    for place in places:
        try:
            simulation(folder, **place)
        except ConfigurationError as error:
            assert "small.yaml" in str(error)
        else:
            assert re.fullmatch(r"[A-Za-z0-9_.-]+", text), place


@given(HOSTILE)
def test_any_value_of_the_trigger_form(swept: SimulationConfig, text: str) -> None:
    """Airflow's form and its REST API send JSON, which is checked against the schema of the field."""
    sent = json.loads(json.dumps(text))
    try:
        value = trigger_form(swept)["text"].resolve(sent)
    except ParamValidationError as error:
        assert "\0" in text
        assert "does not match" in str(error)
        return
    assert value == text
    arrives_or_is_refused({"text": value})


@given(HOSTILE)
def test_any_value_through_the_templates_of_the_task(swept: SimulationConfig, text: str) -> None:
    """The value is no template: it is written into the task's field as JSON, which the task reads."""
    dag = build_dag(swept)
    task: Any = dag.get_task("submit_job")
    jinja = dag.get_template_env()
    context = {"params": {"text": text, "sweep": None}, **(dag.user_defined_macros or {})}
    task.parameters = task.render_template(task.parameters, context, jinja)
    assert task._parameters() == {"text": text}


@settings(max_examples=60)
@given(st.lists(HOSTILE, min_size=2, max_size=4, unique=True))
def test_any_point_of_a_sweep(swept: SimulationConfig, folder: Path, texts: list[str]) -> None:
    asked = {"list": [{"text": text} for text in texts]}
    form = trigger_form(swept)["sweep"]
    refused = any("\0" in text or not is_text(text) for text in texts)
    try:
        found = sweep_of(swept, {"sweep": form.resolve(json.loads(json.dumps(asked)))})
        from_file = sweep_of(simulation(folder, **with_text(), sweep=asked), {"sweep": None})
    except (ConfigurationError, ParamValidationError):
        assert refused
        return
    assert not refused
    assert found is not None
    assert from_file == found
    rendered = render_points(found["points"])
    for index, text in enumerate(texts):
        assert seen_by_a_job(rendered, POINT=str(index)) == {"PARAM_TEXT": text.encode()}


@given(st.dictionaries(HOSTILE, st.just("value"), min_size=1, max_size=3))
def test_any_name_of_a_parameter_of_a_task(values: dict[str, str]) -> None:
    try:
        seen = seen_by_a_job(render_parameters(values))
    except ConfigurationError:
        names = [name.upper() for name in values]
        assert len(set(names)) < len(names) or not all(re.fullmatch("[A-Z_][A-Z0-9_]*", name) for name in names)
        return
    assert seen == {f"PARAM_{name.upper()}": b"value" for name in values}


@given(HOSTILE)
def test_any_name_of_a_job(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", readable_name(text))


@given(HOSTILE)
def test_any_folder_of_a_job(text: str) -> None:
    """The folder is one word of the command line, bound to its option."""
    try:
        places = JobPlaces(f"/fsx/{text}", "0123456789ab", "job")
    except ConfigurationError as error:
        assert "directory" in str(error)
        return
    options = sbatch_options(SlurmRequest(), places.directory)
    printed = shell(f"printf '%s\\0' {quote(options)}")
    assert printed.split(b"\0")[:-1] == [os.fsencode(option) for option in options]
    assert f"--chdir={places.directory}" in options
    assert Path(places.root).is_relative_to("/fsx")


@given(st.text(max_size=200) | HOSTILE)
def test_any_resource(text: str) -> None:
    for name in ("nodes", "walltime", "partition", "memory"):
        try:
            request = SlurmRequest.from_mapping({name: text})
        except ConfigurationError as error:
            assert f"resources.{name}" in str(error)
        else:
            assert re.fullmatch(r"[A-Za-z0-9_,.:-]+", str(getattr(request, name)))


@settings(max_examples=60)
@example(["-x", "-d/a", " a", "a ", "--help"])
@given(st.lists(HOSTILE, min_size=1, max_size=4))
def test_any_name_of_an_input_of_a_point(names: list[str]) -> None:
    """The wrapper puts inputs into the folder of each point: by their names, whatever these are."""
    accepted = []
    for name in names:
        try:
            accepted.append(Input.from_mapping({"source": "x", "name": name}).name)
        except ConfigurationError as error:
            assert "inputs" in str(error)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        there = []
        for name in dict.fromkeys(accepted):
            try:
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                (top / name).write_bytes(name.encode())
            except OSError:
                continue  # one name is the other's folder, or too long
            there.append(name)
        attempt = top / ".slurm" / "attempt-1"
        (attempt / "elements" / "0").mkdir(parents=True)
        (attempt / "ends").mkdir()
        script = "#!/bin/bash\nfind . -type l -print0\n"
        files = {
            "job.sh": render_job(leading_directives(script)),
            "script": script,
            "parameters.sh": "",
            "points.sh": render_points([{}]),
            "inputs": "".join(f"{name}\n" for name in there),
        }
        for file, content in files.items():
            (attempt / file).write_text(content)
        (attempt / "script").chmod(0o700)
        variables = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n-1", "SLURM_ARRAY_TASK_ID": "0"}
        subprocess.run(
            ["bash", str(attempt / "job.sh"), str(attempt), "0"],
            cwd=top,
            env={"PATH": os.environ["PATH"], **variables},
            check=True,
        )
        point = top / "points" / "0"
        seen = {Path(os.fsdecode(path)) for path in (point / "output.log").read_bytes().split(b"\0") if path}
        assert seen == {Path(name) for name in there}
        assert all((point / name).read_bytes() == name.encode() for name in there)
