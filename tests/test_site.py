"""The account's facts: what is wrong with them is said, by key, to whoever needs the wrong one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from hpc import site as site_of_the_account
from hpc.config import SIMULATIONS_DIR, load_simulation
from hpc.errors import ConfigurationError
from hpc.lifecycle import build_dag
from hpc.site import fact, site, site_connections

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


@pytest.mark.parametrize("wrong", ["aws_lab", ["a lab"], [5], {"aws_lab": 1}])
def test_a_wrong_list_of_connections_is_named_and_stops_nobody_who_does_not_need_it(
    monkeypatch: pytest.MonkeyPatch, wrong: Any
) -> None:
    facts = {**FACTS, "aws_connections": wrong}
    assert {name: fact(facts, name) for name in FACTS} == FACTS
    monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", json.dumps(facts))
    with pytest.raises(ConfigurationError, match=r"hpc_site is wrong:\n  aws_connections"):
        site_connections()


@pytest.mark.parametrize(
    ("facts", "listed"),
    [
        ({**FACTS, "aws_connections": ["aws_lab", "aws_site-2"]}, ("aws_lab", "aws_site-2")),
        ({"region": "Frankfurt", "extra": 1, "aws_connections": ["aws_lab"]}, ("aws_lab",)),
        ({"region": "Frankfurt"}, ()),
        (FACTS, ()),
    ],
)
def test_the_listed_connections_are_given_even_when_facts_are_wrong(
    monkeypatch: pytest.MonkeyPatch, facts: Any, listed: tuple[str, ...]
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_HPC_SITE", json.dumps(facts))
    assert site_connections() == listed


def test_without_the_variable_no_connection_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_of_the_account, "_read", lambda: None)
    assert site_connections() == ()
    monkeypatch.setattr(site_of_the_account, "_read", lambda: ["aws_lab"])
    with pytest.raises(ConfigurationError, match="is no JSON object"):
        site_connections()


def test_a_fact_that_there_is_not_is_an_error_of_the_template() -> None:
    with pytest.raises(ConfigurationError, match=r"site\('buckt'\): there is no such fact; did you mean bucket\?"):
        fact(FACTS, "buckt")
    with pytest.raises(ConfigurationError, match=r"site\('aws_connections'\): there is no such fact"):
        fact({**FACTS, "aws_connections": ["aws_lab"]}, "aws_connections")


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
