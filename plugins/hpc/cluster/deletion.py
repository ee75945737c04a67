"""What to do when CloudFormation could not delete a stack: wait and try again, then without what refuses, then stop.

Pure: from the failures of the last try to the next one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpc.cluster.stacks import StackEvent

#: What says that a resource is still used and will be free by itself: instances that end in a placement group or hold
#: an interface or a security group, FSx's export task, a service that is asked too often.
BUSY = re.compile(
    r"in use|InUse|dependen(t|cy|cies)|being used|still attached|data repository task|"
    r"rate exceeded|throttl|try again|InternalFailure|ServiceUnavailable|not stabilized|timed? ?out",
    re.IGNORECASE,
)
#: They cost money and hold data or computing power: no deletion may go on without them, for then nothing would delete
#: them any more.
NEVER_LEFT_BEHIND = frozenset(
    {
        *("AWS::EC2::Instance", "AWS::EC2::Volume", "AWS::FSx::FileSystem", "AWS::EFS::FileSystem"),
        *("AWS::FSx::Volume", "AWS::EC2::NatGateway"),
    }
)
#: Times that a deletion is tried again before something is left behind: a busy resource may need half an hour.
BUSY_TRIES, PLAIN_TRIES = 7, 2
#: Times that it is tried without what refuses; a nested stack needs two, one for itself and one for its parent.
TRIES_WITHOUT = 2
LONGEST_PAUSE = 600.0


@dataclass(frozen=True)
class NextTry:
    """How to delete again: after `pause` seconds; without the logical ids of `retain`, by the stack that has them."""

    pause: float
    why: str
    retain: Mapping[str, Sequence[str]] = field(default_factory=dict)


def next_try(failures: Sequence[StackEvent], tries: int, shortest_pause: float) -> NextTry | None:
    """Return what to do after the `tries`-th deletion failed, the first being 1; None to give up.

    `failures` are the resources that refused, as `root_failures` returns them. What is left behind of a stack is still
    looked for by its id afterwards, and removed or reported.
    """
    pause = min(shortest_pause * 2.0 ** (tries - 1), LONGEST_PAUSE)
    busy = [event for event in failures if BUSY.search(event.reason)]
    patience = BUSY_TRIES if busy else PLAIN_TRIES
    if tries < patience:
        if busy:
            return NextTry(pause, f"{_names(busy)} is still in use")
        return NextTry(pause, f"{_names(failures)} refused")
    retained = [event for event in failures if event.type not in NEVER_LEFT_BEHIND]
    if tries >= patience + TRIES_WITHOUT or not retained or len(retained) < len(failures):
        return None
    retain: dict[str, list[str]] = {}
    for event in retained:
        retain.setdefault(event.stack_id, []).append(event.logical_id)
    return NextTry(shortest_pause, f"{_names(retained)} refuses, so the stack is deleted without it", retain)


def _names(events: Sequence[StackEvent]) -> str:
    return ", ".join(f"{event.logical_id} ({event.type})" for event in events) or "something"
