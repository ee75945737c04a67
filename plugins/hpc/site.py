"""The facts of the AWS account that every simulation shares, for templates: `{{ site('region') }}`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from hpc.config import Site
from hpc.errors import ConfigurationError
from hpc.problems import describe, did_you_mean

VARIABLE = "hpc_site"
REMEDY = f"set the Airflow Variable {VARIABLE}, a JSON object; docs/running-on-aws.md lists its keys"


def site(name: str) -> str:
    """Return one fact of the Variable `hpc_site`. Raises ConfigurationError when it is missing or malformed."""
    return fact(_variable(), name)


def fact(facts: Any, name: str) -> str:
    """Return one fact out of all. Raises ConfigurationError that names everything wrong if this one is.

    A fact is given even when others are wrong: nothing may keep a deletion from the region that it needs.
    """
    known = list(Site.model_fields)
    if name not in known:
        raise ConfigurationError(f"site({name!r}): there is no such fact{did_you_mean(name, known)}", remedy=REMEDY)
    if not isinstance(facts, Mapping):
        what = "is not set" if facts is None else f"is no JSON object: {facts!r}"
        raise ConfigurationError(f"the Variable {VARIABLE} {what}", remedy=REMEDY)
    try:
        Site.model_validate(facts)
    except ValidationError as error:
        problems = error.errors()
        if any(problem["loc"] == (name,) for problem in problems):
            lines = "\n".join(f"  {describe(problem, known)}" for problem in problems)
            raise ConfigurationError(f"the Variable {VARIABLE} is wrong:\n{lines}", remedy=REMEDY) from error
    return str(facts[name])


@cache  # a task is a process of its own, and has several templates that ask
def _variable() -> Any:
    from airflow.sdk import Variable

    text = Variable.get(VARIABLE, default=None)
    try:
        return None if text is None else json.loads(text)  # Airflow takes a text that is no JSON for a missing Variable
    except ValueError as error:
        raise ConfigurationError(f"the Variable {VARIABLE} is no JSON: {error}", remedy=REMEDY) from error
