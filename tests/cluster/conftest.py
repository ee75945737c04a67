"""Drives operators as Airflow does, without a scheduler: execute, the trigger, the method it resumes with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpc.cluster import template
from hpc.names import TAG_RUN_ID, TAG_SIMULATION

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

    from local_aws.testing import LocalRegion

TEMPLATE = Path(__file__).parent / "data" / "cluster.yaml"
CAPTURED = Path(__file__).parents[1] / "data"


@dataclass
class TaskInstance:
    """What the operators ask of Airflow's."""

    dag_id: str = "lj_melt"
    run_id: str = "manual__2026-11-23"
    try_number: int = 1
    map_index: int = -1
    xcoms: dict[str, Any] = field(default_factory=dict)

    def get_dr_count(self, **_: Any) -> int:
        """Answer that the run that is asked for goes on."""
        return 1

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


def first_event(trigger: BaseTrigger) -> Any:
    """Run a trigger, made anew from what it serializes to, until its event."""

    from airflow.sdk.module_loading import import_string

    async def wait() -> Any:
        path, arguments = trigger.serialize()
        async for event in import_string(path)(**arguments).run():
            return event.payload
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(wait())


@pytest.fixture
def drive(context: dict[str, Any]) -> Callable[..., Any]:
    """Return the function that runs an operator to its end and returns its result."""
    return driver(context)


def driver(context: dict[str, Any]) -> Callable[..., Any]:
    """Return the function that runs an operator to its end, for the run of a context."""
    from airflow.sdk.exceptions import TaskDeferred

    def run(operator: Any) -> Any:
        method, arguments = operator.execute, {}
        while True:
            try:
                return method(context, **arguments)
            except TaskDeferred as deferral:
                trigger = deferral.trigger
                event = first_event(trigger)
                method = getattr(operator, deferral.method_name)
                arguments = {"event": event, **(deferral.kwargs or {})}

    return run


@pytest.fixture
def site(region: LocalRegion) -> dict[str, template.Value]:
    """What the template needs of the account."""
    return {
        "region": region.region,
        "head_node_subnet_id": region.head_node_subnet_id,
        "compute_subnet_id": region.compute_subnet_id,
        "key_name": region.key_name,
    }


@pytest.fixture
def config(site: dict[str, template.Value]) -> str:
    """A configuration that ParallelCluster accepts, tagged as this test's."""
    return template.render_template(
        TEMPLATE.read_text(encoding="utf-8"),
        source=TEMPLATE.name,
        facts=site,
        overrides={},
        tags={TAG_SIMULATION: "lj_melt", TAG_RUN_ID: "manual__2026-11-23"},
        region=str(site["region"]),
    )


@pytest.fixture
def faultless(region: LocalRegion) -> Iterator[LocalRegion]:
    """The region, without faults again when the test is over."""
    yield region
    region.fault("clear")


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return the function that gives what the tasks have logged so far."""
    seen: list[str] = []

    def read() -> str:
        captured = capfd.readouterr()
        seen.extend([captured.out, captured.err])
        return "".join(seen)

    return read
