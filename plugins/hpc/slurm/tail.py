"""New lines of a growing log as people can read them, bounded, whatever its size and content."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

#: Characters of a line without end that are kept.
MAX_UNFINISHED = 32 * 1024
#: Lines of one answer that are shown.
MAX_LINES = 200
#: Characters of a line that are shown.
MAX_COLUMNS = 400
#: Lines that are kept for the message of a failure.
KEPT = 20


class LogTail:
    """Makes lines of the pieces of a log, as `hpc.slurm.watch.Tail` brings them."""

    def __init__(self) -> None:
        self.last_lines: deque[str] = deque(maxlen=KEPT)
        self._unfinished = ""

    def read(self, skipped: int, text: str) -> Iterator[str]:
        """Yield the lines to show of new text, after `skipped` bytes that were left out; -1 for a log begun anew."""
        if skipped:
            self._unfinished = ""
        if skipped > 0:
            yield f"… {skipped:,} bytes left out …"
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        self._unfinished = self._unfinished[-MAX_UNFINISHED:]
        yield from self._shown(lines)

    def rest(self) -> Iterator[str]:
        """Return the last line of a log that does not end with a line end."""
        if self._unfinished:
            yield from self._shown([self._unfinished])
        self._unfinished = ""

    def _shown(self, lines: list[str]) -> Iterator[str]:
        if len(lines) > MAX_LINES:
            yield f"… {len(lines) - MAX_LINES:,} lines left out …"
        for line in lines[-MAX_LINES:]:
            seen = line.rstrip("\r").rpartition("\r")[2].expandtabs()  # of a progress bar, its last state
            printable = "".join(character if character.isprintable() else "�" for character in seen)
            self.last_lines.append(printable[:MAX_COLUMNS])
            yield printable[:MAX_COLUMNS]
