from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc.errors import ConfigurationError, HeadNodeCommandError
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.session import Session, run_session
from hpc.slurm import staging
from hpc.slurm.staging import Input, stage

from .conftest import SSH, Tasks, on_head_node

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

NAMES = ["plain", 'a folder/it\'s $(x) "y"', "ünï\u2028code", "-dash"]


def staged(address: HeadNodeAddress, directory: str, inputs: list[dict[str, Any]]) -> list[str]:
    async def run(session: Session) -> list[str]:
        entries = [Input.from_mapping(value) for value in inputs]
        return await stage(session, directory, entries, aws_conn_id="aws_default", region_name=None)

    return run_session(address, SSH, run)


def content(address: HeadNodeAddress, path: str) -> bytes:
    async def run(session: Session) -> bytes:
        return await session.read(path, 1_000_000)

    return run_session(address, SSH, run)


def test_files_arrive_whole_and_unchanged_ones_are_left_alone(head_node: HeadNodeAddress, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 100)
    inputs = [{"source": str(source), "name": name} for name in NAMES]
    directory = f"/fsx/{tmp_path.name}/it's a folder"
    assert staged(head_node, directory, inputs) == NAMES
    assert all(content(head_node, f"{directory}/{name}") == source.read_bytes() for name in NAMES)
    assert staged(head_node, directory, inputs) == []
    source.write_bytes(b"changed")
    assert staged(head_node, directory, inputs[:1]) == NAMES[:1]
    assert content(head_node, f"{directory}/{NAMES[0]}") == b"changed"
    assert ".part" not in on_head_node(head_node, f"find /fsx/{tmp_path.name}")


@pytest.mark.parametrize("key", ["inputs/plain.dat", "inputs/it's a & b?c=d#e.dat"])
def test_objects_are_fetched_by_the_head_node(
    head_node: HeadNodeAddress, region: LocalRegion, tmp_path: Path, key: str
) -> None:
    s3 = region.client("s3")
    s3.put_object(Bucket=region.bucket, Key=key, Body=b"\0first\n")
    inputs = [{"source": f"s3://{region.bucket}/{key}", "name": "sub/it's.dat"}]
    directory = f"/fsx/{tmp_path.name}"
    assert staged(head_node, directory, inputs) == ["sub/it's.dat"]
    assert content(head_node, f"{directory}/sub/it's.dat") == b"\0first\n"
    assert staged(head_node, directory, inputs) == []
    s3.put_object(Bucket=region.bucket, Key=key, Body=b"second")
    assert staged(head_node, directory, inputs) == ["sub/it's.dat"]
    assert content(head_node, f"{directory}/sub/it's.dat") == b"second"


def test_a_fetch_that_broke_is_gone_on_with(
    head_node: HeadNodeAddress, region: LocalRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region.client("s3").put_object(Bucket=region.bucket, Key="inputs/large", Body=b"a" * 300_000 + b"b" * 300_000)
    inputs = [{"source": f"s3://{region.bucket}/inputs/large", "name": "large"}]
    directory = f"/fsx/{tmp_path.name}"
    broken = staging._FETCH.replace("curl --config - --continue-at -", "curl --config - --range 0-299999")
    with monkeypatch.context() as patch:
        patch.setattr(staging, "_FETCH", broken.replace("code=$?", "code=56"))
        with pytest.raises(HeadNodeCommandError, match="ended with 56"):
            staged(head_node, directory, inputs)
    part = on_head_node(head_node, f"ls {directory}/.slurm/inputs/*.part").strip()
    on_head_node(head_node, f"tr a c <{part} >{part}.marked && mv {part}.marked {part}")
    assert staged(head_node, directory, inputs) == ["large"]
    assert content(head_node, f"{directory}/large") == b"c" * 300_000 + b"b" * 300_000, "the first half was kept"


def test_a_missing_object_says_so(head_node: HeadNodeAddress, region: LocalRegion) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no object s3://.*/no/such"):
        staged(head_node, "/fsx/missing", [{"source": f"s3://{region.bucket}/no/such"}])


def test_a_missing_file_says_so(head_node: HeadNodeAddress) -> None:
    with pytest.raises(ConfigurationError, match="no file"):
        staged(head_node, "/fsx/missing", [{"source": "no/such/file"}])


@pytest.mark.parametrize("name", ["../up", "/absolute", "a/../../up", "new\nline", ".."])
def test_an_input_stays_in_the_folder(name: str) -> None:
    with pytest.raises(ConfigurationError, match="relative path"):
        Input.from_mapping({"source": "pyproject.toml", "name": name})


def test_an_input_keeps_its_own_name() -> None:
    assert Input.from_mapping({"source": "s3://bucket/a/b.dat"}).name == "b.dat"
    assert Input.from_mapping({"source": "include/x.in"}).name == "x.in"


def test_a_job_finds_its_inputs_in_its_folder(tasks: Tasks, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("42\n")
    job = tasks.run("cat data/input", inputs=[{"source": str(tmp_path / "input"), "name": "data/input"}])
    assert on_head_node(tasks.address, f"cat {job['log']}") == "42\n"
