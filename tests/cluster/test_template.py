"""Rendering: pure, no ParallelCluster."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hpc.cluster.template import Value, add_tags, read_tags, render_template
from hpc.errors import ConfigurationError


def render(
    text: str, *, tags: dict[str, str] | None = None, overrides: dict[str, Value] | None = None, **facts: Value
) -> Any:
    rendered = render_template(
        text, source="t.yaml", facts=facts, overrides=overrides or {}, tags=tags or {}, region="us-east-1"
    )
    return yaml.safe_load(rendered)


@pytest.mark.parametrize("value", [4, 2.5, True, "text", "yes", "0123", "a: b", "- x", "${other}", "#", "\n"])
def test_a_whole_leaf_takes_the_value_and_its_type(value: Value) -> None:
    assert render("A: {B: ['${name}']}", name=value)["A"]["B"] == [value]


@given(st.text(), st.text(alphabet="abc :#'\"-"))
def test_no_value_changes_the_structure_of_the_document(value: str, around: str) -> None:
    document = render(yaml.safe_dump({"A": [f"{around}${{name}}{around}", "end"], "B": 1}), name=value)

    assert document["A"] == [f"{around}{value}{around}", "end"] if around else [value, "end"]
    assert document["B"] == 1


def test_a_part_of_a_leaf_is_text() -> None:
    document = render("A: s3://${bucket}/${n}/${flag}", bucket="b", n=3, flag=True)

    assert document["A"] == "s3://b/3/true"


@pytest.mark.parametrize(("default", "value"), [("8", 8), ("true", True), ("c5.large", "c5.large"), ("", None)])
def test_a_default_has_the_type_that_yaml_gives_it(default: str, value: object) -> None:
    assert render(f"A: ${{n:-{default}}}")["A"] == value


def test_overrides_win_over_facts_and_facts_over_defaults() -> None:
    assert render("A: ${n:-1}\nB: ${m:-1}", overrides={"n": 3}, n=2, m=2) | {"Region": ""} == {
        "A": 3,
        "B": 2,
        "Region": "",
        "Tags": [],
    }


def test_all_problems_are_named_at_once_with_their_paths() -> None:
    with pytest.raises(ConfigurationError) as caught:
        render("A:\n- B: ${subnet}\nC: ${Bad}\n", overrides={"max_nodes": 3}, subnet_id="s")

    message = str(caught.value)
    assert "t.yaml: A[0].B: nothing gives ${subnet} a value; did you mean subnet_id?" in message
    assert "t.yaml: C: '${Bad}': write ${name} or ${name:-default}" in message
    assert "t.yaml: no placeholder ${max_nodes}" in message
    assert "What to do:" in message


def test_a_fact_that_the_template_does_not_use_is_no_problem() -> None:
    assert render("A: 1", bucket="b")["A"] == 1


def test_an_override_is_used_where_a_near_name_stands() -> None:
    with pytest.raises(ConfigurationError, match=r"no placeholder \$\{instance_typ\}; did you mean instance_type\?"):
        render("A: ${instance_type:-c5.large}", overrides={"instance_typ": "c6i.large"})


def test_region_and_tags_are_put_in() -> None:
    document = render("Tags: [{Key: a, Value: '1'}, {Key: b, Value: '2'}]", tags={"b": "ours", "c": "3"})

    assert document["Region"] == "us-east-1"
    assert {tag["Key"]: tag["Value"] for tag in document["Tags"]} == {"a": "1", "b": "ours", "c": "3"}


def test_another_region_in_the_template_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Region: is eu-west-1, but the task works in us-east-1"):
        render("Region: eu-west-1")


@pytest.mark.parametrize("text", ["", "- a list", "a: [", "Tags: {a: b}", "Tags: [{Name: x}]"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"t\.yaml"):
        render(text)


def test_tags_are_added_but_never_changed_afterwards() -> None:
    config = add_tags("Tags: [{Key: a, Value: '1'}]", {"a": "2", "b": "3"})

    assert read_tags(config) == {"a": "1", "b": "3"}
