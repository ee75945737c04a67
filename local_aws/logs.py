"""The cluster's log group: what the head node's CloudWatch agent sends there on AWS."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from moto.logs.models import logs_backends


class LogShipper:
    """Sends new lines of the head node's logs to `group`, as streams `<host name>.<instance id>.<log>`."""

    def __init__(self, account: str, region: str, group: str, prefix: str) -> None:
        self._backend = logs_backends[account][region]
        self._group = group
        self._prefix = prefix
        self._read: dict[Path, int] = {}

    def ship(self, name: str, path: Path) -> None:
        """Send what was appended to the file `path` since the last call to the stream of log `name`."""
        if not path.exists():
            return
        with path.open("rb") as log:
            log.seek(self._read.get(path, 0))
            fresh = log.read()
        complete = fresh[: fresh.rfind(b"\n") + 1]
        self._read[path] = self._read.get(path, 0) + len(complete)
        self.write(name, complete.decode(errors="replace").splitlines())

    def write(self, name: str, lines: list[str]) -> None:
        """Send `lines` to the stream of log `name`, with the time of now."""
        if not lines or self._group not in self._backend.groups:
            return
        stream = f"{self._prefix}.{name}"
        group: Any = self._backend.groups[self._group]
        if stream not in group.streams:
            self._backend.create_log_stream(self._group, stream)
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines if line.strip()]
        self._backend.put_log_events(self._group, stream, events)
