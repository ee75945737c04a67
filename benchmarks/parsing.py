"""How long Airflow's DAG processor reads the project's DAG files when there are many simulations.

As a program, `python -m benchmarks.parsing FILE [DAG_ID]` reads one DAG file in a fresh process, with the function that
the DAG processor runs in each of its own (import, DAGs, serialization), and prints the seconds and the number of DAGs;
with a DAG id it reads as a task of that DAG does, which only needs its own. Airflow and what DAG files import of it is
imported before the clock starts: the DAG processor has done that once for all its processes. Seconds are CPU seconds,
so that a busy machine does not count. What the DAG processor does afterwards, writing the serialized DAGs into the
database, is not in the figure. The environment says how long a templated field may be, as that of the local Airflow
does and `docs/running-on-aws.md` advises: otherwise Airflow looks that up in its files for each field.

The peer is one file with as many empty DAGs of the same shape, which reads nothing: the part that is Airflow's own.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.empty_dag import source_of_empty_dags
from benchmarks.report import Row
from workshop import ROOT
from workshop.airflow import LONGEST_FIELD

#: What one more simulation file may cost, in milliseconds.
MILLISECONDS_A_FILE = 10
DAG_FILES = ("simulations.py", "check_simulations.py")
EMPTY_FILE, PEER = "empty.py", "empty DAGs"


def write_project(folder: Path, number: int) -> tuple[Path, str]:
    """Make `number` simulations, copies of the shipped ones under other names, and DAG files that read them.

    Return the folder of the DAG files and the name of the last simulation.
    """
    from hpc.config import load_simulation
    from hpc.lifecycle import build_dag

    shipped = sorted((ROOT / "config" / "simulations").glob("*.yaml"))
    simulations, dags = folder / "simulations", folder / "dags"
    simulations.mkdir(parents=True)
    dags.mkdir()
    name = ""
    for place in range(number):
        model = shipped[place % len(shipped)]
        name = f"{model.stem}_{place:04}"
        text = re.sub(r"(?m)^name: .*$", f"name: {name}", model.read_text(encoding="utf-8"))
        (simulations / f"{name}.yaml").write_text(text, encoding="utf-8")
    there = f"directory=Path({str(simulations)!r})"
    for file in DAG_FILES:
        text = (ROOT / "dags" / file).read_text(encoding="utf-8")
        text, times = re.subn(r"\b(build_dags|fingerprint|remember|find_problems)\(", rf"\1({there}, ", text)
        if times == 0:
            raise ValueError(f"dags/{file} calls nothing that reads a folder of simulations")
        text = re.sub(r"(?m)^from ", "from pathlib import Path\nfrom ", text, count=1)
        (dags / file).write_text(text, encoding="utf-8")
    shape = build_dag(load_simulation(shipped[0]))
    empty = source_of_empty_dags(shape, [f"empty_{place:04}" for place in range(number)], defers=False)
    (dags / EMPTY_FILE).write_text(empty, encoding="utf-8")
    return dags, name


def seconds_to_read(dags: Path, file: str, dag_id: str = "") -> tuple[float, int]:
    """Read a DAG file in a fresh process; return the seconds and the number of DAGs."""
    dropped = ("AIRFLOW__", "PYTHONDONTWRITE")  # the DAG processor finds the project compiled, after its first time
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {
        "PYTHONPATH": os.pathsep.join([str(ROOT / "plugins"), str(ROOT)]),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",  # 30 s of the clock are soon over on a busy machine
        **LONGEST_FIELD,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.parsing", str(dags / file), *([dag_id] if dag_id else [])],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{file} could not be read:\n{done.stderr[-2000:]}")
    seconds, number = json.loads(done.stdout.splitlines()[-1])
    return float(seconds), int(number)


def measure(folder: Path, sizes: Sequence[int], rounds: int) -> list[Row]:
    """Read projects of these sizes, each `rounds` times, of which the median counts."""
    rows, first = list[Row](), dict[str, float]()
    for size in sizes:
        dags, name = write_project(folder / str(size), size)
        files = {"ours": [*DAG_FILES], PEER: [EMPTY_FILE]}
        if not first:  # whoever reads first compiles the project
            _read(dags, files["ours"], size)
        seconds = {who: median(_read(dags, which, size) for _ in range(rounds)) for who, which in files.items()}
        rows.append(
            Row(f"{_files(size)}: read by the DAG processor", "s", seconds["ours"], None, {PEER: seconds[PEER]})
        )
        if first:
            each = {who: (seconds[who] - first[who]) / (size - sizes[0]) * 1000 for who in seconds}
            what, target = f"{_files(size)}: a file beyond the first", f"<= {MILLISECONDS_A_FILE}"
            rows.append(Row(what, "ms", each["ours"], target, {PEER: each[PEER]}))
        first = first or seconds
        rows.append(Row(f"{_files(size)}: read by a task", "s", seconds_to_read(dags, "simulations.py", name)[0]))
    return rows


def _read(dags: Path, files: Sequence[str], size: int) -> float:
    """Return the seconds for the DAG files together; the first of them makes all DAGs."""
    read = [seconds_to_read(dags, file) for file in files]
    if read[0][1] != size:
        raise RuntimeError(f"{files[0]} made {read[0][1]} DAGs of {size}")
    return sum(seconds for seconds, _ in read)


def _files(size: int) -> str:
    return f"{size:,} simulation file{'s' if size > 1 else ''}"


def main(file: Path, dag_id: str | None) -> None:
    """Read a DAG file and print `[seconds, number of DAGs]`."""
    import structlog
    from airflow.dag_processing import manager  # noqa: F401  # what the DAG processor has imported when it forks
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.processor import DagFileParseRequest, _parse_file, _pre_import_airflow_modules
    from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

    log = structlog.get_logger("benchmark")
    gc.freeze()  # as the DAG processor does: otherwise each collection goes through all of Airflow
    _pre_import_airflow_modules(str(file), log)
    began = time.process_time()
    if dag_id is None:
        request = DagFileParseRequest(file=str(file), bundle_path=file.parent, bundle_name="dags-folder")
        result = _parse_file(request, log)
        seconds, number = time.process_time() - began, len(result.serialized_dags) if result else 0
        errors = dict(result.import_errors or {}) if result else {}
    else:
        with _airflow_parsing_context_manager(dag_id=dag_id, task_id="report"):
            bag = BundleDagBag(
                dag_folder=str(file), safe_mode=False, load_op_links=False, bundle_path=file.parent, bundle_name="x"
            )
        seconds, number = time.process_time() - began, len(bag.dags)
        errors = bag.import_errors
        if dag_id not in bag.dags:
            raise RuntimeError(f"{file} has no DAG {dag_id}")
    if errors:
        raise RuntimeError(f"{file}: {errors}")
    print(json.dumps([seconds, number]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
