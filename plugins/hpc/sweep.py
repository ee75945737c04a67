"""A sweep: one simulation computed at many points, each with parameters of its own.

A sweep is given in the simulation's YAML file or in the trigger form. Here it is read, checked against the job's typed
parameters and expanded into its points; what becomes of them on the cluster is told elsewhere.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from hpc import PROJECT_ROOT
from hpc.errors import ConfigurationError
from hpc.parameters import parameter_schema
from hpc.problems import describe

if TYPE_CHECKING:
    from hpc.parameters import Parameter

#: A point is a job and a folder of its own.
MAX_POINTS = 10_000
#: Problems that are told of one sweep; a column of wrong values would otherwise bury what is wrong with it.
_TOLD = 20

#: The swept parameters of one point and their values.
Point = dict[str, Any]
_Path = tuple[str | int, ...]


# ------------------------------------------------------------------------------------------------ what a file may say
class _Model(BaseModel):
    # `from` is a word of Python: without the alias a dumped sweep could not be read again.
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Spaced(_Model):
    """Values from one number to another, both included."""

    first: float = Field(alias="from", allow_inf_nan=False)
    last: float = Field(alias="to", allow_inf_nan=False)
    points: int = Field(ge=2, le=MAX_POINTS)
    spacing: Literal["even", "log"] = "even"

    @model_validator(mode="after")
    def _can_be_spaced(self) -> Spaced:
        if self.first == self.last:
            raise ValueError("from and to are the same number; give a list of one value")
        if self.spacing == "log" and (self.first <= 0 or self.last <= 0):
            raise ValueError("spacing: log needs from and to above 0")
        return self

    @property
    def values(self) -> list[float]:
        """The numbers, both ends exact; those between are rounded to 12 digits: 1.7 and not 1.7000000000000002."""
        between = (self._at(index / (self.points - 1)) for index in range(1, self.points - 1))
        return [self.first, *between, self.last]

    def _at(self, share: float) -> float:
        if self.spacing == "log":
            return float(f"{math.exp(math.log(self.first) * (1 - share) + math.log(self.last) * share):.12g}")
        # Twelve digits of the larger end: near zero a rounding error has digits of its own.
        largest = max(abs(self.first), abs(self.last))
        return round(self.first * (1 - share) + self.last * share, 11 - math.floor(math.log10(largest))) + 0.0


def _read_axis(value: object, read: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, Mapping) and {"from", "to", "points"} <= value.keys():
        return Spaced.model_validate(value)
    if isinstance(value, list | tuple | Spaced):
        return read(value)
    raise ValueError("write a list of values, or {from: …, to: …, points: …}")


def _read_share(value: object) -> object:
    per_cent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", value) if isinstance(value, str) else None
    share = float(per_cent[1]) / 100 if per_cent else value
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError("must be a share from 0 to 1, for example 0.05, or 5%")
    return share


_Value = Annotated[Any, WithJsonSchema({"type": ["integer", "number", "string", "boolean"]})]
Axis = Annotated[tuple[_Value, ...] | Spaced, WrapValidator(_read_axis)]
Share = Annotated[
    float,
    BeforeValidator(_read_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%$", "examples": ["5%"]},
            ]
        }
    ),
]


class Sweep(_Model):
    """The points at which a simulation is computed: exactly one of grid, list, zip and csv."""

    grid: dict[str, Axis] | None = Field(
        None, description="Every combination of the parameters' values; the first parameter changes slowest."
    )
    list: tuple[dict[str, _Value], ...] | None = Field(None, description="The points one by one.")
    zip: dict[str, Axis] | None = Field(None, description="The first values of all parameters, then the second ones, …")
    csv: str | None = Field(None, description="A .csv file of this repository; its header line names the parameters.")
    max_running: int | None = Field(None, ge=1, description="Points that compute at the same time; all if left out.")
    tolerate: Share = Field(0.0, description="Share of the points that may fail without failing the run.")

    @model_validator(mode="after")
    def _one_kind(self) -> Sweep:
        kinds = ("grid", "list", "zip", "csv")
        if sum(getattr(self, kind) is not None for kind in kinds) != 1:
            raise ValueError("give exactly one of grid, list, zip and csv")
        return self

    @field_validator("csv")
    @classmethod
    def _can_be_read(cls, name: str | None) -> str | None:
        if name is not None:
            file = (PROJECT_ROOT / name).resolve()
            if not file.is_relative_to(PROJECT_ROOT) or file.suffix != ".csv":
                raise ValueError("must be a .csv file of the repository, for example include/inputs/points.csv")
            if not file.is_file():
                raise ValueError(f"there is no file {name} in the repository")
        return name


# ------------------------------------------------------------------------------------------------ points
def points(sweep: Sweep, parameters: Mapping[str, Parameter]) -> list[Point]:
    """Return the points in their order; each holds the swept parameters only, as values of their types.

    Raises ConfigurationError, which lists what is wrong with its path, value and what would be right.
    """
    try:
        return check_points(sweep, parameters)
    except ValidationError as error:
        raise _told(error) from error


def check_points(sweep: Sweep, parameters: Mapping[str, Parameter]) -> list[Point]:
    """Return the points as `points` does; raises pydantic's ValidationError, whose places are those in the sweep."""
    reading = _Reading(parameters)
    if sweep.grid is not None:
        found = _grid(sweep.grid, reading)
    elif sweep.zip is not None:
        found = _zip(sweep.zip, reading)
    elif sweep.list is not None:
        found = _rows("list", [(("list", index), row) for index, row in enumerate(sweep.list)], reading)
    else:
        found = _rows("csv", list(_csv_rows(sweep.csv or "", reading)), reading)
    if not reading.problems:
        _refuse_twins(sweep, found, reading)
    if reading.problems:
        raise ValidationError.from_exception_data("sweep", reading.problems)
    return found


def _grid(axes: Mapping[str, tuple[Any, ...] | Spaced], reading: _Reading) -> list[Point]:
    sizes = [axis.points if isinstance(axis, Spaced) else len(axis) for axis in axes.values()]
    if not reading.right_number(("grid",), math.prod(sizes) if axes else 0):
        return []
    columns = [reading.axis(("grid", name), name, axis) for name, axis in axes.items()]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*columns)]


def _zip(axes: Mapping[str, tuple[Any, ...] | Spaced], reading: _Reading) -> list[Point]:
    sizes = {name: axis.points if isinstance(axis, Spaced) else len(axis) for name, axis in axes.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        reading.wrong(("zip",), axes, f"all parameters need the same number of values, but {told}")
        return []
    if not reading.right_number(("zip",), max(sizes.values(), default=0)):
        return []
    columns = [reading.axis(("zip", name), name, axis) for name, axis in axes.items()]
    # A column with a wrong value is shorter; that is told already.
    return [dict(zip(axes, values, strict=False)) for values in zip(*columns, strict=False)]


def _rows(kind: str, rows: Sequence[tuple[_Path, Mapping[str, Any]]], reading: _Reading) -> list[Point]:
    if not reading.problems and not reading.right_number((kind,), len(rows)):
        return []
    for path, row in rows:
        if not row:
            reading.wrong(path, row, "a point needs at least one parameter")
    return [
        {name: reading.value((*path, name), name, value) for name, value in row.items() if reading.knows(path, name)}
        for path, row in rows
    ]


def _csv_rows(name: str, reading: _Reading) -> Iterator[tuple[_Path, dict[str, str]]]:
    path = ("csv",)
    try:
        with (PROJECT_ROOT / name).open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [column.strip() for column in next(lines, [])]
            if twice := sorted({column for column in header if header.count(column) > 1}):
                reading.wrong(path, name, f"the header line names {', '.join(twice)} twice")
                return
            # One more than allowed is enough to know that there are too many.
            for row in itertools.islice((row for row in lines if row), MAX_POINTS + 1):
                place = (*path, f"line {lines.line_num}")
                if len(row) != len(header):
                    reading.wrong(place, ",".join(row), f"has {len(row)} values, but the header line {len(header)}")
                else:
                    yield place, dict(zip(header, row, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reading.wrong(path, name, f"cannot be read: {error}")


def _refuse_twins(sweep: Sweep, found: Sequence[Point], reading: _Reading) -> None:
    kind = next(kind for kind in ("grid", "list", "zip", "csv") if getattr(sweep, kind) is not None)
    seen: dict[tuple[tuple[str, Any], ...], int] = {}
    for index, point in enumerate(found):
        first = seen.setdefault(tuple(sorted(point.items())), index)
        if first != index:
            told = ", ".join(f"{name} = {value!r}" for name, value in point.items())
            reading.wrong((kind,), point, f"point {index} ({told}) is point {first} again; take one of both out")


class _Reading:
    """Reads values as the job's parameters, and collects what is wrong with them."""

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = parameters
        self.problems: list[InitErrorDetails] = []
        self._fields = {name: parameter.model_dump() for name, parameter in parameters.items()}
        self._unknown: set[str] = set()
        self._untold = 0
        if "sweep" in parameters:
            said = "the trigger form's field for it has the same name as job.parameters.sweep; rename that parameter"
            self.wrong((), {}, said)

    def wrong(self, path: _Path, value: object, said: str) -> None:
        """Note a problem; those after the first few are counted only."""
        if len(self.problems) >= _TOLD:
            del self.problems[_TOLD:]
            self._untold += 1
            path, value, said = (), {}, f"{self._untold} more are wrong"
        # The text goes in as a value: pydantic would take braces in it for fields of a template.
        problem = PydanticCustomError("sweep", "{said}", {"said": said})
        self.problems.append(InitErrorDetails(type=problem, loc=path, input=value))

    def right_number(self, path: _Path, count: int) -> bool:
        """Tell whether there are so many points that they can be computed, and at least one."""
        if count == 0:
            self.wrong(path, {}, "has no points; give at least one value, or leave the sweep out")
        if count > MAX_POINTS:
            self.wrong(path, {}, f"has {count:,} points; a sweep can have {MAX_POINTS:,}: split it into several runs")
        return 0 < count <= MAX_POINTS

    def knows(self, path: _Path, name: str) -> bool:
        """Tell whether the job has this parameter; each unknown one is a problem once."""
        if name not in self.parameters and name not in self._unknown:
            self._unknown.add(name)
            close = difflib.get_close_matches(name, self.parameters, n=1)
            there_are = f"choose from {', '.join(self.parameters)}" if self.parameters else "job.parameters has none"
            remedy = f"did you mean {close[0]}?" if close else there_are
            self.wrong((*path, name), {}, f"the job has no such parameter; {remedy}")
        return name in self.parameters

    def axis(self, path: _Path, name: str, axis: tuple[Any, ...] | Spaced) -> list[Any]:
        """Return the values of one parameter."""
        if not self.knows(path[:-1], name):
            return []
        if not isinstance(axis, Spaced):
            return [self.value((*path, index), name, value) for index, value in enumerate(axis)]
        kind = self.parameters[name].type
        if kind not in ("integer", "number"):
            self.wrong(path, {}, f"job.parameters.{name} is of type {kind}; write a list of values")
            return []
        values = [_whole(value) if kind == "integer" else value for value in axis.values]
        if broken := [value for value in values if kind == "integer" and not value.is_integer()]:
            remedy = "choose from, to and points so that all are, or write a list of values"
            self.wrong(path, {}, f"{name} is an integer, but {broken[0]} is no whole number; {remedy}")
            return []
        return [self.value(path, name, value) for value in values]

    def value(self, path: _Path, name: str, raw: object) -> Any:
        """Return one value in the parameter's type; None with a problem noted when it does not fit."""
        parameter = self.parameters[name]
        try:
            if isinstance(raw, bool) and parameter.type in ("integer", "number"):
                raise ValueError("is true or false")  # noqa: TRY301  # pydantic would take it for 1 or 0
            read = type(parameter).model_validate(self._fields[name] | {"default": raw}).default
            _deliverable(read)
        except ValidationError as error:
            said = _without_default(error.errors()[0]["msg"], raw)
            self.wrong(path, raw, f"{said} (job.parameters.{name}, type {parameter.type})")
        except ValueError as error:
            self.wrong(path, raw, f"{error} (job.parameters.{name}, type {parameter.type})")
        else:
            return read
        return None


def _whole(value: float) -> float:
    """Return the whole number that spacing has missed by a rounding error, or the value."""
    return float(round(value)) if math.isclose(value, round(value), rel_tol=1e-9) else value


def _deliverable(value: object) -> None:
    """Raise ValueError for a text that no environment variable can carry."""
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("contains a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"is not valid Unicode: {error.reason}") from error


def _without_default(message: str, raw: object) -> str:
    """Return what a parameter says of a value that was tried in its default's place, without naming the default."""
    message = message.removeprefix("Value error, ").removeprefix(f"default = {raw!r}: ")
    return re.sub(r"^default = [^:]*: ", "", message)


def points_csv(points: Sequence[Point]) -> str:
    """Return the table of the points: `point` and the parameters' names, then a line a point.

    Numbers and booleans are written as JSON writes them. A parameter that a point leaves alone is an empty cell.
    """
    names = list(dict.fromkeys(name for point in points for name in point))
    rows = [["point", *names]]
    rows += [[str(index), *(_cell(point.get(name, "")) for name in names)] for index, point in enumerate(points)]
    return "".join(f"{_csv_line(row)}\n" for row in rows)


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO(newline="")
    # A carriage return in a cell is put in quotes only when it is part of the line's end.
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def _cell(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# ------------------------------------------------------------------------------------------------ the trigger form
def sweep_form_schema(parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    """Return the JSON Schema for the trigger form's field `sweep`: null, or an object as in the YAML file.

    It refuses all that concerns one value. What only `parse_sweep` can tell is the number of points, lists of unequal
    length, and values between the ends of a spacing. A form cannot name a file: it would be read with the rights of
    Airflow, not of the user.
    """
    values = {name: parameter_schema(parameter) for name, parameter in parameters.items()}
    axes = _closed({name: _axis_schema(value) for name, value in values.items()}) | {"minProperties": 1}
    point = _closed(values) | {"minProperties": 1}
    kinds: dict[str, Any] = {
        "grid": axes,
        "list": {"type": "array", "items": point, "minItems": 1, "maxItems": MAX_POINTS},
        "zip": axes,
    }
    limits = {"max_running": {"type": ["integer", "null"], "minimum": 1}, "tolerate": _share_schema()}
    return {
        "type": ["object", "null"],
        "properties": kinds | limits,
        "additionalProperties": False,
        # Applies to null as well, which requires nothing.
        "oneOf": [{"type": "null"}, *({"type": "object", "required": [kind]} for kind in kinds)],
    }


def _closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "additionalProperties": False}


def _axis_schema(value: Mapping[str, Any]) -> dict[str, Any]:
    listed = {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_POINTS}
    if value["type"] not in ("integer", "number"):
        return listed
    spaced = _closed(
        {
            "from": value,
            "to": value,
            "points": {"type": "integer", "minimum": 2, "maximum": MAX_POINTS},
            "spacing": {"enum": ["even", "log"]},
        }
    )
    return {"anyOf": [listed, spaced | {"required": ["from", "to", "points"]}]}


def _share_schema() -> dict[str, Any]:
    return {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": 1},
            {"type": "string", "pattern": r"^(100|\d{1,2}(\.\d+)?)\s*%$"},
        ]
    }


def parse_sweep(value: object, parameters: Mapping[str, Parameter]) -> Sweep | None:
    """Read the trigger form's field `sweep`; None for none. Raises ConfigurationError, as `points` does."""
    if value is None:
        return None
    if isinstance(value, Mapping) and value.get("csv") is not None:
        raise ConfigurationError(
            f"sweep.csv = {value['csv']!r}: a file can be named in the simulation's YAML file only",
            remedy="give its lines as list",
        )
    try:
        sweep = Sweep.model_validate(value)
        check_points(sweep, parameters)
    except ValidationError as error:
        raise _told(error) from error
    return sweep


def _told(error: ValidationError) -> ConfigurationError:
    lines = [describe({**problem, "loc": ("sweep", *problem["loc"])}, Sweep.model_fields) for problem in error.errors()]
    return ConfigurationError("\n".join(lines))
