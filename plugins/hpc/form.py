"""The trigger form of a simulation: its fields, and what the values of a run become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from hpc.errors import ConfigurationError
from hpc.parameters import parameter_schema
from hpc.problems import did_you_mean
from hpc.sweep import parse_sweep, points, sweep_form_schema

if TYPE_CHECKING:
    from airflow.sdk import Context

    from hpc.config import SimulationConfig

#: The field for another sweep than the file's.
SWEEP_FIELD = "sweep"


def trigger_form(simulation: SimulationConfig) -> dict[str, Param]:
    """Return the fields of the trigger form: the job's typed parameters with their bounds, and another sweep."""
    form = {
        name: Param(parameter.default, title=name, description=parameter.description, **parameter_schema(parameter))
        for name, parameter in simulation.job.parameters.items()
    }
    if simulation.sweep is not None:
        said = "Another sweep than the file's, as JSON: grid, zip or list, max_running, tolerate."
        schema = sweep_form_schema(simulation.job.parameters)
        form[SWEEP_FIELD] = Param(None, title=SWEEP_FIELD, description=said, **schema)
    return form


def job_parameters(simulation: SimulationConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a run's values that are the job's parameters."""
    return {name: params[name] for name in simulation.job.parameters}


def sweep_of(simulation: SimulationConfig, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the sweep of a run as SlurmJobOperator takes it. Raises ConfigurationError for one that cannot be."""
    sweep = parse_sweep(params.get(SWEEP_FIELD), simulation.job.parameters) or simulation.sweep
    if sweep is None:
        return None
    found = points(sweep, simulation.job.parameters)
    return {"points": found, "max_running": sweep.max_running, "tolerate": sweep.tolerate}


def check_form(simulation: SimulationConfig, context: Context) -> None:
    """Raise ConfigurationError for a run that cannot be computed as it was triggered, before there is a cluster.

    Airflow checks the values of the parameters that a DAG has, and lets every other name of a run's `conf` through.
    """
    known = list(trigger_form(simulation))
    if unknown := [name for name in context["params"] if name not in known]:
        raise ConfigurationError(
            "The simulation has no such parameter: "
            + ", ".join(f"{name}{did_you_mean(name, known)}" for name in unknown),
            remedy=f"trigger it again with parameters that it has: {', '.join(known) or 'none'}",
        )
    sweep_of(simulation, context["params"])
