from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hpc.config import JOB_SCRIPTS_DIR
from tests.job_scripts.conftest import MACHINE_PATH, bash, job_environment

pytestmark = pytest.mark.slurm


def test_software_that_is_installed_is_used_again(software: Path) -> None:
    folder = software.parents[1]
    before = (software / "complete").stat().st_mtime_ns
    done = bash(". ./software.sh; install_wheels python", folder, job_environment())
    assert done.returncode == 0
    assert done.stdout == ""
    assert (software / "complete").stat().st_mtime_ns == before


def test_the_machine_s_own_python_is_used_when_it_has_all(software: Path, tmp_path: Path) -> None:
    shutil.copy(JOB_SCRIPTS_DIR / "software.sh", tmp_path)
    environment = job_environment(f"{software}/bin:{MACHINE_PATH}")
    done = bash('. ./software.sh; use_python; echo "$PYTHON"', tmp_path, environment)
    assert done.stdout == "python3\n"
    assert not (tmp_path / ".software" / "python").exists()


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    shutil.copy(JOB_SCRIPTS_DIR / "software.sh", tmp_path)
    (tmp_path / "broken.lock").write_text(f"cycler==0.12.1 --hash=sha256:{'0' * 64}\n")
    done = bash(". ./software.sh; install_wheels broken", tmp_path, job_environment())
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / ".software" / "broken" / "complete").exists()


def test_points_that_begin_together_install_once(tmp_path: Path) -> None:
    for index in range(3):
        folder = tmp_path / "points" / str(index)
        folder.mkdir(parents=True)
        shutil.copy(JOB_SCRIPTS_DIR / "software.sh", folder)
        (folder / "empty.lock").touch()
    point = "cd points/$i && NUMBERS=$PWD/numbers && . ./software.sh && install_wheels empty"
    done = bash(f"for i in 0 1 2; do ({point}) & done; wait", tmp_path, job_environment())
    assert done.stdout == f"installing empty software into {tmp_path}/.software/empty\n", done.stderr
    assert (tmp_path / ".software" / "empty" / "complete").exists()
