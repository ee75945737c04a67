"""A job's typed parameters: fields of the trigger form, environment variables of the job."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: JSON has no infinity and no NaN, and neither does a trigger form.
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Model(BaseModel):
    """Frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Parameter(Model):
    description: str = Field("", description="Shown beside the field of the trigger form.")


def _check_bounds(value: float, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and value < minimum:
        raise ValueError(f"default = {value}: is less than the minimum, {minimum}")
    if maximum is not None and value > maximum:
        raise ValueError(f"default = {value}: is more than the maximum, {maximum}")


class IntegerParameter(_Parameter):
    """A whole number."""

    type: Literal["integer"]
    default: int
    minimum: int | None = None
    maximum: int | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> IntegerParameter:
        _check_bounds(self.default, self.minimum, self.maximum)
        return self


class NumberParameter(_Parameter):
    """A floating point number."""

    type: Literal["number"]
    default: Finite
    minimum: Finite | None = None
    maximum: Finite | None = None

    @model_validator(mode="after")
    def _default_fits(self) -> NumberParameter:
        _check_bounds(self.default, self.minimum, self.maximum)
        return self


class StringParameter(_Parameter):
    """A text. It reaches the job byte for byte; the job script has to quote it."""

    type: Literal["string"]
    default: str
    pattern: str | None = Field(None, description="A regular expression that the whole value has to match.")
    max_length: int = Field(1024, ge=1, le=65_536)
    enum: tuple[str, ...] | None = Field(None, description="The values to choose from.")

    @model_validator(mode="after")
    def _default_fits(self) -> StringParameter:
        if self.enum is not None and self.default not in self.enum:
            raise ValueError(f"default = {self.default!r}: is not one of {', '.join(self.enum)}")
        if len(self.default) > self.max_length:
            raise ValueError(f"default = {self.default!r}: is longer than max_length, {self.max_length}")
        try:
            matches = re.search(self.whole_pattern, self.default)
        except re.error as error:
            raise ValueError(f"pattern = {self.pattern!r}: is no regular expression: {error}") from error
        if not matches:
            raise ValueError(f"default = {self.default!r}: does not match the pattern {self.pattern}")
        return self

    @property
    def whole_pattern(self) -> str:
        """The pattern as JSON Schema takes it, which only searches; Python's `$` would let a line end through."""
        # A NUL cannot be in an environment variable, so it is refused before the job exists.
        return r"^[^\x00]*$" if self.pattern is None else rf"^(?:{self.pattern})$(?!\n)"


class BooleanParameter(_Parameter):
    """A switch. The job sees `true` or `false`."""

    type: Literal["boolean"]
    default: bool


Parameter = Annotated[
    IntegerParameter | NumberParameter | StringParameter | BooleanParameter, Field(discriminator="type")
]


def parameter_schema(parameter: Parameter) -> dict[str, Any]:
    """Return the JSON Schema that Airflow checks a trigger's value against, default left out."""
    schema: dict[str, Any] = {"type": parameter.type}
    if isinstance(parameter, IntegerParameter | NumberParameter):
        bounds = {"minimum": parameter.minimum, "maximum": parameter.maximum}
        schema |= {name: bound for name, bound in bounds.items() if bound is not None}
    if isinstance(parameter, StringParameter):
        schema |= {"pattern": parameter.whole_pattern, "maxLength": parameter.max_length}
        schema |= {"enum": list(parameter.enum)} if parameter.enum else {}
    return schema
