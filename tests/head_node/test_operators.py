from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc.errors import ClusterError, ConfigurationError, HostKeyError
from hpc.head_node.address import HeadNodeAddress, head_node_of, was_reached
from hpc.head_node.operators import HeadNodeConnectOperator
from hpc.head_node.session import run_session

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

pytestmark = [pytest.mark.region, pytest.mark.slurm]
CLUSTER = "connect-tests"
NOBODY: Any = {}


@pytest.fixture(scope="module")
def cluster(region: LocalRegion) -> Iterator[tuple[str, str]]:
    yield region.start_cluster(CLUSTER, nodes=1)
    region.stop_cluster(CLUSTER)


@pytest.mark.usefixtures("connections", "cluster")
def test_the_log_says_how_a_folder_is_copied_straight_from_the_head_node(
    region: LocalRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    connect = HeadNodeConnectOperator(task_id="connect", cluster_name=CLUSTER, directory="/fsx/runs/a b")
    address = HeadNodeAddress.from_dict(connect.execute(NOBODY))
    logged = capsys.readouterr().out
    (said,) = re.findall(r"To copy /fsx/runs/a b from there, while the cluster exists: (.*? tar -xf -)\s", logged)
    run_session(address, "hpc_head_node", lambda session: session.write("/fsx/runs/a b/out/result.txt", b"42\n"))
    line = said.replace("'<your key>'", f"{shlex.quote(str(region.private_key))} -F none")
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "a b" / "out" / "result.txt").read_bytes() == b"42\n"


@pytest.mark.usefixtures("connections")
def test_connecting_proves_a_session_and_passes_the_pin_on(
    cluster: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    returned = HeadNodeConnectOperator(task_id="connect", cluster_name=CLUSTER).execute(NOBODY)
    address = HeadNodeAddress.from_dict(returned)
    assert (address.cluster_name, address.instance_id, address.host) == (CLUSTER, *cluster)
    logged = capsys.readouterr().out
    assert "SHA256:" in logged
    assert f"at {address.host}: Linux" in logged
    assert "slurm" in logged
    assert f"@{address.host}" in logged
    assert "To copy" not in logged, "there is nothing to copy where no folder is named"


@pytest.mark.usefixtures("connections", "cluster")
def test_that_a_cluster_was_reached_is_remembered_where_it_is() -> None:
    where: dict[str, Any] = {"aws_conn_id": "aws_default", "region_name": None}
    HeadNodeConnectOperator(task_id="connect", cluster_name=CLUSTER).execute(NOBODY)
    assert was_reached(CLUSTER, **where)
    assert not was_reached("no-such-cluster", **where)
    now = datetime.now(UTC)
    assert was_reached(CLUSTER, **where, since=now - timedelta(hours=1))
    assert not was_reached(CLUSTER, **where, since=now), "that is an earlier cluster's of the same name"


@pytest.mark.usefixtures("connections", "cluster")
def test_an_address_is_passed_on_or_found() -> None:
    found = head_node_of(CLUSTER, None)
    assert head_node_of(CLUSTER, found.as_dict()) == found
    assert head_node_of(CLUSTER, "null") == found
    with pytest.raises(ConfigurationError, match=f"address of cluster {CLUSTER}"):
        head_node_of("another", found.as_dict())


@pytest.mark.usefixtures("connections", "cluster")
def test_no_such_cluster(region: LocalRegion) -> None:
    with pytest.raises(ClusterError, match="no-such-cluster"):
        HeadNodeConnectOperator(task_id="connect", cluster_name="no-such-cluster").execute(NOBODY)


@pytest.mark.usefixtures("connections", "cluster")
def test_an_impostor_at_the_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncssh

    from hpc.head_node import operators

    real = head_node_of(CLUSTER, None)
    key = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    told = HeadNodeAddress(CLUSTER, real.instance_id, real.host, (key,))
    monkeypatch.setattr(operators, "find_head_node", lambda *_, **__: told)
    with pytest.raises(HostKeyError, match="not the one AWS told us"):
        HeadNodeConnectOperator(task_id="connect", cluster_name=CLUSTER).execute(NOBODY)
