"""What is read of processes."""

from __future__ import annotations

import os

from benchmarks import proc

LINE = "4711 (sshd: (x) y) S 99 4711 4711 0 -1 4194560 1 2 3 4 150 50 700 300 20 0 1 0 5537"
ROLLUP = "55d0-7ffd ---p 00000000 00:00 0   [rollup]\nRss:    1234 kB\nPss:     567 kB\nPss_Anon:  400 kB\n"


def test_cpu_seconds_are_its_own_and_those_of_its_ended_children() -> None:
    process = proc.parse_stat(LINE)
    assert (process.pid, process.name, process.parent) == (4711, "sshd: (x) y", 99)
    assert (process.cpu * proc.TICKS, process.reaped * proc.TICKS) == (200, 1000)


def test_shared_memory_counts_in_parts() -> None:
    assert (proc.parse_memory(ROLLUP, "Pss"), proc.parse_memory(ROLLUP, "Rss")) == (567, 1234)
    assert proc.parse_memory("", "Pss") == 0
    assert proc.memory(os.getpid(), "Rss") >= proc.memory(os.getpid(), "Pss") > 1000


def test_a_tree_has_the_roots_and_all_below_and_no_other() -> None:
    parents = {1: 0, 2: 1, 3: 2, 4: 1, 5: 4}
    processes = {pid: proc.Process(pid, "p", parent, 0, 0) for pid, parent in parents.items()}
    assert {process.pid for process in proc.tree(processes, [2, 4, 99])} == {2, 3, 4, 5}


def test_this_process_is_below_its_parent() -> None:
    assert os.getpid() in {process.pid for process in proc.tree(proc.all_processes(), [os.getppid()])}
