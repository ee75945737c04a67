"""How long to wait before asking again: soon at first, rarely later, so that a wait costs at most a tenth on top."""

from __future__ import annotations

import random


def pause(elapsed: float, longest: float) -> float:
    """Return the seconds to wait before the next question, `elapsed` seconds into a wait.

    A tenth of the time waited so far, at least 1 s and at most `longest`, and up to 5 % more: many waits do not fall
    into step, and a long one never asks twice in `longest` seconds.
    """
    return min(longest, max(1.0, elapsed / 10)) * random.uniform(1.0, 1.05)
