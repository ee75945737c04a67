from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc.config import Resources
from hpc.durations import format_walltime
from hpc.errors import ConfigurationError
from hpc.slurm.script import (
    MAX_VALUE_BYTES,
    SlurmRequest,
    leading_directives,
    render_job,
    render_parameters,
    sbatch_options,
)

ANY_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def in_bash(parameters: dict[str, Any]) -> dict[str, bytes]:
    """Source the rendered file in a real bash and return its PARAM_ variables, byte for byte."""
    script = render_parameters(parameters) + "env -0"
    printed = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True, env={"LC_ALL": "C"})
    pairs = [entry.split(b"=", 1) for entry in printed.stdout.split(b"\0") if entry.startswith(b"PARAM_")]
    return {name.decode(): value for name, value in pairs}


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), ANY_TEXT, max_size=4))
def test_texts_arrive_byte_for_byte(parameters: dict[str, str]) -> None:
    assert in_bash(parameters) == {f"PARAM_{name.upper()}": text.encode() for name, text in parameters.items()}


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (0.1, "0.1"), (1e-30, "1e-30"), (True, "true"), (False, "false"), (None, ""), ([1, "a"], '[1, "a"]')],
)
def test_other_values_arrive_as_json_writes_them(value: Any, text: str) -> None:
    assert in_bash({"x": value}) == {"PARAM_X": text.encode()}


def test_nothing_in_a_value_is_run(tmp_path: Path) -> None:
    target = tmp_path / "owned"
    hostile = f"'; touch {target} #\n$(touch {target})`touch {target}`\\"
    assert in_bash({"x": hostile}) == {"PARAM_X": hostile.encode()}
    assert not target.exists()


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"x": "a\0b"}, "NUL"),
        ({"x": "\ud800"}, "Unicode"),
        ({"x": "x" * (MAX_VALUE_BYTES + 1)}, "input file"),
        ({"a-b": 1}, "letters"),
        ({"": 1}, "letters"),
        ({"a": 1, "A": 2}, "PARAM_A"),
        ({"x": float("nan")}, "finite"),
    ],
)
def test_what_cannot_arrive_is_refused(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        render_parameters(parameters)


def test_the_longest_value_really_passes(tmp_path: Path) -> None:
    assert in_bash({"x": "x" * MAX_VALUE_BYTES}) == {"PARAM_X": b"x" * MAX_VALUE_BYTES}


# ------------------------------------------------------------------------------------------------ resources
def test_resources_become_options_by_the_table() -> None:
    request = SlurmRequest.from_mapping(
        {
            "nodes": 2,
            "tasks_per_node": "4",
            "cpus_per_task": 1,
            "walltime": "00:10:00",
            "partition": "compute",
            "memory": "4G",
            "gpus_per_node": 0,
        }
    )
    assert sbatch_options(request, "/fsx/a b") == [
        "--nodes=2",
        "--ntasks-per-node=4",
        "--cpus-per-task=1",
        "--time=00:10:00",
        "--partition=compute",
        "--mem=4G",
        "--chdir=/fsx/a b",
        "--open-mode=append",
        "--requeue",
    ]


def test_the_resources_of_a_simulation_fit() -> None:
    resources = Resources(walltime="00:30:00", nodes=2)
    values = resources.model_dump() | {"walltime": format_walltime(resources.walltime)}
    assert SlurmRequest.from_mapping(values).nodes == 2


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"node": 2}, "did you mean nodes"),
        ({"nodes": 0}, "from 1"),
        ({"nodes": True}, "whole number"),
        ({"nodes": "2 --wrap=x"}, "whole number"),
        ({"walltime": "10"}, "walltime"),
        ({"memory": "4 GB"}, "memory"),
        ({"partition": "a b"}, "partition"),
    ],
)
def test_what_sbatch_cannot_take_is_refused(resources: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        SlurmRequest.from_mapping(resources)


def test_a_script_may_refuse_to_be_put_back() -> None:
    options = sbatch_options(SlurmRequest(), "/fsx", ["#SBATCH --no-requeue"])
    assert "--requeue" not in options


# ------------------------------------------------------------------------------------------------ script
def test_leading_directives_end_at_the_first_command() -> None:
    script = "#!/bin/bash\n# a remark\n\n#SBATCH --exclusive\n#SBATCH\t-A x\n#SBATCHED no\necho\n#SBATCH --mem=1\n"
    assert leading_directives(script) == ["#SBATCH --exclusive", "#SBATCH\t-A x"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no interpreter", "#!"),
        ("", "#!"),
        ("#!/bin/bash\r\necho\r\n", "Windows"),
        ("#!/bin/bash\n#SBATCH --array=1-10\n", "array"),
        ("#!/bin/bash\n#SBATCH --exclusive -a 1\n", "array"),
        ("#!/bin/bash\n#SBATCH --wait\n", "sbatch"),
    ],
)
def test_a_script_that_cannot_work_is_refused(script: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        leading_directives(script)


def test_the_wrapper_is_valid_shell() -> None:
    rendered = render_job(["#SBATCH --exclusive"])
    assert rendered.startswith("#!/bin/bash\n#SBATCH --exclusive\n")
    subprocess.run(["bash", "-n"], input=rendered.encode(), check=True)


def run_wrapper(record: Path, script: str, **environment: str) -> subprocess.Popen[bytes]:
    record.mkdir(exist_ok=True)
    (record / "job.sh").write_text(render_job([]))
    (record / "parameters.sh").write_text(render_parameters({"x": "1"}))
    (record / "script").write_text(f"#!/bin/bash\n{script}\n")
    (record / "script").chmod(0o755)
    variables = {"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n-[1-2]", **environment}
    return subprocess.Popen(["bash", str(record / "job.sh"), str(record)], env=variables, stderr=subprocess.PIPE)


def record_of(record: Path, name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in (record / name).read_text().splitlines())


def test_the_wrapper_records_start_and_end(tmp_path: Path) -> None:
    record = tmp_path / "it's a record"
    assert run_wrapper(record, "exit $((PARAM_X + 2))", SLURM_RESTART_COUNT="2").wait() == 3
    recorded = record_of(record, "start") | record_of(record, "end")
    expected = {"job_id": "7", "node_list": "n-[1-2]", "restarts": "2", "exit_code": "3", "signal": "0"}
    assert recorded.items() >= expected.items()
    assert not (record / "terminated").exists()
    assert not list(record.glob(".*"))


def test_the_wrapper_records_a_signal(tmp_path: Path) -> None:
    assert run_wrapper(tmp_path, "kill -SEGV $$").wait() == 139
    assert record_of(tmp_path, "end")["signal"] == "11"


def test_the_wrapper_passes_sigterm_on_and_waits_for_the_script(tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/saved; exit 9' TERM; touch {tmp_path}/ready; while :; do sleep 0.05; done"
    process = run_wrapper(tmp_path, script)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
    process.terminate()
    assert process.wait() == 9
    assert (tmp_path / "saved").exists()
    assert record_of(tmp_path, "end")["exit_code"] == "9"
    assert "terminated" in record_of(tmp_path, "terminated")


def test_a_script_that_ends_while_its_signal_is_recorded_keeps_its_exit_code(tmp_path: Path) -> None:
    slow = tmp_path / "date"
    slow.write_text('#!/bin/bash\nsleep 0.6\nexec /bin/date "$@"\n')
    slow.chmod(0o755)
    script = f"touch {tmp_path}/ready; sleep 0.3; exit 9"
    process = run_wrapper(tmp_path / "record", script, PATH=f"{tmp_path}:/usr/bin:/bin")
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
    process.terminate()
    assert process.wait() == 9
    assert record_of(tmp_path / "record", "end")["exit_code"] == "9"


def test_a_script_that_dies_of_sigterm_before_the_wrapper_sees_it_was_terminated(tmp_path: Path) -> None:
    """Slurm signals both at once, and the script may be the quicker one; a job that is put back has to run again."""
    slow = tmp_path / "date"
    slow.write_text('#!/bin/bash\necho >>"$0.calls"; sleep 0.3; exec /bin/date "$@"\n')
    slow.chmod(0o755)
    calls = tmp_path / "date.calls"
    script = f"echo $$ >{tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid; exec sleep 60"
    process = run_wrapper(tmp_path / "record", script, PATH=f"{tmp_path}:/usr/bin:/bin")
    while not (tmp_path / "pid").exists():
        assert process.poll() is None
    calls.write_text("")
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGTERM)
    while not calls.read_text():  # the script is dead, and its end is being recorded
        assert process.poll() is None
    process.terminate()
    assert process.wait() == 143
    assert "terminated" in record_of(tmp_path / "record", "terminated")


def test_a_job_that_is_put_back_owns_its_record(tmp_path: Path) -> None:
    for count in ("0", "1"):
        assert run_wrapper(tmp_path, f"echo ran >> {tmp_path}/ran", SLURM_RESTART_COUNT=count).wait() == 0
        (tmp_path / "terminated").write_text("terminated=1\n")  # Slurm ends a job that it puts back with SIGTERM
    assert (tmp_path / "ran").read_text() == "ran\nran\n"
    assert record_of(tmp_path, "start")["restarts"] == "1"


def test_what_an_earlier_start_recorded_is_kept(tmp_path: Path) -> None:
    for count in ("0", "1", "2"):
        (tmp_path / "terminated").write_text("terminated=1\n") if count != "0" else None
        assert run_wrapper(tmp_path, "exit 3", SLURM_RESTART_COUNT=count).wait() == 3
    before = (tmp_path / "before").read_text()
    assert [line for line in before.splitlines() if "restarts" in line] == ["restarts=0", "restarts=1"]
    assert before.count("exit_code=3") == before.count("terminated=1") == 2


def test_a_job_gives_signs_of_life_and_ends_when_it_is_given_up(tmp_path: Path) -> None:
    process = run_wrapper(tmp_path, f"touch {tmp_path}/ready; exec sleep 60")
    while not (tmp_path / "ready").exists() or not (tmp_path / "alive").exists():
        assert process.poll() is None
    (heart,) = (child for child in children_of(process.pid) if b"job.sh" in cmdline(child))
    (nap,) = children_of(heart)
    (tmp_path / "withdrawn").touch()
    os.kill(nap, signal.SIGTERM)  # it need not be slept through
    assert process.wait() == 143
    assert record_of(tmp_path, "end")["signal"] == "15"
    while Path(f"/proc/{heart}").exists():
        pass


def children_of(pid: int) -> list[int]:
    """Return the children of a process, once there is one. Raises ProcessLookupError if it has ended."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    while not (children := file.read_text().split()):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            raise ProcessLookupError(pid)
    return [int(child) for child in children]


def cmdline(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("count", ["0", "1"])
def test_a_job_that_has_ended_is_not_run_again(tmp_path: Path, count: str) -> None:
    """A slurmctld that was killed may not know of its end."""
    assert run_wrapper(tmp_path, f"echo ran >> {tmp_path}/ran; exit 3", SLURM_RESTART_COUNT="0").wait() == 3
    again = run_wrapper(tmp_path, f"echo ran >> {tmp_path}/ran", SLURM_RESTART_COUNT=count)
    assert b"has ended before" in again.communicate()[1]
    assert again.returncode == 0
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert record_of(tmp_path, "end")["exit_code"] == "3"


def test_srun_gets_the_cpus_of_a_task(tmp_path: Path) -> None:
    run_wrapper(tmp_path, f'echo "$SRUN_CPUS_PER_TASK" > {tmp_path}/seen', SLURM_CPUS_PER_TASK="4").wait()
    assert (tmp_path / "seen").read_text() == "4\n"


def test_parameters_are_json_of_the_trigger_form() -> None:
    value = json.loads(json.dumps({"text": "a'b\n"}))
    assert in_bash(value) == {"PARAM_TEXT": b"a'b\n"}
