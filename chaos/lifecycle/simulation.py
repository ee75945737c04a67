"""The simulation of a run: a job of a second that writes what its plan says."""

from __future__ import annotations

from typing import Any

from chaos.lifecycle.plan import Plan

_LINES = 5


def simulation_of(plan: Plan) -> dict[str, Any]:
    """Return the simulation of a run: as a YAML file would have it."""
    return {
        "name": f"chaos_{plan.seed}",
        "description": "A job of a second, for faults",
        "owner": "chaos",
        "cluster": {"profile": "cpu_ebs", **_sharing(plan)},
        "job": {
            "script": "hello.sh",
            "parameters": {
                "word": {"type": "string", "default": word_of(plan)},
                "code": {"type": "integer", "default": plan.exit_code},
            },
        },
        "resources": {"nodes": 1, "walltime": "00:05:00", "partition": partition_of(plan)},
        "outputs": ["result.txt"],
        "deadline": "1h",
        **({"export": "discard"} if plan.is_discarded else {}),
    }


def _sharing(plan: Plan) -> dict[str, Any]:
    if not plan.neighbour:
        return {}
    return {"sharing": "pooled", "name": pool_of(plan), "idle": "2s", "values": {"nodes": 2}}


def pool_of(plan: Plan) -> str:
    """Return the name of the pool of a run and its neighbour; empty for a run with a cluster of its own."""
    return f"p{plan.seed}" if plan.neighbour else ""


def word_of(plan: Plan) -> str:
    """Return what the job of a run writes."""
    return f"chaos-{plan.seed}"


def partition_of(plan: Plan) -> str:
    """Return the partition of a run, by which its compute nodes are told from others'."""
    return f"q{plan.seed}"


def result_of(plan: Plan) -> str:
    """Return what the job of a run leaves in result.txt."""
    ends = [*map(str, range(1, _LINES + 1)), "end"]
    return "".join(f"{word_of(plan)} {end}\n" for end in ends)
