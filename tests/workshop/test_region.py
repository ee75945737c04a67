import json
import subprocess
import sys
from pathlib import Path

from workshop import ROOT
from workshop.region import Region, remove_tree

FACTS = {
    "endpoint_url": "http://127.0.0.1:5000",
    "region": "us-east-1",
    "access_key_id": "AKIAEXAMPLE",
    "secret_access_key": "not-a-secret",  # pragma: allowlist secret
    "head_node_subnet_id": "subnet-1",
    "compute_subnet_id": "subnet-2",
    "key_name": "hpc",
    "private_key": "/keys/hpc",
    "ssh_user": "ec2-user",
    "ssh_port": 2222,
    "bucket": "results",
    "pid": 1,
}


def test_airflow_is_told_as_a_person_would_tell_it() -> None:
    connections = Region(FACTS).connections()

    assert connections["aws_default"]["login"] == "AKIAEXAMPLE"
    assert json.loads(connections["aws_default"]["extra"])["endpoint_url"] == "http://127.0.0.1:5000"
    assert connections["hpc_head_node"]["port"] == 2222
    assert json.loads(connections["hpc_head_node"]["extra"]) == {"key_file": "/keys/hpc"}
    assert set(Region(FACTS).site()) == {"region", "head_node_subnet_id", "compute_subnet_id", "key_name", "bucket"}


def test_remove_tree_removes(tmp_path: Path) -> None:
    (tmp_path / "region" / "fsx").mkdir(parents=True)
    remove_tree(tmp_path / "region")

    assert not (tmp_path / "region").exists()


def test_remove_tree_does_not_reach_through_a_mount(tmp_path: Path) -> None:
    precious, place = tmp_path / "precious", tmp_path / "region" / "usr"
    precious.mkdir()
    (precious / "file").touch()
    place.mkdir(parents=True)
    remove = f"from pathlib import Path; from workshop.region import remove_tree; remove_tree(Path('{place.parent}'))"
    script = f'mount --bind {precious} {place} && {sys.executable} -c "{remove}"'
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(namespace, cwd=ROOT, capture_output=True, text=True, check=False)

    assert f"{place} is mounted there" in done.stderr
    assert (precious / "file").exists()
