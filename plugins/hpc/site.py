"""The facts of the AWS account that every simulation shares, for templates: `{{ site('region') }}`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from hpc.config import Notify, Site
from hpc.errors import ConfigurationError
from hpc.problems import describe, did_you_mean

log = logging.getLogger(__name__)

VARIABLE = "hpc_site"
#: The AWS connection that needs no mention.
DEFAULT_CONNECTION = "aws_default"
#: What has a reader of its own.
_NO_TEXTS = ("notify", "aws_connections")
REMEDY = f"set the Airflow Variable {VARIABLE}, a JSON object; docs/running-on-aws.md lists its keys"


def site(name: str) -> str:
    """Return one fact of the Variable `hpc_site`. Raises ConfigurationError when it is missing or malformed."""
    return fact(_variable(), name)


def fact(facts: Any, name: str) -> str:
    """Return one fact out of all. Raises ConfigurationError that names everything wrong if this one is.

    A fact is given even when others are wrong: nothing may keep a deletion from the region that it needs.
    """
    known = [known for known in Site.model_fields if known not in _NO_TEXTS]
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


def site_notify() -> Notify | None:
    """Return whom the Variable tells; None if nobody. Raises ConfigurationError when that part of it is malformed."""
    facts = _read()  # for the triggerer as well, which is one process for weeks
    given = facts.get("notify") if isinstance(facts, Mapping) else None
    try:
        return None if given is None else Notify.model_validate(given)
    except ValidationError as error:
        lines = "\n".join(f"  notify.{describe(problem, Notify.model_fields)}" for problem in error.errors())
        raise ConfigurationError(f"the Variable {VARIABLE} is wrong:\n{lines}", remedy=REMEDY) from error


def site_connections() -> tuple[str, ...]:
    """Return the AWS connections that the Variable lists beside the default one.

    Raises ConfigurationError when that part of it is malformed.
    """
    facts = _read()
    if facts is None:
        return ()
    if not isinstance(facts, Mapping):
        raise ConfigurationError(f"the Variable {VARIABLE} is no JSON object: {facts!r}", remedy=REMEDY)
    try:
        return Site.model_validate(facts).aws_connections
    except ValidationError as error:
        problems = [problem for problem in error.errors() if problem["loc"][:1] == ("aws_connections",)]
        if problems:
            lines = "\n".join(f"  {describe(problem, Site.model_fields)}" for problem in problems)
            raise ConfigurationError(f"the Variable {VARIABLE} is wrong:\n{lines}", remedy=REMEDY) from error
    return tuple(facts.get("aws_connections", ()))


def check_connections() -> None:
    """Raise ConfigurationError if that list is malformed. A Variable that cannot be read now says nothing."""
    try:
        site_connections()
    except ConfigurationError:
        raise
    except Exception:
        log.debug("the Variable %s cannot be read", VARIABLE, exc_info=True)


def airflow_url() -> str:
    """Return the URL that tells this Airflow from others, `[api] base_url`; empty if it has none."""
    from airflow.sdk.configuration import conf

    return conf.get("api", "base_url", fallback="") or ""


@cache  # a task is a process of its own, and has several templates that ask
def _variable() -> Any:
    return _read()


def _read() -> Any:
    from airflow.sdk import Variable

    text = Variable.get(VARIABLE, default=None)
    try:
        return None if text is None else json.loads(text)  # Airflow takes a text that is no JSON for a missing Variable
    except ValueError as error:
        raise ConfigurationError(f"the Variable {VARIABLE} is no JSON: {error}", remedy=REMEDY) from error
