"""The job scripts as Slurm runs them: plain bash in a folder with the inputs, parameters in the environment."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpc import PROJECT_ROOT
from hpc.config import JOB_SCRIPTS_DIR, SIMULATIONS_DIR, InputFile, SimulationConfig, load_simulation

MACHINE_PATH = "/usr/bin:/bin"
INPUTS = PROJECT_ROOT / "include" / "inputs"


def job_environment(path: str = MACHINE_PATH, **variables: str) -> dict[str, str]:
    """The environment of a job on a machine whose programs are found in `path`, and which others use as well."""
    machine = {"PATH": path, "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}
    pip = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "http"))}
    mpi = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_hwloc_base_binding_policy": "none",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }
    return machine | pip | mpi | variables


def bash(command: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a bash command as a job would be run."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def stage(inputs: tuple[InputFile, ...], folder: Path) -> None:
    """Put the inputs of a simulation into the job's folder."""
    for file in inputs:
        shutil.copy(PROJECT_ROOT / file.source, folder / file.name)


def png_size(picture: Path) -> tuple[int, int]:
    """Return width and height of a PNG in pixels; raises when it is none."""
    head = picture.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", head[16:])


@dataclass(frozen=True)
class Run:
    """A simulation in its folder, with the software on the PATH."""

    simulation: SimulationConfig
    folder: Path
    path: str

    def script(self, script: Path, tasks: int = 1, **parameters: object) -> subprocess.CompletedProcess[str]:
        """Run a script of the simulation; parameters that are not given have their defaults."""
        values = {name: parameter.default for name, parameter in self.simulation.job.parameters.items()} | parameters
        variables = {f"PARAM_{name.upper()}": str(value) for name, value in values.items()}
        # Outside Slurm, Open MPI takes the number of tasks from its own parameter file.
        slots = self.folder / "slots"
        slots.write_text(f"localhost slots={tasks}\n")
        variables |= {"OMPI_MCA_orte_default_hostfile": str(slots), "SLURM_NTASKS": str(tasks)}
        return bash(str(script), self.folder, job_environment(self.path, **variables))

    def job(self, tasks: int = 1, **parameters: object) -> subprocess.CompletedProcess[str]:
        """Run the job script."""
        return self.script(self.simulation.job.path, tasks, **parameters)

    def pictures(self) -> list[Path]:
        """Run the post-processing; answers the pictures that the YAML names."""
        assert self.simulation.postprocess is not None
        done = self.script(self.simulation.postprocess.path)
        assert done.returncode == 0, done.stderr
        return sorted(file for glob in self.simulation.postprocess.pictures for file in self.folder.glob(glob))

    def outputs(self) -> dict[str, list[Path]]:
        """Return the files of each output glob."""
        return {glob: sorted(self.folder.glob(glob)) for glob in self.simulation.outputs}


@pytest.fixture(scope="session")
def software(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment as the job scripts make it on a machine without numpy, mpi4py and matplotlib."""
    folder = tmp_path_factory.mktemp("software")
    shutil.copy(JOB_SCRIPTS_DIR / "software.sh", folder)
    shutil.copy(INPUTS / "python.lock", folder)
    done = bash(". ./software.sh; install_wheels python", folder, job_environment())
    assert done.returncode == 0, done.stderr
    return folder / ".software" / "python"


@pytest.fixture
def start(software: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Stage a shipped simulation by its name."""

    def staged(name: str) -> Run:
        simulation = load_simulation(SIMULATIONS_DIR / f"{name}.yaml")
        folder = tmp_path_factory.mktemp(name)
        stage(simulation.inputs, folder)
        return Run(simulation, folder, f"{software}/bin:{MACHINE_PATH}")

    return staged


@pytest.fixture
def probe(software: Path, tmp_path: Path) -> Callable[[str], str]:
    """Run a piece of Python beside the simulations' programs, in the jobs' own interpreter; answers what it printed."""

    def run(code: str) -> str:
        modules = ":".join(str(INPUTS / name) for name in ("cylinder_flow", "ising_2d"))
        environment = job_environment(PYTHONPATH=modules, PYTHONDONTWRITEBYTECODE="1")
        done = subprocess.run(
            [str(software / "bin" / "python"), "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
