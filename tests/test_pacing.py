"""How long to wait before asking again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpc.pacing import pause


@given(st.floats(min_value=0, max_value=1e6), st.floats(min_value=1, max_value=600))
def test_a_pause_keeps_to_its_bounds(elapsed: float, longest: float) -> None:
    assert min(1.0, longest) <= pause(elapsed, longest) <= 1.05 * longest


def test_a_pause_grows_with_the_wait() -> None:
    assert pause(0, 30) < 1.1
    assert 10 <= pause(100, 30) < 11
    assert pause(10_000, 30) >= 30
