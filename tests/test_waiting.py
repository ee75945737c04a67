"""How long a wait may be: its own limit, or the moment at which the whole run has to end."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from hpc.errors import ConfigurationError
from hpc.names import expiry
from hpc.waiting import end_of_wait


def in_seconds(seconds: float) -> str:
    return expiry(datetime.now(UTC) + timedelta(seconds=seconds), 0)


def test_a_wait_ends_by_itself_or_at_the_moment_whichever_is_first() -> None:
    now = time.time()
    assert end_of_wait(30, 4, started=now) == now + 120
    assert end_of_wait(30, 4, in_seconds(600), now) == now + 120
    assert end_of_wait(30, 4, in_seconds(60), now) == pytest.approx(now + 60, abs=1.5)
    assert end_of_wait(30, 4, in_seconds(-60), now) < now


def test_a_moment_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"until = 'tomorrow': is no moment.*(.|\n)*2026-12-31T23:59:59Z"):
        end_of_wait(30, 4, "tomorrow")
