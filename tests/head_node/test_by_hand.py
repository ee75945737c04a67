"""The lines for people, typed into a shell as they stand in the log, against a real sshd."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hpc.errors import ConfigurationError
from hpc.head_node.address import HeadNodeAddress
from hpc.head_node.by_hand import KEY, copy_line, log_in_line
from hpc.head_node.shell import quote

from .conftest import Sshd, keygen

#: A folder's name of which the shell here, the one there and tar would each make something else.
HOSTILE = "a b'c\"d $(touch x) `touch y`; *[0-9]?\\n &ö"
ADDRESS = HeadNodeAddress("melt-1", "i-0", "10.0.0.7", ("ssh-rsa AAAAlonger", "ssh-ed25519 AAAA"))


def typed(sshd: Sshd, line: str, where: Path, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Type a line into a shell in a folder, with our own key for the placeholder and nothing of this machine's ssh."""
    assert shlex.quote(KEY) in line
    line = line.replace(shlex.quote(KEY), f"{quote([str(sshd.directory / 'id_user')])} -F none")
    return subprocess.run(
        ["sh", "-c", line], cwd=where, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def test_a_person_logs_in(sshd: Sshd, here: Path) -> None:
    done = typed(sshd, log_in_line(sshd.address, getpass.getuser(), sshd.port), here, stdin="echo in as $(id -u)\n")
    assert f"in as {os.geteuid()}\n" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["melt-0f3a9c1d22", "-rf", HOSTILE])
def test_a_folder_is_copied_with_all_that_is_in_it(sshd: Sshd, here: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / "runs" / name
    (run / ".slurm").mkdir(parents=True)
    (run / ".slurm" / "job.sh").write_text("#!/bin/bash\n")
    (run / "result.h5").write_bytes(b"\0\1")
    os.utime(run / "result.h5", (1e9, 1e9))
    links = {"latest": ".slurm", "outside": "/etc", "dangling": "nowhere"}
    for link, target in links.items():
        (run / link).symlink_to(target)
    done = typed(sshd, copy_line(sshd.address, getpass.getuser(), sshd.port, f"{run}/"), here)
    assert (done.returncode, done.stderr) == (0, "")
    copy = here / name
    assert sorted(file.name for file in here.iterdir()) == sorted(["alone.known_hosts", name])
    assert sorted(file.name for file in copy.iterdir()) == sorted([".slurm", "result.h5", *links])
    assert (copy / ".slurm" / "job.sh").read_text() == "#!/bin/bash\n"
    assert (copy / "result.h5").read_bytes() == b"\0\1"
    assert (copy / "result.h5").stat().st_mtime == 1e9
    assert {link: str((copy / link).readlink()) for link in links} == links


def test_what_cannot_be_copied_is_said_to_the_person(sshd: Sshd, here: Path, tmp_path: Path) -> None:
    done = typed(sshd, copy_line(sshd.address, getpass.getuser(), sshd.port, f"{tmp_path}/nothing"), here)
    assert [file.name for file in here.iterdir()] == ["alone.known_hosts"]
    assert "./nothing: Cannot stat: No such file or directory" in done.stderr


def test_whoever_has_another_host_key_is_sent_nothing(sshd: Sshd, here: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    told = replace(sshd.address, host_keys=(keygen(tmp_path / "another"),))
    done = typed(sshd, copy_line(told, getpass.getuser(), sshd.port, str(tmp_path / "run")), here)
    assert done.returncode != 0
    assert "Host key verification failed" in done.stderr
    assert [file.name for file in here.iterdir()] == ["alone.known_hosts"]


def test_one_short_key_is_enough_and_a_connection_may_name_no_user() -> None:
    line = copy_line(ADDRESS, "", 22, "/fsx/runs/melt-1")
    assert line.startswith("echo 'melt-1 ssh-ed25519 AAAA' >melt-1.known_hosts && ssh ")
    assert line.endswith(" 10.0.0.7 'tar -C /fsx/runs --no-unquote -cf - ./melt-1' | tar -xf -")


def test_a_nul_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="NUL"):
        copy_line(ADDRESS, "ubuntu", 22, "/fsx/\0")
