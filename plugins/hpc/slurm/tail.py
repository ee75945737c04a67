"""New lines of a growing log, bounded, whatever its size and content."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from hpc.head_node.shell import quote

#: Bytes that are read at once; what grew beyond is skipped, and said to be.
MAX_BYTES = 32 * 1024
#: Lines of one answer that are shown.
MAX_LINES = 200
#: Characters of a line that are shown.
MAX_COLUMNS = 400
#: Lines that are kept for the message of a failure.
KEPT = 20

_SCRIPT = (
    "size=$(stat -c %s -- {log}) || exit 0; from={offset}; limit={limit}; "
    '[ "$from" -ge 0 ] && [ "$from" -le "$size" ] || from=0; '
    'first=$from; [ $((size - from)) -gt "$limit" ] && first=$((size - limit)); '
    'echo "{offset} $from $first $size"; tail -c +$((first + 1)) -- {log} | head -c $((size - first))'
)


class LogTail:
    """Reads a log on the head node from where it stopped reading."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.offset = 0
        self.last_lines: deque[str] = deque(maxlen=KEPT)
        self._unfinished = ""

    def command(self) -> str:
        """Build the command that prints where it reads and what is new there; nothing while there is no log."""
        return _SCRIPT.format(log=quote([self.log]), offset=self.offset, limit=MAX_BYTES)

    def read(self, answer: str) -> Iterator[str]:
        """Take an answer to `command` and return the new whole lines; an answer to an older command is left out."""
        head, _, text = answer.partition("\n")
        numbers = [int(number) for number in head.split()] if head else []
        if len(numbers) != 4 or numbers[0] != self.offset:
            return
        _, begin, first, self.offset = numbers
        if first > begin:
            self._unfinished = ""
            yield f"… {first - begin:,} bytes left out …"
        *lines, self._unfinished = (self._unfinished + text).split("\n")
        self._unfinished = self._unfinished[-MAX_BYTES:]
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
