"""A sweep becomes points, or says what is wrong with it."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError
from hypothesis import given
from hypothesis import strategies as st

import hpc.sweep
from hpc.errors import ConfigurationError
from hpc.parameters import BooleanParameter, IntegerParameter, NumberParameter, Parameter, StringParameter
from hpc.sweep import MAX_POINTS, Spaced, Sweep, parse_sweep, points, points_csv, sweep_form_schema
from tests.test_config import document, problems

PARAMETERS: dict[str, Parameter] = {
    "size": IntegerParameter(type="integer", default=8, minimum=4, maximum=128),
    "temperature": NumberParameter(type="number", default=2, minimum=0, maximum=5),
    "method": StringParameter(type="string", default="metropolis", enum=("metropolis", "a: b")),
    "label": StringParameter(type="string", default="", pattern="[^,]*", max_length=5),
    "fast": BooleanParameter(type="boolean", default=True),
}
AS_YAML = {name: parameter.model_dump(mode="json") for name, parameter in PARAMETERS.items()}


def read(value: dict[str, Any]) -> list[dict[str, Any]]:
    return points(Sweep.model_validate(value), PARAMETERS)


def form(value: object) -> object:
    """What Airflow makes of the field: the value, or a refusal that its API answers with 4xx."""
    return Param(None, **sweep_form_schema(PARAMETERS)).resolve(value)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty points.csv in the repository."""
    monkeypatch.setattr(hpc.sweep, "PROJECT_ROOT", tmp_path)
    (tmp_path / "points.csv").touch()
    return tmp_path / "points.csv"


def test_in_a_grid_the_first_parameter_is_the_slowest() -> None:
    assert read({"grid": {"size": [8, 16], "temperature": {"from": 1, "to": 2, "points": 3}}}) == [
        {"size": size, "temperature": temperature} for size in (8, 16) for temperature in (1.0, 1.5, 2.0)
    ]


def test_zip_walks_along_all_values_at_once() -> None:
    found = read({"zip": {"size": [8, 16], "temperature": {"from": 1, "to": 2, "points": 2}}})
    assert found == [{"size": 8, "temperature": 1.0}, {"size": 16, "temperature": 2.0}]


def test_a_point_of_a_list_holds_what_it_names_and_nothing_else() -> None:
    assert read({"list": [{"size": 8}, {"fast": False}]}) == [{"size": 8}, {"fast": False}]


def test_a_csv_file_gives_values_of_the_parameters_types(table: Path) -> None:
    table.write_bytes("\ufeffsize, temperature,method,fast\r\n8,1e-3,a: b,true\r\n\r\n16,2,metropolis,no\r\n".encode())
    assert read({"csv": "points.csv"}) == [
        {"size": 8, "temperature": 0.001, "method": "a: b", "fast": True},
        {"size": 16, "temperature": 2.0, "method": "metropolis", "fast": False},
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("size,size\n1,2\n", "sweep.csv = 'points.csv': the header line names size twice"),
        ("size,fast\n8\n", "sweep.csv.line 2 = '8': has 1 values, but the header line 2"),
        ("size\n8\n\nmany\n", "sweep.csv.line 4.size = 'many': Input should be a valid integer"),
        ("size\n", "sweep.csv: has no points"),
        ("", "sweep.csv: has no points"),
        ("size\n" + "8\n" * (MAX_POINTS + 1), "sweep.csv: has 10,001 points"),
        ("sise\n8\n9\n", "sweep.csv.line 2.sise: the job has no such parameter; did you mean size?"),
        ('size\n"8', "cannot be read: unexpected end of data"),
    ],
)
def test_a_wrong_csv_file_is_told_with_its_line(table: Path, content: str, said: str) -> None:
    table.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read({"csv": "points.csv"})
    assert said in str(caught.value)
    assert str(caught.value).count("no such parameter") <= 1


def test_the_log_spacing_of_a_whole_number_hits_whole_numbers() -> None:
    sizes = [point["size"] for point in read({"grid": {"size": {"from": 4, "to": 128, "points": 6, "spacing": "log"}}})]
    assert sizes == [4, 8, 16, 32, 64, 128]
    assert all(isinstance(size, int) for size in sizes)


@pytest.mark.parametrize(
    ("first", "last", "count", "values"),
    [(1.5, 3.5, 21, [1.5 + step / 10 for step in range(21)]), (-1, 2, 4, [-1, 0, 1, 2]), (3, 1, 3, [3, 2, 1])],
)
def test_spaced_values_are_readable_numbers(first: float, last: float, count: int, values: list[float]) -> None:
    found = Spaced.model_validate({"from": first, "to": last, "points": count}).values
    assert [json.dumps(value) for value in found] == [json.dumps(float(f"{value:.1f}")) for value in values]


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300), st.integers(2, 50), st.sampled_from(["even", "log"]))
def test_spaced_values_go_from_one_end_to_the_other(first: float, last: float, count: int, spacing: str) -> None:
    if math.isclose(first, last, rel_tol=1e-6):
        return
    document = {"from": first, "to": last, "points": count, "spacing": spacing}
    values = Spaced.model_validate(document).values
    assert (len(values), values[0], values[-1]) == (count, first, last)
    assert sorted(values, reverse=first > last) == values
    assert Spaced.model_validate(Spaced.model_validate(document).model_dump(mode="json")).values == values


WRONG = [
    ({"grid": {"size": [8, 300]}}, "sweep.grid.size.1 = 300: is more than the maximum, 128 (job.parameters.size, type"),
    ({"grid": {"size": [True]}}, "sweep.grid.size.0 = True: is true or false"),
    ({"grid": {"size": [2.5]}}, "sweep.grid.size.0 = 2.5: Input should be a valid integer"),
    ({"grid": {"size": 8}}, "sweep.grid.size = 8: write a list of values, or {from: …, to: …, points: …}"),
    ({"grid": {"size": {"from": 8}}}, "sweep.grid.size: write a list of values"),
    ({"grid": {"size": []}}, "sweep.grid: has no points"),
    ({"grid": {}}, "sweep.grid: has no points"),
    ({"grid": {"sise": [8]}}, "sweep.grid.sise: the job has no such parameter; did you mean size?"),
    ({"grid": {"x": [8]}}, "sweep.grid.x: the job has no such parameter; choose from size, temperature,"),
    ({"grid": {"size": {"from": 8, "to": 200, "points": 2}}}, "sweep.grid.size = 200.0: is more than the maximum"),
    (
        {"grid": {"temperature": {"from": 0, "to": 1, "points": 1}}},
        "sweep.grid.temperature.points = 1: Input should be",
    ),
    ({"grid": {"method": ["a"]}}, "sweep.grid.method.0 = 'a': is not one of metropolis, a: b"),
    ({"grid": {"method": {"from": 0, "to": 1, "points": 2}}}, "of type string; write a list of values"),
    ({"grid": {"label": ["a,b"]}}, "sweep.grid.label.0 = 'a,b': does not match the pattern [^,]*"),
    ({"grid": {"label": ["longer"]}}, "sweep.grid.label.0 = 'longer': is longer than max_length, 5"),
    ({"grid": {"temperature": ["hot"]}}, "sweep.grid.temperature.0 = 'hot': Input should be a valid number"),
    ({"grid": {"fast": [3]}}, "sweep.grid.fast.0 = 3: Input should be a valid boolean"),
    ({"list": []}, "sweep.list: has no points"),
    ({"list": [{}]}, "sweep.list.0: a point needs at least one parameter"),
    ({"list": [8]}, "sweep.list.0 = 8: Input should be a valid dictionary"),
    ({"list": [{"size": None}]}, "sweep.list.0.size = None: Input should be a valid integer"),
    ({"zip": {"size": [8, 9]}, "max_running": 0}, "sweep.max_running = 0: Input should be greater"),
    ({"zip": {"size": [8, 9]}, "tolerate": 5}, "sweep.tolerate = 5: must be a share from 0 to 1, for example 0.05"),
    ({"zip": {"size": [8, 9]}, "tolerate": "500%"}, "sweep.tolerate = '500%': must be a share from 0 to 1"),
    ({"zip": {"size": [8, 9]}, "list": [{"size": 3}]}, "give exactly one of grid, list, zip and csv"),
    ({}, "give exactly one of grid, list, zip and csv"),
    ({"gird": {"size": [8]}}, "sweep.gird: there is no such key; did you mean grid?"),
]
#: What only the whole shows, and a JSON Schema of the parts cannot.
WRONG_AS_A_WHOLE = [
    ({"grid": {"temperature": {"from": 1, "to": 1, "points": 2}}}, "from and to are the same number"),
    ({"grid": {"temperature": {"from": 0, "to": 1, "points": 2, "spacing": "log"}}}, "from and to above 0"),
    ({"zip": {"size": [8, 9], "fast": [True]}}, "sweep.zip: all parameters need the same number of values, but size"),
    ({"grid": {"size": {"from": 8, "to": 127, "points": 5}}}, "but 37.75 is no whole number; choose from, to and"),
    ({"zip": {"size": [8, 9, 8]}}, "sweep.zip: point 2 (size = 8) is point 0 again; take one of both out"),
    ({"list": [{"size": 8, "fast": True}, {"fast": True, "size": 8}]}, "sweep.list: point 1"),
    ({"grid": {"temperature": {"from": 0, "to": 5, "points": 5001}, "fast": [True, False]}}, "has 10,002 points"),
]


@pytest.mark.parametrize(("value", "said"), WRONG + WRONG_AS_A_WHOLE)
def test_a_wrong_sweep_is_told_with_path_value_and_remedy(tmp_path: Path, value: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_sweep(value, PARAMETERS)
    assert said in str(caught.value)
    # The file says the same.
    content = document(sweep=value)
    content["job"]["parameters"] = AS_YAML
    assert "\n".join(problems(tmp_path, json.dumps(content))) == str(caught.value)


@pytest.mark.parametrize("value", [value for value, _ in WRONG])
def test_the_trigger_form_refuses_it_before_there_is_a_run(value: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        form(value)


@pytest.mark.parametrize(
    "value",
    [
        {"grid": {"size": [8, 16], "temperature": {"from": 1, "to": 2, "points": 3, "spacing": "log"}}},
        {"zip": {"size": [8, 16], "method": ["a: b", "metropolis"]}, "max_running": 4, "tolerate": "5%"},
        {"list": [{"fast": True}, {"label": "x"}], "tolerate": 0.5},
    ],
)
def test_the_trigger_form_takes_what_the_file_takes(value: dict[str, Any]) -> None:
    assert form(value) == value
    sweep = parse_sweep(value, PARAMETERS)
    assert sweep is not None
    assert points(sweep, PARAMETERS)
    assert Sweep.model_validate(json.loads(sweep.model_dump_json())) == sweep


def test_no_sweep_in_the_trigger_form_is_none() -> None:
    assert form(None) is None
    assert parse_sweep(None, PARAMETERS) is None


def test_a_form_cannot_name_a_file(table: Path) -> None:
    table.write_text("secret\n")
    with pytest.raises(ParamValidationError):
        form({"csv": "points.csv"})
    with pytest.raises(ConfigurationError, match="in the simulation's YAML file only") as caught:
        parse_sweep({"csv": "points.csv"}, PARAMETERS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["../points.csv", "/etc/passwd", "points.txt", "none.csv"])
def test_a_csv_file_is_one_of_the_repository(table: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"a \.csv file of the repository|there is no file none\.csv"):
        Sweep.model_validate({"csv": name})


def test_a_share_can_be_given_per_cent() -> None:
    assert Sweep.model_validate({"list": [{"size": 8}], "tolerate": "2.5%"}).tolerate == 0.025


def test_the_name_sweep_is_taken() -> None:
    parameters = PARAMETERS | {"sweep": PARAMETERS["size"]}
    with pytest.raises(ConfigurationError, match=r"job\.parameters\.sweep; rename that parameter"):
        points(Sweep.model_validate({"list": [{"size": 8}]}), parameters)


@pytest.mark.parametrize("text", ["a\0", "\ud800"])
def test_a_text_that_no_environment_variable_carries_is_refused(text: str) -> None:
    parameters: dict[str, Parameter] = {"text": StringParameter(type="string", default="", pattern=r"[\s\S]*")}
    with pytest.raises(ConfigurationError, match=r"sweep\.list\.0\.text"):
        points(Sweep.model_validate({"list": [{"text": text}]}), parameters)


def test_thousands_of_wrong_values_are_counted() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({"grid": {"size": list(range(1000, 2000))}})
    assert len(str(caught.value).splitlines()) == 21
    assert str(caught.value).endswith("sweep: 980 more are wrong")


def test_the_table_of_points_writes_numbers_as_json_does() -> None:
    found = [{"size": 8, "rate": 1e-9, "fast": True}, {"label": 'a,"b"'}]
    assert points_csv(found) == 'point,size,rate,fast,label\n0,8,1e-09,true,\n1,,,,"a,""b"""\n'


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.text(min_size=1)), min_size=1))
def test_the_table_of_points_can_be_read_again(found: list[dict[str, str]]) -> None:
    rows = list(csv.DictReader(io.StringIO(points_csv(found), newline="")))
    read_again = [{name: cell for name, cell in row.items() if name != "point" and cell} for row in rows]
    assert read_again == found
