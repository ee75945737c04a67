"""What pydantic finds wrong, in words that name the place, the value, and what would be right."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def describe(problem: ErrorDetails, known: Iterable[str]) -> str:
    """Return one of pydantic's problems as `path = value: what is wrong and what would be right`.

    `known` are the keys that a wrong one may be meant for.
    """
    # A union's branch and a discriminator's tag stand in `loc` between the keys; a reader of the file knows neither.
    path = ".".join(str(part) for part in problem["loc"] if not _is_branch(part)) or "(the whole file)"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{path}: there is no such key{did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "missing":
        return f"{path}: is missing, and has to be there"
    if isinstance(problem["input"], Mapping):
        return f"{path}: {message}"
    return f"{path} = {problem['input']!r}: {message}"


def _is_branch(part: int | str) -> bool:
    tags = {"integer", "number", "string", "boolean"}
    return isinstance(part, str) and (part in tags or bool(re.match(r"(literal|function|Export|KeepFor)\b", part)))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that names the known word that is meant; empty when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
