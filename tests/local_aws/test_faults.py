from __future__ import annotations

from local_aws.faults import DeletionFault, Faults


def test_a_bootstrap_fails_for_one_cluster_or_for_all() -> None:
    faults = Faults()
    faults.fail_bootstrap("one", "no route")
    assert [faults.bootstrap_failure(name) for name in ("one", "other")] == ["no route", None]
    faults.fail_bootstrap("*", "no disk")
    assert [faults.bootstrap_failure(name) for name in ("one", "other")] == ["no route", "no disk"]
    faults.clear()
    assert faults.bootstrap_failure("one") is None


def test_a_deletion_fails_as_often_as_it_is_meant_to() -> None:
    faults = Faults()
    faults.fail_deletions("one/HeadNode", DeletionFault("busy", times=2))
    assert faults.take_deletion("other/HeadNode", "HeadNode") is None
    for _ in range(2):
        assert faults.take_deletion("one/HeadNode", "HeadNode") is not None
    assert faults.take_deletion("one/HeadNode", "HeadNode") is None
