"""What is wrong with the files is found out once, and again whenever anything is another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpc import checked, lifecycle
from hpc.checked import find_problems, fingerprint, recall, remember
from hpc.config import SIMULATIONS_DIR


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one good simulation, and an Airflow that has read none yet."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    simulations = tmp_path / "simulations"
    simulations.mkdir()
    (simulations / "ising_2d.yaml").write_bytes((SIMULATIONS_DIR / "ising_2d.yaml").read_bytes())
    return simulations


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders whose DAGs were made."""
    folders: list[Path] = []
    build = lifecycle.build_dags

    def counted(directory: Path) -> Iterator[object]:
        folders.append(directory)
        return build(directory)

    monkeypatch.setattr(lifecycle, "build_dags", counted)
    return folders


def test_what_is_known_is_not_made_again(folder: Path, made: list[Path]) -> None:
    assert find_problems(folder) == []
    assert find_problems(folder) == []
    assert made == [folder]


def test_what_was_left_by_the_file_that_makes_the_dags_is_taken(folder: Path, made: list[Path]) -> None:
    remember(fingerprint(folder), ["that one is wrong"], folder)
    assert find_problems(folder) == ["that one is wrong"]
    assert made == []


def test_a_file_that_came_went_or_changed_is_looked_at(folder: Path, made: list[Path]) -> None:
    assert find_problems(folder) == []
    torn = folder / "torn.yaml"
    torn.write_text("name: [torn")
    (problem,) = find_problems(folder)
    assert "torn.yaml: line 1, column 12: not YAML" in problem
    torn.write_text("name: {torn")
    assert recall(folder) is None
    torn.unlink()
    assert find_problems(folder) == []
    assert len(made) == 3


def test_other_code_and_other_templates_are_looked_at(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    for name in ("config/clusters", "dags", "include/job_scripts", "plugins/hpc"):
        (project / name).mkdir(parents=True)
    monkeypatch.setattr(checked, "PROJECT_ROOT", project)
    for file in ("config/clusters/a.yaml", "include/job_scripts/a.sh", "plugins/hpc/lifecycle.py"):
        remember(fingerprint(folder), [], folder)
        assert recall(folder) == []
        (project / file).write_text("other")
        assert recall(folder) is None
    (project / "plugins/hpc/__pycache__").mkdir()
    remember(fingerprint(folder), [], folder)
    (project / "plugins/hpc/__pycache__/lifecycle.pyc").write_text("compiled")
    assert recall(folder) == []


@pytest.mark.parametrize("word", ["", "[]", "{}", '{"of": "another", "problems": []}', '{"problems": 1}'])
def test_word_that_is_none_is_not_taken(folder: Path, word: str) -> None:
    remember(fingerprint(folder), [], folder)
    (place,) = (folder.parent / "airflow" / "hpc").iterdir()
    place.write_text(word)
    assert recall(folder) is None


def test_files_that_cannot_be_seen_hinder_nothing(folder: Path, made: list[Path]) -> None:
    (folder / "nowhere.yaml").symlink_to("/nowhere")
    before = fingerprint(folder)
    assert fingerprint(folder / "missing") != before
    (problem,) = find_problems(folder)
    assert "nowhere.yaml: cannot be read" in problem
    assert recall(folder) == [problem]


def test_links_that_lead_in_a_circle_or_where_nobody_may_look_hinder_nothing(
    folder: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "circle").symlink_to(folder)
    (folder / "itself").symlink_to(folder / "itself")
    assert find_problems(folder) == find_problems(folder) == []
    assert made == [folder]

    def refuse(**_: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    entries = [SimpleNamespace(path=str(folder / "home"), name="home", is_dir=refuse, stat=refuse)]
    monkeypatch.setattr(os, "scandir", lambda _: iter(entries))
    assert fingerprint(folder) == fingerprint(folder)


def test_where_nobody_has_a_home_the_dags_are_made_each_time(
    folder: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", refuse)
    assert find_problems(folder) == find_problems(folder) == []
    assert len(made) == 2


def test_where_nothing_can_be_left_the_dags_are_made_each_time(
    folder: Path, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_HOME", os.devnull)
    assert find_problems(folder) == find_problems(folder) == []
    assert len(made) == 2


def test_a_file_that_changes_while_it_is_read_is_looked_at(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "torn.yaml").write_text("name: [torn")
    remember(before, [], folder)
    assert recall(folder) is None
