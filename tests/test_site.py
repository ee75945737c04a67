"""The account's facts: what is wrong with them is said, by key, to whoever needs the wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from hpc import site as site_of_the_account
from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.errors import ConfigurationError
from hpc.lifecycle import build_dag
from hpc.site import fact, site

FACTS = {
    "region": "eu-central-1",
    "key_name": "me",
    "bucket": "results",
    "head_node_subnet_id": "subnet-0ab",
    "compute_subnet_id": "subnet-0cd",
}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test is a task of its own, with a Variable of its own."""
    site_of_the_account._variable.cache_clear()
    yield
    site_of_the_account._variable.cache_clear()


def rendered(dag: DAG, template: str) -> str:
    """Render a template as Airflow does for a task of the DAG."""
    text: str = dag.get_task("render_cluster_config").render_template(template, {}, dag.get_template_env())
    return text


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_is_given(name: str) -> None:
    assert fact(FACTS, name) == FACTS[name]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (None, "the Variable hpc_site is not set"),
        ("eu-central-1", "is no JSON object: 'eu-central-1'"),
        ({**FACTS, "region": "Frankfurt"}, "region = 'Frankfurt': String should match pattern"),
        ({name: FACTS[name] for name in FACTS if name != "region"}, "region: is missing"),
        ({"regoin": "eu-central-1"}, "regoin: there is no such key; did you mean region?"),
    ],
)
def test_a_wrong_fact_is_named_with_what_to_do(facts: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fact(facts, "region")
    assert said in str(caught.value)
    assert "What to do: set the Airflow Variable hpc_site" in str(caught.value)
    assert "docs/running-on-aws.md" in str(caught.value)


def test_a_wrong_fact_stops_nobody_who_does_not_need_it() -> None:
    assert fact({**FACTS, "key_name": "", "extra": 1}, "region") == "eu-central-1"


def test_a_fact_that_there_is_not_is_an_error_of_the_template() -> None:
    with pytest.raises(ConfigurationError, match=r"site\('buckt'\): there is no such fact; did you mean bucket\?"):
        fact(FACTS, "buckt")


def test_the_templates_of_a_dag_take_their_facts_from_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    dag = build_dag(load_simulation(SIMULATIONS_DIR / "ising_2d.yaml"))
    values = dag.get_task("render_cluster_config").values
    monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", '{"region": "eu-west-1", "bucket": "UPPER"}')
    assert rendered(dag, values["region"]) == "eu-west-1"
    with pytest.raises(ConfigurationError, match="bucket = 'UPPER'"):
        rendered(dag, values["bucket"])


@pytest.mark.parametrize("text", ["{", ""])
def test_a_variable_that_is_no_json_is_said_to_be(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", text)
    with pytest.raises(ConfigurationError, match="the Variable hpc_site is no JSON"):
        site("region")
