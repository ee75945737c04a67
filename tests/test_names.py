"""Names that are computed from the DAG run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from hpc.names import (
    cluster_name,
    decode_tag,
    encode_tag,
    expiry,
    parse_expiry,
    pool_cluster_name,
    tag_value,
)

#: pcluster/constants.py of aws-parallelcluster 3.16.1: PCLUSTER_NAME_REGEX, and the shorter limit with accounting.
PARALLELCLUSTER_NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9-]{0,39}$")


@given(st.text(), st.text())
def test_every_run_gets_a_name_that_parallelcluster_accepts(dag_id: str, run_id: str) -> None:
    assert PARALLELCLUSTER_NAME.fullmatch(cluster_name(dag_id, run_id))


def test_the_name_is_the_same_again_and_another_for_another_run() -> None:
    first = cluster_name("lj_melt", "manual__2026-01-01")
    assert first == cluster_name("lj_melt", "manual__2026-01-01")
    assert first.startswith("lj-melt-")
    assert len({first, cluster_name("lj_melt", "manual__2026-01-02"), cluster_name("lj", "melt")}) == 3


def test_dag_and_run_cannot_run_together() -> None:
    assert cluster_name("a", "bc") != cluster_name("ab", "c")


def test_each_cluster_of_a_pool_has_a_name_of_its_own_that_is_no_runs() -> None:
    names = {pool_cluster_name("mesh", number) for number in (1, 2, 11)}
    assert names == {"pool-mesh-1", "pool-mesh-2", "pool-mesh-11"}
    assert len(pool_cluster_name("a" * 24, 10**9)) <= 40, "as long as a name may be with accounting"
    assert PARALLELCLUSTER_NAME.fullmatch(pool_cluster_name("a" * 24, 10**9))


@given(st.text(max_size=400))
def test_a_tag_value_is_what_aws_allows(text: str) -> None:
    assert len(tag_value(text)) <= 256
    assert tag_value(tag_value(text)) == tag_value(text)


def test_a_run_id_survives_in_its_tag() -> None:
    assert tag_value("manual__2026-11-23T01:36:43.123+00:00") == "manual__2026-11-23T01:36:43.123+00:00"
    assert tag_value("a'b\n") == "a_b_"


def test_expiry_is_utc() -> None:
    start = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert expiry(start, 3600) == "2026-01-01T00:00:00Z"
    assert expiry(start.astimezone(UTC), 0) == "2025-12-31T23:00:00Z"


#: What AWS allows in a tag's value, without the letters and digits of other alphabets.
TAG_VALUE = re.compile(r"[A-Za-z0-9 .:/=+@_-]{0,256}")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), max_size=10))
def test_texts_survive_in_one_tag(texts: list[str]) -> None:
    value = encode_tag(*texts, otherwise="too=20long")
    assert TAG_VALUE.fullmatch(value)
    assert decode_tag(value) == (texts if value != "too=20long" else ["too long"])


def test_globs_stay_readable_in_a_tag() -> None:
    assert encode_tag("out/*.vtk", "log file", otherwise="") == "out/=2A.vtk log=20file"
    assert encode_tag("x" * 257, otherwise="**") == "**"


def test_an_expiry_is_read_again() -> None:
    moment = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)
    assert parse_expiry(expiry(moment, 0)) == moment
    assert parse_expiry("tomorrow") is None
