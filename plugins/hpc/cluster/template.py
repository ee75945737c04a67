"""Step 2: a ParallelCluster template and a simulation's values become a cluster configuration. Text in, text out.

A placeholder is `${name}` or `${name:-default}` in a text of the template. Placeholders are replaced *after* the
YAML has been read, so no value can change the document's structure; a text that is nothing but one placeholder
takes the value's type.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hpc.errors import ConfigurationError
from hpc.names import TAG_AIRFLOW, TAG_PREFIX

Value = str | int | float | bool

_RENDERED = "the cluster configuration"
_PLACEHOLDER = re.compile(r"\$\{(?P<name>[a-z][a-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def render_template(
    text: str,
    *,
    source: str,
    facts: Mapping[str, Value],
    overrides: Mapping[str, Value],
    tags: Mapping[str, str],
    region: str,
) -> str:
    """Return the configuration as YAML.

    :param source: the template's name in messages
    :param facts: values that a template may use (the site's subnets, the simulation's nodes)
    :param overrides: values that it has to use: an unused one is most likely misspelled
    :param tags: added to the template's own; on the same key these win
    :param region: where the cluster is made; a template that names another is refused
    :raises ConfigurationError: names every problem of the template at once, with its path
    """
    document = _read(text, source)
    values = {**facts, **overrides}
    used: set[str] = set()
    problems: list[str] = []

    def replaced(leaf: str, path: str) -> Any:
        used.update(match["name"] for match in _PLACEHOLDER.finditer(leaf))
        try:
            return _replace(leaf, values)
        except ValueError as error:
            problems.append(f"{path}: {error}")
            return leaf

    configuration = _map_texts(document, replaced)
    unused = sorted(set(overrides) - used)
    problems += [f"no placeholder ${{{name}}}{_did_you_mean(name, _names(document))}" for name in unused]
    if configuration.get("Region", region) != region:
        problems.append(f"Region: is {configuration['Region']}, but the task works in {region}; leave Region out")
    if problems:
        raise ConfigurationError(
            "\n".join(f"{source}: {problem}" for problem in problems),
            remedy="correct the template, or cluster.values of the simulation",
        )
    return _with_tags({**configuration, "Region": region}, {**_tags(configuration, source), **tags})


def read_tags(configuration: str) -> dict[str, str]:
    """Return the tags of a rendered configuration."""
    return _tags(_read(configuration, _RENDERED), _RENDERED)


def airflow_of(configuration: str | None) -> str:
    """Return the URL of the Airflow that a configuration was rendered by, as its tag has it; empty if it has none."""
    return read_tags(configuration).get(TAG_AIRFLOW, "") if configuration else ""


def add_tags(configuration: str, tags: Mapping[str, str]) -> str:
    """Return a configuration with further tags; those that it has already stay as they are."""
    document = _read(configuration, _RENDERED)
    return _with_tags(document, {**tags, **_tags(document, _RENDERED)})


def fingerprint(configuration: str) -> str:
    """Return what tells a rendered configuration from others. Our own tags, which name a run, do not count."""
    document = _read(configuration, _RENDERED)
    tags = {key: value for key, value in _tags(document, _RENDERED).items() if not key.startswith(TAG_PREFIX)}
    text = json.dumps({**document, "Tags": tags}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read(text: str, source: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{source}: not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{source}: must be a mapping with keys such as Image, HeadNode and Scheduling")
    return document


def _tags(document: Mapping[str, Any], source: str) -> dict[str, str]:
    try:
        return {str(tag["Key"]): str(tag["Value"]) for tag in document.get("Tags") or []}
    except (TypeError, KeyError) as error:
        raise ConfigurationError(f"{source}: Tags: must be a list of {{Key: ..., Value: ...}}") from error


def _with_tags(document: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return yaml.safe_dump({**document, "Tags": listed}, sort_keys=False, allow_unicode=True, width=120)


def _map_texts(node: Any, function: Any, path: str = "") -> Any:
    """Return a copy of a document with every text, keys excepted, replaced by `function(text, path)`."""
    if isinstance(node, dict):
        return {key: _map_texts(inner, function, f"{path}.{key}".lstrip(".")) for key, inner in node.items()}
    if isinstance(node, list):
        return [_map_texts(inner, function, f"{path}[{index}]") for index, inner in enumerate(node)]
    return function(node, path) if isinstance(node, str) else node


def _replace(leaf: str, values: Mapping[str, Value]) -> Any:
    """Replace the placeholders of one text. Raises ValueError for one without a value or a malformed one."""
    whole = _PLACEHOLDER.fullmatch(leaf)
    if whole:
        return _value(whole, values)
    rest = _PLACEHOLDER.sub("", leaf)
    if "${" in rest:
        raise ValueError(f"{leaf!r}: write ${{name}} or ${{name:-default}}; a name is of a-z, 0-9 and _")
    return _PLACEHOLDER.sub(lambda match: _as_text(_value(match, values)), leaf)


def _value(match: re.Match[str], values: Mapping[str, Value]) -> Any:
    if match["name"] in values:
        return values[match["name"]]
    if match["default"] is not None:
        return yaml.safe_load(match["default"])
    raise ValueError(f"nothing gives ${{{match['name']}}} a value{_did_you_mean(match['name'], values)}")


def _as_text(value: Value | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _names(document: Any) -> Iterator[str]:
    found: list[str] = []
    _map_texts(document, lambda leaf, _path: found.extend(match["name"] for match in _PLACEHOLDER.finditer(leaf)))
    return iter(found)


def _did_you_mean(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
