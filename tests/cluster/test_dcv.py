"""The way to a DCV session: the real `pcluster dcv-connect`, ssh and sshd, and the region's stand-in for DCV."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncssh
import pytest

from hpc import errors
from hpc.cluster import dcv
from hpc.cluster.cli import Completed
from hpc.head_node.address import HeadNodeAddress, find_head_node

if TYPE_CHECKING:
    from local_aws.testing import LocalRegion

ADDRESS = HeadNodeAddress("melt-1", "i-1", "10.0.0.7", ("ssh-ed25519 AAAAone", "ecdsa-sha2-nistp256 AAAAtwo"))
URL = "https://10.0.0.7:8443?authToken=a-B_9#session"
LOG = "2026-11-23 02:27:12,087 - INFO - entrypoint.py:260:run() - Handling CLI command dcv-connect\n"
SHOWN = f"Please use the following one-time URL in your browser within 30 seconds:\n{URL}\n"


# ------------------------------------------------------------------------------------------------ without a cluster
def test_only_the_keys_that_aws_told_are_known() -> None:
    known = dcv.format_known_hosts(ADDRESS)
    assert known == "head-node ssh-ed25519 AAAAone\nhead-node ecdsa-sha2-nistp256 AAAAtwo\n"


def test_ssh_reads_the_configuration_as_it_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "config"
    folder = tmp_path / "with a space"
    config.write_text(dcv.format_ssh_config(2022, known_hosts=folder / "known_hosts", key=folder / "key"))
    answer = subprocess.run(["ssh", "-G", "-F", config, "10.0.0.7"], capture_output=True, text=True, check=True)
    understood = dict(line.split(" ", 1) for line in answer.stdout.splitlines())
    assert understood["port"] == "2022"
    assert understood["hostkeyalias"] == "head-node"
    assert understood["stricthostkeychecking"] == "true"
    assert understood["userknownhostsfile"] == f"{folder}/known_hosts"
    assert understood["globalknownhostsfile"] == "/dev/null"
    assert understood["updatehostkeys"] == "false"
    assert understood["identityfile"] == f"{folder}/key"
    assert understood["identityagent"] == "none"
    assert understood["batchmode"] == "yes"


@pytest.mark.parametrize("user", ["ec2-user", "o'hara; touch /tmp/owned", None])
def test_the_program_passes_every_argument_on(tmp_path: Path, user: str | None) -> None:
    seen = tmp_path / "a real ssh"
    seen.write_text('#!/bin/sh\nfor argument; do echo "$argument"; done\n')
    seen.chmod(0o700)
    program = tmp_path / "ssh"
    program.write_text(dcv.format_ssh_program(str(seen), Path("/c d/config"), user))
    program.chmod(0o700)
    asked = ["ubuntu@10.0.0.7", "a b", "$HOME"]
    answer = subprocess.run([program, *asked], capture_output=True, text=True, check=True)
    expected = ["-F", "/c d/config", *(["-l", user] if user else []), *asked]
    assert answer.stdout.splitlines() == expected


def test_the_url_is_what_the_command_printed() -> None:
    assert dcv.parse_session_url(Completed(0, SHOWN, LOG), ADDRESS, "hpc_head_node") == URL


@pytest.mark.parametrize(
    ("completed", "kind", "said"),
    [
        (
            Completed(
                1, "", "ERROR: Something went wrong during DCV connection.\nHost key verification failed.\n" + LOG
            ),
            errors.HostKeyError,
            "Host key verification failed",
        ),
        (
            Completed(1, "", "ERROR: Something went wrong.\nec2-user@10.0.0.7: Permission denied (publickey).\n" + LOG),
            errors.PermissionDeniedError,
            "Airflow connection hpc_head_node",
        ),
        (
            Completed(1, "", "ERROR: ssh: connect to host 10.0.0.7 port 22: Connection timed out\n" + LOG),
            errors.ConnectionLostError,
            "security group",
        ),
        (
            Completed(1, "", "ERROR: Something went wrong during DCV connection.\n" + LOG),
            errors.ClusterError,
            "Dcv: Enabled: true",
        ),
        (Completed(1, SHOWN, ""), errors.ClusterError, "it printed no URL"),
        (Completed(0, "", ""), errors.ClusterError, "it printed no URL"),
        (Completed(0, SHOWN.replace("10.0.0.7", "evil.example.com"), ""), errors.ClusterError, "it printed no URL"),
        (Completed(0, SHOWN.replace("https://", "https://10.0.0.7@evil"), ""), errors.ClusterError, "no URL"),
    ],
)
def test_every_other_end_is_an_error_that_says_what_to_do(
    completed: Completed, kind: type[errors.HpcError], said: str
) -> None:
    with pytest.raises(kind, match="cluster melt-1") as raised:
        dcv.parse_session_url(completed, ADDRESS, "hpc_head_node")
    assert type(raised.value) is kind
    assert said in str(raised.value)
    assert "INFO" not in str(raised.value)


def test_a_locked_key_is_unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    locked = key.export_private_key(passphrase="open sesame").decode()
    extra = {"private_key": locked, "private_key_passphrase": "open sesame"}  # pragma: allowlist secret
    monkeypatch.setenv("AIRFLOW_CONN_LOCKED", json.dumps({"conn_type": "ssh", "extra": extra}))
    login = dcv.read_login("locked")
    assert (login.user, login.port) == (None, 22)
    assert asyncssh.import_private_key(login.private_key).public_data == key.public_data


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({}, "has no private key"),
        ({"key_file": "/nowhere/id"}, "cannot be used here"),
        ({"private_key": "no key"}, "cannot be used here"),  # pragma: allowlist secret
    ],
)
def test_a_connection_without_a_key_says_so(monkeypatch: pytest.MonkeyPatch, extra: dict[str, str], said: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_KEYLESS", json.dumps({"conn_type": "ssh", "login": "a", "extra": extra}))
    with pytest.raises(errors.ConfigurationError, match="keyless") as raised:
        dcv.read_login("keyless")
    assert said in str(raised.value)


def test_a_missing_connection_says_so() -> None:
    with pytest.raises(errors.ConfigurationError, match="there is no Airflow connection nobody_made_it"):
        dcv.read_login("nobody_made_it")


# ------------------------------------------------------------------------------------------------ with a head node
@pytest.fixture(scope="module")
def head_node(region: LocalRegion) -> Iterator[str]:
    """The name of a cluster that is a head node alone."""
    name = "desktop"
    instance_id, _ = region.start_cluster(name)
    # ParallelCluster's template tags its head nodes so; `dcv-connect` reads the user's name off it.
    tag = {"Key": "parallelcluster:attributes", "Value": "alinux2023, slurm, 3.16.1, x86_64"}
    region.client("ec2").create_tags(Resources=[instance_id], Tags=[tag])
    yield name
    region.stop_cluster(name)


def other_key() -> str:
    """The public key of a host that is not the head node."""
    return asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


def as_pcluster_does(command: str, programs: Path) -> subprocess.CompletedProcess[str]:
    """Give a command to a shell that finds `programs` and nothing else."""
    return subprocess.run(command, shell=True, env={"PATH": str(programs)}, capture_output=True, text=True, check=False)


@pytest.mark.region
@pytest.mark.usefixtures("connections")
def test_the_program_logs_in_as_the_connection_says(head_node: str) -> None:
    address = find_head_node(head_node)
    login = dcv.read_login("hpc_head_node")
    with dcv.pinned_ssh(address, login) as programs:
        answer = as_pcluster_does(f'ssh somebody@{address.host}  "whoami"', programs)
        assert [file.name for file in programs.iterdir()] == ["ssh"]
        assert programs.parent.stat().st_mode & 0o077 == 0
        assert (programs.parent / "key").stat().st_mode & 0o077 == 0
    assert answer.stdout.strip() == login.user
    assert answer.stderr == ""
    assert not programs.parent.exists()


@pytest.mark.region
@pytest.mark.usefixtures("connections")
def test_a_host_with_another_key_is_not_talked_to(head_node: str) -> None:
    address = find_head_node(head_node)
    forged = HeadNodeAddress(address.cluster_name, address.instance_id, address.host, (other_key(),))
    with dcv.pinned_ssh(forged, dcv.read_login("hpc_head_node")) as programs:
        answer = as_pcluster_does(f'ssh ec2-user@{address.host}  "whoami"', programs)
    assert answer.returncode == 255
    assert answer.stdout == ""
    assert "Host key verification failed" in answer.stderr


@pytest.mark.region
@pytest.mark.pcluster
@pytest.mark.usefixtures("connections", "parallelcluster")
def test_a_session_is_good_for_one_visit(head_node: str, region: LocalRegion) -> None:
    before = {folder.name for folder in Path(tempfile.gettempdir()).glob("dcv-ssh-*")}
    url = dcv.session_url(head_node, region_name=region.region)
    assert urlsplit(url).hostname == find_head_node(head_node).host
    trusting = ssl._create_unverified_context()  # DCV's own certificate is self-signed
    visit = url.partition("#")[0]
    with urllib.request.urlopen(visit, context=trusting) as answer:
        assert b"local AWS region" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(visit, context=trusting)
    assert {folder.name for folder in Path(tempfile.gettempdir()).glob("dcv-ssh-*")} <= before


@pytest.mark.region
@pytest.mark.pcluster
@pytest.mark.usefixtures("connections", "parallelcluster")
def test_the_command_refuses_a_head_node_with_another_key(head_node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = find_head_node(head_node)
    forged = HeadNodeAddress(address.cluster_name, address.instance_id, address.host, (other_key(),))
    monkeypatch.setattr(dcv, "find_head_node", lambda *_, **__: forged)
    with pytest.raises(errors.HostKeyError, match="cluster desktop"):
        dcv.session_url(head_node)


@pytest.mark.region
@pytest.mark.pcluster
@pytest.mark.usefixtures("connections", "parallelcluster")
def test_an_ssh_that_cannot_run_is_not_replaced_by_another(head_node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host whose temporary folder is mounted `noexec`: without our program there is no ssh at all."""
    monkeypatch.setattr(dcv, "format_ssh_program", lambda *_: "#!/no/such/interpreter\n")
    with pytest.raises(errors.ClusterError, match="not found"):
        dcv.session_url(head_node)


@pytest.mark.region
@pytest.mark.pcluster
@pytest.mark.usefixtures("connections", "parallelcluster")
def test_a_cluster_that_is_not_there_says_so() -> None:
    with pytest.raises(errors.ClusterError, match="has to have one running head node; EC2 knows: none"):
        dcv.session_url("never-made")


def test_a_host_without_ssh_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with (
        pytest.raises(errors.ConfigurationError, match="install the OpenSSH client"),
        dcv.pinned_ssh(ADDRESS, dcv.Login(None, 22, b"")),
    ):
        pytest.fail("there is nothing to go on with")
