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
    require_same_owner(stack, {key: tags[key] for key in OWNERSHIP if key in tags})
    if stack.status == "DELETE_IN_PROGRESS":
        return Action.WAIT_THEN_CREATE
    failed = progress(stack.status, "CREATE_COMPLETE") is Progress.FAILED
    return Action.REPLACE if failed else Action.ADOPT


def require_same_owner(stack: Stack, tags: Mapping[str, str]) -> None:
    """Raise ConfigurationError unless the stack bears `tags`: those that say which run it is of.

    The cluster of a pool belongs to every run of the pool: of its tags only the pool's name counts. An Airflow that
    has no URL cannot be told from another.
    """
    decisive = [TAG_POOL] if TAG_POOL in tags else list(tags)
    if not stack.tags.get(TAG_AIRFLOW) or not tags.get(TAG_AIRFLOW):
        decisive = [key for key in decisive if key != TAG_AIRFLOW]
    other = [
        f"{key} is {stack.tags.get(key)!r}, not {tags[key]!r}" for key in decisive if stack.tags.get(key) != tags[key]
    ]
    if other:
        raise ConfigurationError(
            f"The name {stack.name} belongs to another cluster ({stack.status}): tag {'; tag '.join(other)}",
            remedy="choose another cluster_name, or delete that cluster if nobody needs it; two Airflows that run the "
            "same simulation in one account at the same time need another name for it each",
        )


def is_of(stack: Stack, tags: Mapping[str, str]) -> bool:
    """Say whether `require_same_owner` raises nothing."""
    try:
        require_same_owner(stack, tags)
    except ConfigurationError:
        return False
    return True


def alternative_of(stack: Stack) -> int:
    """Return which of the alternatives a stack is made of, counted from 1; 0 for the first configuration."""
    return int(stack.tags.get(TAG_ALTERNATIVE, 0))


def next_alternative(error: Exception, number: int, count: int) -> int | None:
    """Return the alternative to try after number `number` of `count` failed with `error`; None to try none."""
    return number + 1 if isinstance(error, ELSEWHERE) and number < count else None


def passes_by_itself(error: Exception) -> bool:
    """Say whether the same configuration may succeed later, with nothing changed."""
    return isinstance(error, (*ELSEWHERE, TransientError))
