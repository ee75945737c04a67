"""Command lines for the head node's shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from hpc.errors import ConfigurationError


def quote(argv: Sequence[str]) -> str:
    """Return a command line that a POSIX shell splits back into exactly `argv`.

    Raises ConfigurationError for a NUL, which no argument of a Unix program can carry.
    """
    for argument in argv:
        if "\0" in argument:
            raise ConfigurationError(
                f"{argument!r} contains a NUL character, which cannot be passed to a program",
                remedy="remove it from the parameter, path or name",
            )
    return shlex.join(argv)
