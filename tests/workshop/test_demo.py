import fcntl
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from workshop import ROOT, demo


def test_a_second_demo_in_the_same_checkout_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match="A demo is running in"), demo.only_one(tmp_path):
            pass

    with demo.only_one(tmp_path):
        pass


def test_the_lock_of_a_killed_demo_is_forgotten(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from workshop import demo\n"
        f"with demo.only_one(Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL

    with demo.only_one(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_once(number: signal.Signals) -> None:
    code = (
        "import os, signal, sys; from workshop import demo\n"
        f"signal.signal({number}, demo.interrupt)\n"
        "try:\n"
        f"    os.kill(os.getpid(), {number})\n"
        "except KeyboardInterrupt:\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    print('stopped')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "stopped\n")
