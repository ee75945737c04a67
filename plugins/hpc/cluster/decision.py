"""What to do about a cluster's name that may be in use already. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from hpc.cluster.stacks import Progress, Stack, progress
from hpc.errors import CapacityError, ConfigurationError, SubnetFullError, TransientError
from hpc.names import TAG_AIRFLOW, TAG_ALTERNATIVE, TAG_POOL, TAG_RUN_ID, TAG_SIMULATION

#: What tells whose a cluster is.
OWNERSHIP = (TAG_SIMULATION, TAG_RUN_ID, TAG_AIRFLOW, TAG_POOL)
#: What another subnet or instance type helps against.
ELSEWHERE = (CapacityError, SubnetFullError)


class Action(Enum):
    """How a cluster of a name comes to be."""

    CREATE = "create"
    ADOPT = "adopt"
    REPLACE = "delete the failed one, then create"
    WAIT_THEN_CREATE = "wait until the old one is gone, then create"


def decide_creation(stack: Stack | None, tags: Mapping[str, str]) -> Action:
    """Say what to do when `stack` has the name of the cluster that is wanted with `tags`.

    Raises ConfigurationError when the stack bears other tags of ours, or none: then it is somebody else's.
    """
    if stack is None or stack.status == "DELETE_COMPLETE":
        return Action.CREATE
    require_same_owner(stack, ownership(tags))
    if stack.status == "DELETE_IN_PROGRESS":
        return Action.WAIT_THEN_CREATE
    failed = progress(stack.status, "CREATE_COMPLETE") is Progress.FAILED
    return Action.REPLACE if failed else Action.ADOPT


def ownership(tags: Mapping[str, str]) -> dict[str, str]:
    """Return those of a configuration's tags that tell whose the cluster is."""
    return {key: tags[key] for key in OWNERSHIP if key in tags}


def other_owner(stack: Stack, tags: Mapping[str, str]) -> dict[str, str]:
    """Return those tags of a stack, by key, that say that it is not of the run with `tags`; empty if it is.

    The cluster of a pool belongs to every run of the pool: of its tags only the pool's name counts. An Airflow that
    has no URL cannot be told from another.
    """
    decisive = [TAG_POOL] if TAG_POOL in tags else list(tags)
    if not stack.tags.get(TAG_AIRFLOW) or not tags.get(TAG_AIRFLOW):
        decisive = [key for key in decisive if key != TAG_AIRFLOW]
    return {key: stack.tags.get(key, "") for key in decisive if stack.tags.get(key) != tags[key]}


def require_same_owner(stack: Stack, tags: Mapping[str, str]) -> None:
    """Raise ConfigurationError unless the stack is of the run with `tags`, as `other_owner` sees it."""
    other = other_owner(stack, tags)
    if not other:
        return
    differences = "; ".join(f"tag {key} is {stack.tags.get(key)!r}, not {tags[key]!r}" for key in other)
    remedy = "choose another cluster_name, or delete that cluster if nobody needs it"
    if list(other) == [TAG_AIRFLOW]:
        remedy = (
            f"leave that cluster alone, which {other[TAG_AIRFLOW]} made for its own run of the same simulation and run "
            "id; give the simulation another name in one of the two"
        )
    message = f"The name {stack.name} belongs to another cluster ({stack.status}): {differences}"
    raise ConfigurationError(message, remedy=remedy)


def alternative_of(stack: Stack) -> int:
    """Return which of the alternatives a stack is made of, counted from 1; 0 for the first configuration."""
    return int(stack.tags.get(TAG_ALTERNATIVE, 0))


def next_alternative(error: Exception, number: int, count: int) -> int | None:
    """Return the alternative to try after number `number` of `count` failed with `error`; None to try none."""
    return number + 1 if isinstance(error, ELSEWHERE) and number < count else None


def passes_by_itself(error: Exception) -> bool:
    """Say whether the same configuration may succeed later, with nothing changed."""
    return isinstance(error, (*ELSEWHERE, TransientError))
