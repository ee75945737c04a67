"""What the `pcluster` command answers, read without running it: JSON on stdout, and an exit code that needs the JSON.

Exit code 1 is an error of the API *and* a dry run that succeeded; 2 is a wrong argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpc.cluster.reasons import find_reason
from hpc.errors import ClusterError, ConfigurationError

DRY_RUN_SUCCEEDED = "DryRun flag is set"


class ClusterNotFoundError(ClusterError):
    """ParallelCluster knows no cluster of this name."""


def parse_answer(command: str, exit_status: int, stdout: str, log_tail: str = "") -> dict[str, Any]:
    """Return the JSON of a command that succeeded, a dry run included; raise a typed error for every other.

    `command` names it in messages, `log_tail` is the end of ParallelCluster's own log, shown when stdout says nothing.
    """
    answer = _read_json(stdout)
    message = str(answer.get("message", ""))
    if exit_status == 0 or DRY_RUN_SUCCEEDED in message:
        return answer
    if exit_status == 2:
        raise ConfigurationError(f"pcluster {command}: refused its arguments: {log_tail.strip() or stdout.strip()}")
    problems = [*validation_lines(answer), *_update_lines(answer)]
    if not message:
        message = f"ended with {exit_status} and said nothing that can be read\n{(stdout.strip() or log_tail)[-2000:]}"
    raise _error(command, message, problems)


def _read_json(stdout: str) -> dict[str, Any]:
    start = stdout.find("{")
    try:
        answer = json.loads(stdout[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error(command: str, message: str, problems: Sequence[str]) -> Exception:
    whole = "\n".join([f"pcluster {command}: {message}", *(f"  {problem}" for problem in problems)])
    # A validator that could not ask AWS reports that as a problem of the configuration: its words decide.
    reason = find_reason(whole)
    if reason is not None:
        return reason.error(whole, remedy=reason.remedy)
    if "does not exist" in message and not problems:
        return ClusterNotFoundError(whole)
    if problems or "Bad Request" in message or "Invalid cluster configuration" in message:
        return ConfigurationError(whole, remedy="correct the cluster template or the simulation's cluster.values")
    return ClusterError(whole)


def validation_lines(answer: Mapping[str, Any]) -> list[str]:
    """Return the validators' messages, errors first, one line each: `ERROR InstanceTypeValidator: …`."""
    order = ("ERROR", "WARNING", "INFO")
    found = [*(answer.get("configurationValidationErrors") or []), *(answer.get("validationMessages") or [])]
    found.sort(key=lambda one: order.index(one["level"]) if one.get("level") in order else len(order))
    return [f"{one.get('level', '?')} {one.get('type', '?')}: {one.get('message', '')}" for one in found]


def _update_lines(answer: Mapping[str, Any]) -> list[str]:
    return [
        f"{one.get('parameter', '?')}: {one.get('message', '')}" for one in answer.get("updateValidationErrors") or []
    ]
