"""Whoever judges the product is judged first: each thing that must not be is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chaos.lifecycle.look import Thing
from chaos.lifecycle.verdict import Evidence, violations

CLUSTER = "chaos-7-0123456789"
GOOD = Evidence(
    names=["Run manual__7 of chaos_7,", CLUSTER],
    run="success",
    states={"run_job": "success", "delete_cluster": "success"},
    abandoned=False,
    left=[],
    finished=True,
    discarded=False,
    saved=True,
    alerts=[],
)
INSTANCE = Thing("instance", "i-1")
FAILED = {"run_job": "failed", "delete_cluster": "success"}
RUN_FAILED = f"*chaos_7: the run FAILED*\nRun manual__7 of chaos_7, cluster {CLUSTER}: the run FAILED."
KEPT = (
    f"*chaos_7: its cluster is KEPT RUNNING for 24h*\nRun manual__7 of chaos_7, cluster {CLUSTER}: until then\n"
    "a job may have run, but export_results did not verify its results in S3."
)
JANITOR = "*The janitor could not delete everything*\n"


def kinds(**changes: Any) -> set[str]:
    return {violation.kind for violation in violations(replace(GOOD, **changes))}


def test_a_run_without_a_flaw() -> None:
    assert kinds() == set()


@pytest.mark.parametrize(
    ("alerts", "expected"),
    [
        ([], {"leak"}),
        ([RUN_FAILED], {"leak"}),
        ([f"{RUN_FAILED}\nIt costs $1 an hour now: EC2 instance i-1."], set()),
        ([f"{RUN_FAILED}\nDeletion   NOT proven: look at delete_cluster"], set()),
        ([f"*chaos_7: its cluster is KEPT RUNNING*\nRun manual__7, cluster {CLUSTER}"], {"leak"}),
        ([f"*chaos_7: the deletion of its cluster FAILED*\nRun manual__7, cluster {CLUSTER}"], set()),
        ([f"{JANITOR}NOT DELETED {CLUSTER} (chaos_7)"], set()),
        ([f"{JANITOR}NOT DELETED other (chaos_8)\nDELETED     {CLUSTER} (chaos_7); results saved"], {"leak"}),
    ],
)
def test_what_is_left_has_to_be_named(alerts: list[str], expected: set[str]) -> None:
    assert kinds(left=[INSTANCE], alerts=alerts) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"loss"}),
        ({"alerts": [RUN_FAILED]}, {"loss"}),
        ({"alerts": [f"{RUN_FAILED}\nFailed     export_results"]}, {"loss"}),
        ({"alerts": [KEPT]}, {"loss"}),  # somebody came, or the cluster was deleted all the same
        ({"alerts": [KEPT], "held_in_vain": True}, set()),
        ({"alerts": [KEPT.replace("manual__7 ", "manual__8 ").replace(CLUSTER, "")], "held_in_vain": True}, {"loss"}),
        ({"held_in_vain": True}, {"loss"}),
        ({"alerts": [f"{JANITOR}NOT DELETED {CLUSTER} (chaos_7); results NOT saved"]}, set()),
        ({"alerts": [f"{JANITOR}DELETED     {CLUSTER} (chaos_7); results NOT saved"]}, {"loss"}),
        ({"alerts": [f"{JANITOR}NOT DELETED other (chaos_8); results NOT saved\nDELETED {CLUSTER}"]}, {"loss"}),
        ({"alerts": [f"{RUN_FAILED}\nwhether its results are safe is NOT KNOWN, and its cluster is deleted"]}, set()),
        ({"discarded": True}, set()),
        ({"finished": False}, set()),
    ],
)
def test_a_result_that_is_not_in_s3_is_lost_unless_the_cluster_was_kept_and_people_were_told(
    changes: dict[str, Any], expected: set[str]
) -> None:
    assert kinds(saved=False, **changes) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run": "failed", "states": FAILED, "alerts": [RUN_FAILED]}, set()),
        ({"run": "failed", "states": FAILED}, {"silent"}),
        ({"run": "success", "states": FAILED, "alerts": [RUN_FAILED]}, {"silent"}),
        ({"run": "stuck", "alerts": [RUN_FAILED]}, {"silent"}),
        ({"run": "deleted", "states": {}}, set()),
        ({"run": "deleted", "states": {}, "abandoned": True}, {"silent"}),
        ({"run": "gone", "abandoned": True, "alerts": [f"{JANITOR}DELETED {CLUSTER}"]}, set()),
    ],
)
def test_nothing_goes_wrong_in_silence(changes: dict[str, Any], expected: set[str]) -> None:
    assert kinds(**changes) == expected
