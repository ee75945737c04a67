"""Runs on the head node: kills sessions of sshd, or our program in them, by the ports of the client's connections.

`python3 - SESSIONS SSH_PORT PORT...` prints how many processes it killed. SESSIONS is `sessions`, or a number: then the
program is killed that many seconds after it was seen first, which is waited for a while.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds in which a waiting triggerer asks again.
LONGEST = 2.5


def main(target: str, ssh_port: int, ports: set[int]) -> None:
    """Kill, and tell how many."""
    victims = sessions = set(owners(sockets_of(ssh_port, ports)))
    if target != "sessions":
        victims = wait_for_programs(sessions)
        time.sleep(float(target) if victims else 0)
        victims |= set(programs_below(sessions))
    killed = 0
    for pid in victims:
        try:
            os.kill(pid, signal.SIGKILL)
            killed += 1
        except ProcessLookupError:
            continue
    print(killed)


def sockets_of(ssh_port: int, ports: set[int]) -> set[str]:
    """Return the inodes of the server's ends of the connections (proc(5), net/tcp)."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(field.split(":")[1], 16) for field in fields[1:3])
        if local == ssh_port and remote in ports:
            inodes.add(fields[9])
    return inodes


def owners(inodes: set[str]) -> Iterator[int]:
    """Yield the processes that hold a socket."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            found = re.match(r"socket:\[(\d+)\]", str(link.readlink()))
        except OSError:
            continue
        if found and found.group(1) in inodes:
            yield int(link.parts[2])


def wait_for_programs(sessions: set[int]) -> set[int]:
    """Return the programs in the sessions as soon as there are any."""
    deadline = time.monotonic() + LONGEST
    victims: set[int] = set()
    while not victims and sessions and time.monotonic() < deadline:
        victims = set(programs_below(sessions))
    return victims


def programs_below(pids: set[int]) -> Iterator[int]:
    """Yield our own programs that run in these sessions."""
    parents: dict[int, int] = {}
    ours = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            if b"on_head_node" in (folder / "cmdline").read_bytes():
                ours.add(int(folder.name))
        except OSError:
            continue
    for pid in ours:
        above = pid
        while above > 1 and above not in pids:
            above = parents.get(above, 0)
        if above in pids:
            yield pid


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), {int(port) for port in sys.argv[3:]})
