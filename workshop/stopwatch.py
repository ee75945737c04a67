"""The seconds of each part of a command, printed as they pass: they have to be looked at to become fewer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Measures named parts; `seconds` has them in their order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measure what happens inside, also when it fails."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - begin, 1)
            print(f"  {name:<24}{self.seconds[name]:6.1f} s", flush=True)

    def elapsed(self) -> float:
        """Return the seconds since this stopwatch was made."""
        return round(time.monotonic() - self._began, 1)
