"""Everything that stands in config/simulations/ and config/clusters/ fits together."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from hpc import PROJECT_ROOT
from hpc.cluster.install import Environment
from hpc.cluster.template import render_template
from hpc.config import CLUSTERS_DIR, JOB_SCRIPTS_DIR, SIMULATIONS_DIR, load_simulation

SIMULATIONS = ("cylinder_flow", "ising_2d", "ising_sweep", "lj_melt")
SITE = {
    "region": "us-east-1",
    "head_node_subnet_id": "subnet-0123456789abcdef0",
    "compute_subnet_id": "subnet-0123456789abcdef1",
    "key_name": "demo",
    "bucket": "demo-results",
    "cluster_name": "demo",
}


@pytest.mark.parametrize("name", SIMULATIONS)
def test_every_staged_file_and_parameter_is_used_by_a_script(name: str) -> None:
    simulation = load_simulation(SIMULATIONS_DIR / f"{name}.yaml")
    assert simulation.postprocess is not None
    scripts = simulation.job.path.read_text() + simulation.postprocess.path.read_text()
    for parameter in simulation.job.parameters:
        assert f'"$PARAM_{parameter.upper()}"' in scripts
    texts = scripts + "".join(
        (PROJECT_ROOT / file.source).read_text() for file in simulation.inputs if not file.name.endswith(".lock")
    )
    for file in simulation.inputs:
        assert file.name in texts or f"install_wheels {file.name.removesuffix('.lock')}" in texts


@pytest.mark.parametrize("script", sorted(JOB_SCRIPTS_DIR.glob("*.sh")), ids=lambda script: script.name)
def test_bash_can_read_every_script(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False).stderr == b""


@pytest.mark.pcluster
@pytest.mark.parametrize("name", SIMULATIONS)
def test_parallelcluster_s_schema_accepts_the_configuration(name: str, parallelcluster: Environment) -> None:
    simulation = load_simulation(SIMULATIONS_DIR / f"{name}.yaml")
    configuration = render_template(
        simulation.cluster.template.read_text(),
        source=name,
        facts=SITE | {"nodes": simulation.resources.nodes, "partition": simulation.resources.partition},
        overrides=simulation.cluster.values,
        tags={"simulation": name},
        region="us-east-1",
    )
    done = subprocess.run(
        [
            str(parallelcluster.python),
            str(PROJECT_ROOT / "plugins/hpc/cluster/check_schema.py"),
            "demo",
        ],
        input=configuration,
        env={"PATH": "/usr/bin:/bin", "AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout) == [], done.stderr


@pytest.mark.parametrize("profile", ["cpu_ebs", "cpu_fsx"])
def test_a_profile_leaves_nothing_behind_that_costs(profile: str) -> None:
    text = (CLUSTERS_DIR / f"{profile}.yaml").read_text()
    assert "MinCount: 0" in text
    assert text.count("DeletionPolicy: Delete") == text.count("StorageType:") == 1
