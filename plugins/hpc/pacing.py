"""How long to wait before asking again: soon at first, rarely later, so that a wait costs at most a tenth on top."""

from __future__ import annotations

import random


def pause(elapsed: float, longest: float) -> float:
    """Return the seconds to wait before the next question, `elapsed` seconds into a wait.

    A tenth of the time waited so far, at least 1 s and at most `longest`, with 5 % of jitter to either side, so that
    many waits do not fall into step.
    """
    return min(longest, max(1.0, elapsed / 10)) * random.uniform(0.95, 1.05)
